"""Compiled loops of the engine.

Read from :mod:`.run`, a whole decision, down to :mod:`.synapses` and :mod:`.windows`, what
connections deliver, :mod:`.neurons`, and :mod:`.vectors`, the vector operations below all of them.
"""

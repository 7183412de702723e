"""Backends that answer frames: each takes a chip network and gives values, activity and traces.

Read :mod:`.reference` first; ONNX Runtime, Lava and netx must equal it.
"""

"""How well a network does: float network and chip side by side.

`rows` holds results; `bundle` plays the games and images of a deployed agent, `checkpoint` those
of an agent's float network alone, `images` scores image sets. `data` compares any network's
classes with labels.
"""

"""The price card that stands for all where a user names none.

The command line shows it in its help, so that this module imports nothing.
"""

DEFAULT_CARD = "loihi2_pilotnet"

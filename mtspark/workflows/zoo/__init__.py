"""Agents that others can use: cards, what a decision costs, and folders of agents anywhere.

Read `card` first: what is said of an agent, taken from its file. `place` reads and writes folders
of agents at addresses of fsspec, `listing` lists them, and `exchange` pushes and pulls one; what a
decision costs is counted by `measure`. `average` makes one agent of several.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

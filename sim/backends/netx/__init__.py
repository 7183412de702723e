"""lava-dl's netx as a backend, in a process of its own.

:mod:`.backend` is this side, :mod:`.worker` runs inside the environment of lava-dl.
"""

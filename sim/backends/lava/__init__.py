"""Lava as a backend, in processes of its own.

:mod:`.backend` is this side, :mod:`.guard` ends and cleans up after Lava, :mod:`.worker` runs the
network inside.
"""

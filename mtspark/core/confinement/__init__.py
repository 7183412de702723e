"""Confinement of a process that reads a hostile file: limits, and rules that the kernel keeps.

Read `process.py` first. Every step gives up a right for good, and the steps that a kernel lacks are
left out and named. Only the standard library is imported, so that `mtspark doctor` can ask.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Steps that several commands take with a bundle: score it on data, and write a page about it.

A function here runs a workflow with a progress bar and prints its result.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

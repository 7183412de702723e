"""Lava: installing it, loading it, and building a chip network out of its processes.

Read :mod:`~mtspark.deploy.lava.shim` first: nothing may import Lava before ``load_lava`` has
returned. ``build`` connects the processes of a network (ours are in ``processes``), ``install``
puts lava-nc into this environment, and ``netx_environment`` puts lava-dl into one of its own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

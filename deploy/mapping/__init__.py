"""Mapping: which neuron lies on which core of a chip, and which limits that breaks.

Read :mod:`~mtspark.deploy.mapping.mapper` first. It divides populations over cores (``divide``, by
the memory and axons that ``synapses`` counts) and places the cores on the mesh (``place``).
``limits``, ``task_switch`` and ``serialise`` work on the finished mapping.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

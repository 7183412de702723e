"""Mapping: which neuron lies on which core of a chip, and which limits that breaks.

Read :mod:`~mtspark.deploy.mapping.mapper` first. It divides populations over cores (``divide``, by
the memory and axons that ``synapses`` counts) and places the cores on the mesh (``place``).
``limits``, ``task_switch``, ``tasks`` (cores of each task, where tasks have neurons of their own)
and ``serialise`` work on the finished mapping.

More than a dozen names stand on this face because the report shows every view of a mapping.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

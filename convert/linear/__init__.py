"""Linear maps between flattened signals: the one algebra of the NIR importer and the tracer.

Read maps.py first (scale, select, convolution, matrix), then compose.py (one map after another,
the sum of two), fuse.py (when two convolutions are one) and materialise.py (matrices, their
limit, connections of a float network).

More than a dozen names stand on this face because both front ends build every kind of map.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

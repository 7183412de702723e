"""Quantisation: a float network becomes integers whose sums provably fit the chip.

Read :mod:`~mtspark.deploy.quantise.network` (the whole network) first, then ``layer`` (one
population and its connections), ``rounding`` and ``bounds`` (the proof). ``options`` holds the
settings and their record in a bundle, ``calibrate`` chooses weight limits on recorded inputs,
``codebook`` reduces thresholds to a palette, and ``fidelity`` measures what all of that changed.

More than a dozen names stand on this face because each step of an export shows what it did:
bounds, calibration, palette, fidelity.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

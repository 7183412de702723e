"""Descriptions of chips and the limits that hold for any mapping.

Read :mod:`~mtspark.deploy.chips.model` first: it loads the descriptions ``*.toml`` beside it, each
figure with its source. ``rules`` lists the limits of a chip that a network breaks whatever its
mapping.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""mtspark: what a multi-task spiking agent would be on a neuromorphic chip."""

from mtspark.core.version import __version__ as __version__

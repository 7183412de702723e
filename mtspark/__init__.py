"""mtspark: what a multi-task spiking agent would be on a neuromorphic chip."""

__version__ = "0.1.0"

"""The version of mtspark: here, so that every module may read it without importing the package."""

__version__ = "0.1.0"

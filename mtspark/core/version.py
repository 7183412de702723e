"""The version of mtspark: here, so that every module may read it without importing the package."""

__version__ = "0.1.0"


def is_version(found: object, known: int) -> bool:
    """Whether a file's version is the whole number `known`; true and 1.0 equal 1, and are none."""
    return type(found) is int and found == known

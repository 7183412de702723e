"""Choices of hardware in the loop, by the names that the command line knows; nothing heavy."""

from __future__ import annotations

from enum import Enum

KEY_VARIABLE = "MTSPARK_HIL_KEY"
"""Of the environment: the key of a served chip."""
SILENCE_S = 5.0
"""A chip that says nothing for this time is silent: it is said so, and one that starts is given up
unless its user lets it be silent longer."""


class ChipBackend(str, Enum):
    """What stands for the chip."""

    ENGINE = "engine"
    REFERENCE = "reference"
    LAVA = "lava"
    LAVA_STOCK = "lava-stock"
    LOIHI2 = "loihi2"
    """A Loihi 2 board, through Lava's hardware run configuration."""


class Jitter(str, Enum):
    """How the additional delay of an answer is distributed; none is ever negative."""

    UNIFORM = "uniform"
    """From 0 to the given time."""
    EXPONENTIAL = "exponential"
    """With the given time as mean."""
    NORMAL = "normal"
    """The magnitude of a normal number with the given time as standard deviation."""


class Hold(str, Enum):
    """What the game gets while no new action has come."""

    LAST = "last"
    """The last action, for as long as it takes."""
    NOOP = "noop"
    """Nothing, once the last action was held for a frame skip."""

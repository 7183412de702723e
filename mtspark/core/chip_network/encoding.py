"""How a frame reaches the chip."""

from __future__ import annotations

from enum import Enum


class Encoder(str, Enum):
    """How a frame is sent. Every spike and membrane is the same under all three.

    * EVERY_STEP: every nonzero value in each of the T steps; plain neurons receive it.
    * HELD: every nonzero value once, before the window of a decision opens.
    * CHANGES: only values that changed since the last decision, each with its signed change
      (-255..255), before the window opens.

    Under HELD and CHANGES a neuron keeps the integer sum of weight times value, before the
    exponent's shift and without decay; in each step of its window it shifts the sum and adds it
    to its current, outside of it nothing. Rest clears membrane and current, and under HELD this
    sum; under CHANGES it lasts as long as the game. Such a neuron is a small program of a
    Loihi 2 core.
    """

    EVERY_STEP = "every-step"
    HELD = "held"
    CHANGES = "changes"

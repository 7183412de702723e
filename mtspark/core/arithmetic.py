"""The chip's integer arithmetic: decays that round, currents that wrap, membranes that saturate.

The rules are those of Lava's fixed-point LIF (lava-nc 0.10.0, ``lava/proc/lif/models.py``),
written from their description as equations. All functions work on int64 arrays of any shape.
"""

from __future__ import annotations

import numpy as np

from mtspark.core.arrays import Integers

DECAY_ONE = 4096
"""A decay of 4096 forgets all; decays are 12-bit fractions."""

STATE_SHIFT = 6
"""Synaptic sums and thresholds enter the state shifted left by this many bits."""

CURRENT_LIMIT = 2**23
"""A current beyond this wraps once by 2^24."""

MEMBRANE_LIMIT = 2**23 - 1
"""Membranes saturate at plus or minus this value."""

THRESHOLD_LIMIT = 2**17 - 1
"""Largest threshold mantissa (17 bits)."""

BIAS_LIMIT = 2**12 - 1
"""Largest magnitude of a bias mantissa (13 bits, signed)."""

BIAS_EXPONENTS = range(0, 8)
"""Bias exponents of the chip (3 bits)."""

DELAYS = range(0, 63)
"""Further steps that a connection can delay its messages (Lava's netx allows up to 62)."""

WEIGHT_EXPONENTS = range(-8, 8)
"""Weight exponents of the chip (4 bits, signed)."""


def decay(value: Integers, factor: int | Integers) -> Integers:
    """value * (4096 - factor) / 4096, rounded toward zero; one factor, or one for each value."""
    kept: Integers = np.asarray(DECAY_ONE - factor, dtype=np.int64)
    product = np.abs(value) * kept
    return np.sign(value) * (product >> 12)


def wrap_current(current: Integers) -> Integers:
    """Correct an overflow once, as the chip does: by 2^24, not by a modulo."""
    current = np.where(current > CURRENT_LIMIT, current - 2 * CURRENT_LIMIT, current)
    return np.where(current <= -CURRENT_LIMIT, current + 2 * CURRENT_LIMIT, current)


def saturate_membrane(membrane: Integers) -> Integers:
    """Clip to the membrane's 24-bit range."""
    return np.clip(membrane, -MEMBRANE_LIMIT, MEMBRANE_LIMIT)


def shift(value: Integers, exponent: int) -> Integers:
    """value * 2^exponent, rounded down for negative exponents."""
    return value << exponent if exponent >= 0 else value >> -exponent

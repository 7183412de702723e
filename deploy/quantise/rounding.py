"""Float weights and biases on the integer grids of the chip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtspark.core.arithmetic import BIAS_EXPONENTS, BIAS_LIMIT
from mtspark.core.arrays import Floats, Integers

SMALLEST = 1e-290
"""Smaller weights count as 0: their unit would be 0 in float64."""


def natural_unit(largest: Floats, weight_bits: int) -> Floats:
    """Float value of one chip unit that puts the largest weight on the end of the grid.

    Args:
        largest: largest magnitude of each channel; a channel without weights gets unit 1.
        weight_bits: 2 to 8.
    """
    levels, step = 2 ** (weight_bits - 1) - 1, 2 ** (9 - weight_bits)
    unit: Floats = np.where(largest > SMALLEST, largest, levels * step) / (levels * step)
    return unit


def round_weights(weight: Floats, unit: Floats, weight_bits: int, keep_sums: bool) -> Integers:
    """Integers of the mixed-sign grid: multiples of 2^(9 - bits), -256..254.

    Args:
        weight: (channels, ...).
        unit: of each channel.
        weight_bits: 2 to 8.
        keep_sums: see :func:`round_keeping_sums`; otherwise each weight to the nearest.
    """
    levels, step = 2 ** (weight_bits - 1) - 1, 2 ** (9 - weight_bits)
    exact = weight / (unit.reshape(-1, *[1] * (weight.ndim - 1)) * step)
    integers = round_keeping_sums(exact) if keep_sums else np.rint(exact)
    return np.clip(integers, -levels - 1, levels).astype(np.int64) * step


def round_keeping_sums(values: Floats) -> Floats:
    """Round each value up or down so that every kernel (or dense row) keeps its sum.

    Largest-remainder rounding. What a neuron sees is mostly uniform (a game's background, a
    mean spike rate), so an error in the sum of a kernel shifts every one of its neurons alike,
    while errors that cancel within the kernel hardly matter. A value on the grid stays.
    """
    groups = values.reshape(
        -1, int(np.prod(values.shape[2:])) if values.ndim > 2 else values.shape[1]
    )
    low = np.floor(groups)
    fraction = groups - low
    up = np.rint(fraction.sum(1)).astype(np.int64)
    rank = np.argsort(np.argsort(-fraction, axis=1, kind="stable"), axis=1, kind="stable")
    return (low + (rank < up[:, None])).reshape(values.shape)


def fit_bias(
    bias: Floats, exponents: Sequence[int] = BIAS_EXPONENTS
) -> tuple[Integers, int] | None:
    """Return mantissas and the finest common exponent of biases in membrane units.

    None where the biases are too large.
    """
    for exponent in exponents:
        mantissa = np.rint(bias / 2**exponent)
        if np.abs(mantissa).max() <= BIAS_LIMIT:
            return mantissa.astype(np.int64), exponent
    return None

"""Proof that no sum overflows: worst cases over all inputs, from the weights alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import (
    CURRENT_LIMIT,
    DECAY_ONE,
    MEMBRANE_LIMIT,
    STATE_SHIFT,
    THRESHOLD_LIMIT,
)
from mtspark.core.chip_network import INPUT, ChipNetwork, ConnectionKind, Population

MAX_PAYLOAD = 255
"""Largest 8-bit message."""

SAFE_MEMBRANE = THRESHOLD_LIMIT << STATE_SHIFT
"""A membrane that stays at or below this can never cross the largest threshold."""


@dataclass(frozen=True)
class Headroom:
    """Worst cases of one population, as fractions of what the chip can hold.

    Attributes:
        population: its name.
        current: largest possible |u| over the limit where it would wrap.
        membrane: largest possible |v| over the limit where it would saturate, in all the
            steps between two resets.
    """

    population: str
    current: float
    membrane: float

    @property
    def proven(self) -> bool:
        """Neither sum can overflow, whatever the input."""
        return 0 <= self.current < 1 and 0 <= self.membrane < 1


def headroom(network: ChipNetwork) -> list[Headroom]:
    """Worst cases of every population; for convolutions the interior, which bounds the borders."""
    return [_population_headroom(network, population) for population in network.populations]


def _population_headroom(network: ChipNetwork, population: Population) -> Headroom:
    arriving = np.zeros(population.shape)
    for link in network.connections:
        if link.target != population.name:
            continue
        graded = link.source == INPUT and network.input.payload_bits
        total = worst_sum(link.weights, MAX_PAYLOAD if graded else 1)
        # A shift to the right rounds down, by less than one.
        worst = total * 2.0**link.exponent + (1 if link.exponent < 0 else 0)
        if link.kind is ConnectionKind.CONV:
            arriving += worst.reshape(-1, 1, 1)
        else:
            arriving += worst.reshape(population.shape)
    added = arriving * 2**STATE_SHIFT
    bias = np.abs(population.bias_mantissa) * 2.0**population.bias_exponent
    keep_current = 1 - (population.current_decay + 1) / DECAY_ONE
    keep_membrane = 1 - population.membrane_decay / DECAY_ONE
    current, membrane = np.zeros(population.shape), np.zeros(population.shape)
    for _ in range(network.steps_per_decision):
        current = keep_current * current + added
        membrane = keep_membrane * membrane + current + bias
    return Headroom(
        population.name,
        float(current.max() / CURRENT_LIMIT),
        float(membrane.max() / min(MEMBRANE_LIMIT, SAFE_MEMBRANE)),
    )


def worst_sum(weights: NDArray[np.int64], largest_message: int) -> NDArray[np.int64]:
    """Largest |sum of weights times messages| of each output row, messages 0..largest."""
    rows = weights.reshape(len(weights), -1)
    positive = np.where(rows > 0, rows, 0).sum(1)
    negative = -np.where(rows < 0, rows, 0).sum(1)
    return np.maximum(positive, negative) * largest_message

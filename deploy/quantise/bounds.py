"""Proof that no sum overflows: worst cases over all inputs, from the weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import (
    CURRENT_LIMIT,
    DECAY_ONE,
    MEMBRANE_LIMIT,
    STATE_SHIFT,
    THRESHOLD_LIMIT,
)
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    Population,
    Reset,
)

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

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each."""
        return asdict(self)

    @property
    def current_proven(self) -> bool:
        """No current can wrap, whatever the input."""
        return 0 <= self.current < 1

    @property
    def proven(self) -> bool:
        """Neither sum can overflow, whatever the input."""
        return self.current_proven and 0 <= self.membrane < 1


def headroom(network: ChipNetwork) -> list[Headroom]:
    """Worst cases of every population; for convolutions the interior, which bounds the borders."""
    graded = bool(network.input.payload_bits)
    return [
        population_headroom(
            population,
            [link for link in network.connections if link.target == population.name],
            graded,
            network.steps_per_decision,
        )
        for population in network.populations
    ]


def population_headroom(
    population: Population, incoming: Sequence[Connection], graded: bool, steps: int
) -> Headroom:
    """Worst cases of one population.

    Args:
        population: the neurons.
        incoming: all connections that end there.
        graded: the input sends 8-bit messages.
        steps: between two resets of the state.
    """
    rising, falling = np.zeros(population.shape), np.zeros(population.shape)
    for link in incoming:
        message = MAX_PAYLOAD if link.source == INPUT and graded else 1
        per_row = (-1, 1, 1) if link.kind is ConnectionKind.CONV else population.shape
        # A shift to the right rounds down, by less than one.
        slack = 1 if link.exponent < 0 else 0
        above, below = signed_sums(link.weights, message)
        rising = rising + (above * 2.0**link.exponent + slack).reshape(per_row)
        falling = falling + (below * 2.0**link.exponent + slack).reshape(per_row)
    added = np.maximum(rising, falling) * 2**STATE_SHIFT
    bias = np.abs(population.bias_mantissa) * 2.0**population.bias_exponent
    keep_current = 1 - (np.asarray(population.current_decay) + 1) / DECAY_ONE
    keep_membrane = 1 - np.asarray(population.membrane_decay) / DECAY_ONE
    current, membrane = np.zeros(population.shape), np.zeros(population.shape)
    for _ in range(steps):
        current = keep_current * current + added
        membrane = keep_membrane * membrane + current + bias
    if population.reset is Reset.SUBTRACT_LATE:
        # A spike takes the threshold from a membrane that has meanwhile decayed below it.
        membrane = membrane + (population.thresholds.max(0) << STATE_SHIFT)
    return Headroom(
        population.name,
        float(current.max() / CURRENT_LIMIT),
        float(membrane.max() / min(MEMBRANE_LIMIT, SAFE_MEMBRANE)),
    )


def worst_sum(weights: NDArray[np.int64], largest_message: int) -> NDArray[np.int64]:
    """Largest |sum of weights times messages| of each output row, messages 0..largest."""
    return np.maximum(*signed_sums(weights, largest_message))


def signed_sums(
    weights: NDArray[np.int64], largest_message: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Largest sum, and largest negative sum as a magnitude, of each output row."""
    rows = weights.reshape(len(weights), -1)
    positive = np.where(rows > 0, rows, 0).sum(1)
    negative = -np.where(rows < 0, rows, 0).sum(1)
    return positive * largest_message, negative * largest_message

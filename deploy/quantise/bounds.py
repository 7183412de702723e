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
    FrameInput,
    Population,
    Reset,
)

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
    return [
        population_headroom(
            population,
            [link for link in network.connections if link.target == population.name],
            network.input,
            None if network.stateful else network.steps_per_decision,
        )
        for population in network.populations
    ]


def population_headroom(
    population: Population,
    incoming: Sequence[Connection],
    given: FrameInput,
    steps: int | None,
) -> Headroom:
    """Worst cases of one population.

    Args:
        population: the neurons.
        incoming: all connections that end there.
        given: the input.
        steps: between two resets of the state; None where none comes. What an addition grows to
            is then its fixed point, addition / (1 - keep), without end where all is kept.
    """
    rising, falling = np.zeros(population.shape), np.zeros(population.shape)
    for link in incoming:
        per_row = (-1, 1, 1) if link.kind.convolves else population.shape
        # A shift to the right rounds down, by less than one.
        slack = 1 if link.exponent < 0 else 0
        above, below = sums_of_connection(link, given)
        rising = rising + (above * 2.0**link.exponent + slack).reshape(per_row)
        falling = falling + (below * 2.0**link.exponent + slack).reshape(per_row)
    added = np.maximum(rising, falling) * 2**STATE_SHIFT
    bias = np.abs(population.bias_mantissa) * 2.0**population.bias_exponent
    keep_current = 1 - (np.asarray(population.current_decay) + 1) / DECAY_ONE
    keep_membrane = 1 - np.asarray(population.membrane_decay) / DECAY_ONE
    current, membrane = np.zeros(population.shape), np.zeros(population.shape)
    if steps is None:
        current = added / (1 - keep_current)
        with np.errstate(divide="ignore", invalid="ignore"):
            membrane = np.where(current + bias > 0, (current + bias) / (1 - keep_membrane), 0.0)
    for _ in range(steps or 0):
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


def sums_of_connection(
    link: Connection, given: FrameInput
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As :func:`signed_sums`, over all messages that a connection's source can send.

    Args:
        link: the connection.
        given: the input of its network.
    """
    if link.source != INPUT:
        return signed_sums(link.weights, 1)
    above, below = signed_sums(link.weights, given.largest_message)
    return (above + below, above + below) if given.signed else (above, below)


def worst_sum(link: Connection, given: FrameInput) -> NDArray[np.int64]:
    """Largest |sum of weights times messages| of each output row of a connection."""
    return np.maximum(*sums_of_connection(link, given))


def signed_sums(
    weights: NDArray[np.int64], largest_message: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Largest sum, and largest negative sum as a magnitude, of each output row."""
    rows = weights.reshape(len(weights), -1)
    positive = np.where(rows > 0, rows, 0).sum(1)
    negative = -np.where(rows < 0, rows, 0).sum(1)
    return positive * largest_message, negative * largest_message

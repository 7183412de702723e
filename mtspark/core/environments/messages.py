"""Observations as messages of the chip, and the statistics that numbers are sent relative to.

A number x of a box is sent as round(32 (x - mean) / deviation), cut off at -127 and 127, which is
just below four deviations. No offset has to be folded into a network: a bias of the chip has 12
bits and could not hold one in general.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Floats
from mtspark.core.environments.environment import SPREAD, Observation

MESSAGES_PER_DEVIATION = 32
SMALLEST_CHANGE = 1e-9
"""A smaller deviation, of a number's mean, is rounding in the sums of the statistics."""
LARGEST_MESSAGE = 127
"""A message at this end of the range stands for a value there or beyond it."""


def as_messages(values: Floats, observation: Observation) -> NDArray[Any]:
    """Return frames of messages, (copies, *shape): int8 of a box, otherwise uint8 spikes.

    Args:
        values: (copies, size) numbers; flags are 0 or 1.
        observation: with the statistics of a box.
    """
    if observation.graded:
        mean, deviation = np.array(observation.mean), np.array(observation.deviation)
        with np.errstate(over="ignore"):  # of what is cut off next
            scaled = np.rint((values - mean) / deviation * MESSAGES_PER_DEVIATION)
        sent = np.clip(scaled, -LARGEST_MESSAGE, LARGEST_MESSAGE).astype(np.int8)
    else:
        sent = (values != 0).astype(np.uint8)
    if observation.frame:
        frames = np.zeros((len(sent), observation.frame), sent.dtype)
        frames[:, observation.start : observation.start + observation.size] = sent
        sent = frames
    return sent.reshape(-1, *observation.shape)


class RunningStatistics:
    """Mean and deviation of every number that was seen (Chan et al. 1983, pairwise updates)."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self._mean, self._squares = np.zeros(size), np.zeros(size)

    @classmethod
    def of(cls, observation: Observation, count: int) -> RunningStatistics:
        """Statistics that an observation has, as if of so many rows."""
        known = cls(observation.size)
        known.count, known._mean = count, np.array(observation.mean)
        known._squares = np.array(observation.deviation) ** 2 * count
        return known

    def add(self, values: Floats) -> None:
        """Count rows of values, (rows, size)."""
        rows = len(values)
        if not rows:
            return
        # What overflows is no number that an agent may have, and refused where it gets them.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values.mean(0)
            apart, total = mean - self._mean, self.count + rows
            self._squares += ((values - mean) ** 2).sum(0) + apart**2 * (self.count * rows / total)
            self._mean += apart * (rows / total)
        self.count = total

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each number."""
        return tuple(self._mean.tolist())

    @property
    def deviation(self) -> tuple[float, ...]:
        """Of each number; 1 where it hardly changes."""
        spread = np.sqrt(self._squares / max(self.count, 1))
        return tuple(np.where(spread < SPREAD, 1.0, spread).tolist())

    @property
    def unseen(self) -> tuple[int, ...]:
        """Places of numbers that do change, and are sent as constants nevertheless.

        What the sums round off, of a number that is the same in every row, is no change.
        """
        spread = np.sqrt(self._squares / max(self.count, 1))
        changes = spread > SMALLEST_CHANGE * np.abs(self._mean)
        return tuple(np.flatnonzero(changes & (spread < SPREAD)).tolist())

    def state(self) -> dict[str, Any]:
        """Plain values that :meth:`restore` takes."""
        return {
            "count": self.count,
            "mean": self._mean.tolist(),
            "squares": self._squares.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: of another size.
        """
        mean, squares = (np.array(state[name], np.float64) for name in ("mean", "squares"))
        if not mean.shape == squares.shape == self._mean.shape:
            raise ValueError(f"statistics of {mean.size} numbers, {self._mean.size} are seen")
        self.count, self._mean, self._squares = int(state["count"]), mean, squares

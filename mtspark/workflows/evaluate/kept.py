"""Some inputs of an evaluation, which its bundle keeps for a page to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers

MOST_KEPT, MOST_BYTES = 100, 2**24
"""Inputs that are kept, and their bytes before they are compressed."""


@dataclass(frozen=True)
class KeptInputs:
    """Some inputs of an evaluation.

    Attributes:
        frames: messages, (count, *input shape), or (count, T, *input shape) of series.
        labels: class of each.
    """

    frames: NDArray[Any]
    labels: Integers


class Keeper:
    """Keeps inputs that are spread evenly over all: data are often in order of their classes.

    Args:
        total: how many inputs come; None where nobody knows: the first ones are kept.
    """

    def __init__(self, total: int | None) -> None:
        self._every = max((total or 0) // MOST_KEPT, 1)
        self._seen = self._bytes = 0
        self._frames: list[NDArray[Any]] = []
        self._labels: list[int] = []

    def add(self, frames: NDArray[Any], labels: Integers) -> None:
        """Look at a batch."""
        for frame, label in zip(frames, labels.tolist(), strict=True):
            chosen = self._seen % self._every == 0 and len(self._frames) < MOST_KEPT
            self._seen += 1
            if chosen and self._bytes + frame.nbytes <= MOST_BYTES:
                self._frames.append(frame.copy())
                self._labels.append(label)
                self._bytes += frame.nbytes

    def result(self) -> KeptInputs | None:
        """What was kept; None where one input is larger than all that may be."""
        if not self._frames:
            return None
        return KeptInputs(np.stack(self._frames), np.array(self._labels, np.int64))

"""What a chip was told by one host: the frame that its sum stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import FrameInput
from mtspark.core.errors import BadRequestError
from mtspark.sim.hil.cell import Cell
from mtspark.sim.hil.protocol import CHANGE_TYPE, LARGEST_CHANGE, PLACE_TYPE, Change, Question

PLACE_BYTES, CHANGE_BYTES = np.dtype(PLACE_TYPE).itemsize, np.dtype(CHANGE_TYPE).itemsize


@dataclass
class Told:
    """The values that the messages of one host add up to, in one game.

    A sum of weight times value is linear in the values, so they stand for all sums behind them.
    They are a frame unless messages were lost on the way.

    Attributes:
        episode, decision: of the last question; -1 before the first.
        cell: the chip that remembers the host's game; None where nothing is remembered.
    """

    episode: int = -1
    decision: int = -1
    cell: Cell | None = field(default=None, repr=False, compare=False)
    _values: Integers = field(default_factory=lambda: np.zeros(0, np.int64), init=False)

    def hear(self, question: Question, entry: FrameInput) -> bool:
        """Take a whole frame, or changes, whose places are checked.

        Args:
            question: that fits, see :func:`check_question`.
            entry: input of the network.

        Returns:
            False where the changes count from another frame; nothing was taken then.
        """
        if isinstance(question, Change):
            if (self.episode, self.decision) != (question.episode, question.since):
                return False
            places = np.frombuffer(question.places, PLACE_TYPE)
            self._values[places] += np.frombuffer(question.changes, CHANGE_TYPE)
        else:
            self._values = np.frombuffer(question.frame, entry.dtype).astype(np.int64)
        self.episode, self.decision = question.episode, question.decision
        return True

    def close(self) -> None:
        """Release the chip that is kept for the host, which is gone; safe to call twice."""
        cell, self.cell = self.cell, None
        if cell is not None:
            cell.close()

    def frame(self, entry: FrameInput) -> NDArray[Any] | None:
        """Return the values as a batch of one frame; None where they are none."""
        frame = self._values.astype(entry.dtype)
        return frame.reshape(1, *entry.shape) if (frame == self._values).all() else None

    def values(self, shape: tuple[int, ...]) -> Integers:
        """Return the values, whatever they are, as a batch of one."""
        return self._values.reshape(1, *shape)


def check_question(question: Question, shape: tuple[int, ...]) -> None:
    """Refuse a frame, or changes, that do not fit a network's input.

    Raises:
        BadRequestError: what is wrong, in one line.
    """
    size = int(np.prod(shape))
    if not isinstance(question, Change):
        if len(question.frame) != size:
            raise BadRequestError(
                f"a frame of {len(question.frame)} bytes; this network takes {shape}, {size} bytes"
            )
        return
    count, rest = divmod(len(question.places), PLACE_BYTES)
    if rest or len(question.changes) != count * CHANGE_BYTES:
        raise BadRequestError(
            f"changes of {len(question.changes)} bytes for places of {len(question.places)}; "
            f"{CHANGE_BYTES} and {PLACE_BYTES} a message are needed"
        )
    places = np.frombuffer(question.places, PLACE_TYPE).astype(np.int64)
    if count and (int(places[-1]) >= size or (np.diff(places) <= 0).any()):
        raise BadRequestError(f"places of changes that do not ascend from 0 to {size - 1}")
    changes = np.frombuffer(question.changes, CHANGE_TYPE).astype(np.int64)
    if ((changes == 0) | (np.abs(changes) > LARGEST_CHANGE)).any():
        raise BadRequestError(
            f"a change that is 0 or beyond {LARGEST_CHANGE}; -{LARGEST_CHANGE} to "
            f"{LARGEST_CHANGE} can be sent"
        )

"""What SAC has seen: whole transitions of numbers in a ring, drawn uniformly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtspark.core.errors import BadRequestError
from mtspark.train.rl.replay import count_of, read_json, read_npy, write_stored

FIELDS = ("seen", "next_seen", "action", "reward", "terminal")


@dataclass(frozen=True)
class Transitions:
    """A sampled batch, float32.

    Attributes:
        seen, next_seen: (batch, numbers) what was seen before and after, and the task.
        action: (batch, numbers of a decision) from -1 to 1.
        reward, terminal: (batch, 1).
    """

    seen: Tensor
    next_seen: Tensor
    action: Tensor
    reward: Tensor
    terminal: Tensor


class Memory:
    """The last transitions of all tasks.

    Numbers are kept as the environments show them, not as messages: messages are relative to
    statistics that change while an agent learns.

    Args:
        places: transitions that are kept.
        numbers: of an observation.
        actions: numbers of a decision.
        generator: draws.

    Raises:
        BadRequestError: there is no memory for them.
    """

    def __init__(
        self, places: int, numbers: int, actions: int, generator: np.random.Generator
    ) -> None:
        self._added, self._places, self.generator = 0, places, generator
        widths = {"seen": numbers, "next_seen": numbers, "action": actions}
        try:
            self._stored = {name: torch.zeros(places, widths.get(name, 1)) for name in FIELDS}
        except (RuntimeError, MemoryError) as error:
            size = places * 4 * (2 * numbers + actions + 2) / 2**30
            raise BadRequestError(
                f"replay.capacity: {places:,} decisions take {size:,.1f} GiB, which this process "
                "does not get; lower it"
            ) from error

    def __len__(self) -> int:
        """Transitions stored."""
        return min(self._added, self._places)

    def add(self, rows: Transitions) -> None:
        """Store transitions; the oldest ones go."""
        count = len(rows.seen)
        places = (self._added + torch.arange(count)) % self._places
        for name, values in self._stored.items():
            values[places] = getattr(rows, name)
        self._added += count

    def sample(self, batch_size: int) -> Transitions:
        """Draw transitions, each with the same chance."""
        chosen = torch.from_numpy(self.generator.integers(0, len(self), batch_size))
        return Transitions(**{name: values[chosen] for name, values in self._stored.items()})

    def clear(self) -> None:
        """Forget everything."""
        self._added = 0

    def looked_at(self, count: int, generator: np.random.Generator) -> Transitions:
        """Draw transitions with another generator than that of learning, which stays as it is."""
        chosen = torch.from_numpy(generator.integers(0, len(self), count))
        return Transitions(**{name: values[chosen] for name, values in self._stored.items()})

    def save(self, folder: Path) -> None:
        """Write what is stored into a new folder.

        Raises:
            UnwritableError: the disk is full, or the folder cannot be written.
        """
        write_stored(folder, self._stored, len(self), self._added)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises:
            OSError: a file is missing.
            ValueError: they do not hold a memory of this size.
        """
        self._added = count_of(read_json(folder / "replay.json")["added"])
        for name, values in self._stored.items():
            read_npy(folder / f"{name}.npy", values[: len(self)])

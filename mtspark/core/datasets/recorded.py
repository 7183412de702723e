"""Episodes as they are recorded, and what says where they come from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtspark.core.arrays import AnyArray, Booleans, Floats
from mtspark.core.environments import (
    GameProtocol,
    Task,
    protocol_from_json,
    protocol_to_json,
    tasks_from_json,
    tasks_to_json,
)
from mtspark.core.errors import BadFileError

VERSION = 1
KEY = "mtspark"
"""Entry of a dataset's metadata that holds its :class:`Origin`."""


@dataclass(frozen=True)
class RecordedEpisode:
    """One game from its start to its end, or to where it was cut off.

    Attributes:
        shown: (decisions + 1, ...) what was shown before each decision and after the last: the
            numbers of an environment in the order in which they become messages, or the frame
            stacks of an ALE game.
        actions: (decisions,) of a list, or float32 (decisions, numbers).
        rewards: (decisions,) the game's own.
        ended: whether the last decision ended it by its rules; otherwise it was cut off.
        masks: (decisions + 1, legal actions) which actions the environment allowed; None: all.
        seed: of the game; None where a file does not say.
    """

    shown: AnyArray
    actions: AnyArray
    rewards: Floats
    ended: bool
    masks: Booleans | None = None
    seed: int | None = None

    def __len__(self) -> int:
        """Decisions."""
        return len(self.rewards)

    @property
    def size(self) -> int:
        """Bytes of its arrays."""
        return sum(part.nbytes for part in (self.shown, self.actions, self.rewards))


@dataclass(frozen=True)
class Origin:
    """Where a dataset comes from.

    Attributes:
        task: that was played, with its environment.
        protocol: of an ALE game; None of an environment.
        played: by whom and how, plain values.
    """

    task: Task
    protocol: GameProtocol | None
    played: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_json` takes."""
        return {
            "version": VERSION,
            "task": tasks_to_json((self.task,))[0],
            "protocol": None if self.protocol is None else protocol_to_json(self.protocol),
            "played": self.played,
        }

    @staticmethod
    def from_json(data: Any, where: str) -> Origin:
        """Rebuild it; `where` names the file in errors.

        Raises:
            BadFileError: a field is missing, of another type or of another version.
        """
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise BadFileError(f"{where}: its entry {KEY!r} is of no version that mtspark reads")
        (task,) = tasks_from_json([data.get("task")], where)
        protocol = None
        if task.is_ale:
            protocol = protocol_from_json(data.get("protocol"), where)
        played = data.get("played")
        return Origin(task, protocol, played if isinstance(played, dict) else {})


@dataclass(frozen=True)
class RecordedData:
    """A dataset that was read.

    Attributes:
        episodes: in their order.
        origin: None of a dataset that another program wrote.
    """

    episodes: tuple[RecordedEpisode, ...]
    origin: Origin | None

    @property
    def decisions(self) -> int:
        """Of all episodes."""
        return sum(map(len, self.episodes))

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is learned from."""
        found = hashlib.sha256()
        for one in self.episodes:
            parts = [one.shown, one.actions, one.rewards, np.array(one.ended)]
            for part in parts if one.masks is None else [*parts, one.masks]:
                found.update(f"{part.dtype.str}{part.shape}".encode())
                found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()


def dataset_name(task: str) -> str:
    """Minari's name of a task's dataset: letters, digits, ``_`` and ``-``, and a version."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", task) + "-v0"

"""Replay of one task: a frame is stored once; stacks are assembled when they are sampled."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtspark.core.errors import BadRequestError
from mtspark.core.files import replacing, write_json

FIELDS = {
    "frame": torch.uint8,
    "action": torch.int64,
    "reward": torch.float32,
    "terminal": torch.bool,
    "order": torch.int64,
}
"""What is stored of a decision, and as what; :func:`mtspark.train.config.sizes.replay_bytes`
counts it."""
LARGEST_SIDE = 1024
"""Of a frame, in pixels, as the protocol allows."""


@dataclass(frozen=True)
class Transitions:
    """A sampled batch; `frames` and `next_frames` are uint8 (batch, stack, height, width)."""

    frames: Tensor
    next_frames: Tensor
    actions: Tensor
    rewards: Tensor
    terminal: Tensor


class Replay:
    """The last decisions of one task in a ring, sampled uniformly.

    A stack of an observation is the newest frames of the decisions before it, so a transition
    is a slice of stack + 1 decisions of one copy of the game within one chunk of play and one
    episode. The first decisions of an episode or a chunk, and the last of each, are stored, but
    are not drawn as transitions; every other decision is as likely as any.

    Args:
        capacity: decisions that are kept.
        stack: frames of an observation.
        batch_size: transitions of a sample.
        most: decisions that will be stored at most, where that is known: memory is taken for
            them and not for the capacity.
    """

    def __init__(self, capacity: int, stack: int, batch_size: int, most: int | None = None) -> None:
        self._capacity, self._slice, self._batch_size = capacity, stack + 1, batch_size
        self._places = capacity if most is None else min(capacity, most)
        self._added = 0
        self._stored: dict[str, Tensor] = {}
        self._starts = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        """Decisions stored."""
        return min(self._added, self._places)

    def add(
        self, newest: Tensor, actions: Tensor, rewards: Tensor, terminal: Tensor, valid: Tensor
    ) -> None:
        """Store a chunk of play; of one above the capacity, its end (whole copies go first).

        Args:
            newest: uint8 (steps, copies, height, width), the newest frame before each decision.
            actions, rewards, terminal: (steps, copies).
            valid: False where the step only restarted a finished game.
        """
        steps, copies = actions.shape
        # `order` rises by 1 to the next decision of an episode, by more after the step that
        # restarts a game and from copy to copy and chunk to chunk.
        restarts = torch.cat([torch.zeros(1, copies, dtype=torch.bool), ~valid[:-1]])
        within = torch.arange(steps)[:, None] + restarts.long().cumsum(0)
        first = int(self._stored_order().max()) + 2 if len(self) else 0
        by_copy = {
            "frame": newest,
            "action": actions,
            "reward": rewards,
            "terminal": terminal,
            "order": first + within + 2 * steps * torch.arange(copies),
        }
        chunk = {name: value.transpose(0, 1).flatten(0, 1) for name, value in by_copy.items()}
        if not self._stored:
            self._make_room(tuple(newest.shape[2:]))
        # A place must not be written twice in one call.
        count = min(steps * copies, self._places)
        places = (self._added + torch.arange(count)) % self._places
        for name, values in chunk.items():
            self._stored[name][places] = values[-count:].to(FIELDS[name])
        self._added += count
        self._find_starts()

    def sample(self) -> Transitions:
        """A batch of transitions, drawn with torch's global generator.

        Raises:
            BadRequestError: no stored decision has a stack of frames of its own episode.
        """
        if not len(self._starts):
            raise BadRequestError(
                f"replay: none of {len(self)} stored decisions has {self._slice - 1} frames of "
                "its own episode and chunk and one after them; raise rollout_steps, "
                "replay.capacity or replay.warmup"
            )
        starts = self._starts[torch.randint(len(self._starts), (self._batch_size,))]
        places = (starts[:, None] + torch.arange(self._slice)) % len(self)
        slices = {name: values[places] for name, values in self._stored.items()}
        last = self._slice - 2
        return Transitions(
            slices["frame"][:, :-1],
            slices["frame"][:, 1:],
            slices["action"][:, last],
            slices["reward"][:, last],
            slices["terminal"][:, last],
        )

    def save(self, folder: Path) -> None:
        """Write what is stored, and no more, into a new folder.

        Raises:
            UnwritableError: the disk is full, or the folder cannot be written.
        """
        write_stored(folder, self._stored, len(self), self._added)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote, or what versions before it did with torchrl.

        Raises:
            OSError: a file is missing.
            ValueError: they do not hold a replay of this capacity.
        """
        if (folder / "storage").is_dir():
            self._load_torchrl(folder)
        else:
            added = count_of(read_json(folder / "replay.json")["added"])
            shape, _ = header_of(folder / "frame.npy", torch.uint8)
            self._fill(shape, added, lambda name, values: read_npy(folder / f"{name}.npy", values))
        self._find_starts()

    def _load_torchrl(self, folder: Path) -> None:
        """Read raw arrays of the whole capacity; the pickled file beside them is never opened."""

        def read(name: str, values: Tensor) -> None:
            with (folder / "storage" / f"{name}.memmap").open("rb") as file:
                _read_exactly(file, values)

        length = count_of(read_json(folder / "storage" / "storage_metadata.json")["len"])
        cursor = count_of(read_json(folder / "writer" / "metadata.json")["cursor"])
        meta = read_json(folder / "storage" / "meta.json")
        shape = tuple(count_of(size) for size in meta["frame"]["shape"])
        full = length == shape[0]
        self._fill((length, *shape[1:]), self._capacity + cursor if full else length, read)

    def _fill(
        self, shape: tuple[int, ...], added: int, read: Callable[[str, Tensor], None]
    ) -> None:
        """Take memory for frames of a shape (stored, height, width), and read every field."""
        self._added = added
        # A run that is made shorter has stored more than it would now.
        self._places = min(self._capacity, max(self._places, shape[0] if shape else 0))
        if len(shape) != 3 or shape[0] != len(self) or max(shape[1:]) > LARGEST_SIDE:
            raise ValueError(f"{shape} frames of {added} decisions, {len(self)} are kept")
        self._make_room(shape[1:])
        for name, values in self._stored.items():
            read(name, values[: len(self)])

    def _make_room(self, frame: tuple[int, ...]) -> None:
        try:
            self._stored = {
                name: torch.empty((self._places, *(frame if name == "frame" else ())), dtype=kind)
                for name, kind in FIELDS.items()
            }
        except (RuntimeError, MemoryError) as error:
            size = self._places * (math.prod(frame) + 21) / 2**30
            raise BadRequestError(
                f"replay.capacity: {self._places:,} decisions take {size:,.1f} GiB, which this "
                "process does not get; lower it"
            ) from error

    def _stored_order(self) -> Tensor:
        return self._stored["order"][: len(self)]

    def _find_starts(self) -> None:
        """Note the places where a slice begins: where `order` rises by 1 throughout it.

        `order` falls from the newest decision to the oldest one, its neighbour in the ring, so
        no slice leads across.
        """
        if not self._stored:
            return
        order, reach = self._stored_order(), self._slice - 1
        if len(order) <= reach:
            self._starts = torch.empty(0, dtype=torch.long)
            return
        self._starts = (order.roll(-reach) - order == reach).nonzero().squeeze(1)


def write_stored(folder: Path, stored: Mapping[str, Tensor], count: int, added: int) -> None:
    """Write the first `count` values of every field into a new folder, and what was added ever.

    Raises:
        UnwritableError: the disk is full, or the folder cannot be written.
    """
    folder.mkdir(parents=True)
    for name, values in stored.items():
        write_npy(folder / f"{name}.npy", values[:count])
    write_json(folder / "replay.json", {"added": added})


def write_npy(path: Path, values: Tensor) -> None:
    """Write a tensor as NumPy does.

    Raises:
        UnwritableError: the disk is full, or the folder cannot be written.
    """
    filled = values.numpy()
    with replacing(path) as temporary, temporary.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(filled)
        np.lib.format.write_array_header_1_0(file, header)
        # Not numpy's tofile, which does not say that the disk is full.
        file.write(filled.data)


def read_json(path: Path) -> Any:
    """Read a short file of JSON."""
    with path.open() as file:
        return json.loads(file.read(10_000))


def count_of(value: Any) -> int:
    """Return what must be a whole number of 0 or more.

    Raises:
        ValueError: it is not.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]} is not a count")
    return value


def header_of(path: Path, kind: torch.dtype) -> tuple[tuple[int, ...], int]:
    """Shape of a .npy file's array and where its values begin."""
    with path.open("rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{path.name}: not of a replay")
        shape, in_columns, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=1_000)
        if in_columns or dtype != torch.empty(0, dtype=kind).numpy().dtype:
            raise ValueError(f"{path.name}: values of {dtype}")
        return shape, file.tell()


def read_npy(path: Path, values: Tensor) -> None:
    """Fill a tensor with what :func:`write_npy` wrote.

    Raises:
        ValueError: an array of another shape or kind.
    """
    shape, start = header_of(path, values.dtype)
    if shape != tuple(values.shape):
        raise ValueError(f"{path.name}: an array of {shape}, not {tuple(values.shape)}")
    with path.open("rb") as file:
        file.seek(start)
        _read_exactly(file, values)


def _read_exactly(file: BufferedIOBase, values: Tensor) -> None:
    raw = values.numpy().reshape(-1).view(np.uint8)
    if values.numel() and file.readinto(raw.data) != len(raw):
        raise ValueError("fewer values than a replay of this length has")

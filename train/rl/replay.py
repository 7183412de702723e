"""Replay of one task: a frame is stored once; stacks are assembled when they are sampled."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import LazyTensorStorage, ReplayBuffer

from mtspark.core.errors import BadRequestError

# It logs every storage that it creates.
logging.getLogger("torchrl").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Transitions:
    """A sampled batch; `frames` and `next_frames` are uint8 (batch, stack, height, width)."""

    frames: Tensor
    next_frames: Tensor
    actions: Tensor
    rewards: Tensor
    terminal: Tensor


class Replay:
    """The last decisions of one task in torchrl's ring storage, sampled uniformly.

    A stack of an observation is the newest frames of the decisions before it, so a transition
    is a slice of stack + 1 decisions of one copy of the game within one chunk of play and one
    episode. The first decisions of an episode or a chunk, and the last of each, are stored, but
    are not drawn as transitions; every other decision is as likely as any. (torchrl's
    SliceSampler draws an episode first, so that a decision of a short one comes more often.)
    """

    def __init__(self, capacity: int, stack: int, batch_size: int) -> None:
        self._capacity, self._slice, self._batch_size = capacity, stack + 1, batch_size
        self._storage = LazyTensorStorage(capacity)
        self._buffer = ReplayBuffer(storage=self._storage)
        self._starts = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        """Decisions stored."""
        return len(self._buffer)

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
        # A place must not be written twice in one call.
        self._buffer.extend(TensorDict(chunk, [steps * copies])[-self._capacity :])
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
        slices = self._storage[(starts[:, None] + torch.arange(self._slice)) % len(self)]
        last = self._slice - 2
        return Transitions(
            slices["frame"][:, :-1],
            slices["frame"][:, 1:],
            slices["action"][:, last],
            slices["reward"][:, last],
            slices["terminal"][:, last],
        )

    def save(self, folder: Path) -> None:
        """Write everything into a new folder."""
        folder.mkdir(parents=True)
        self._buffer.dumps(folder)

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote."""
        self._buffer.loads(folder)
        self._find_starts()

    def _stored_order(self) -> Tensor:
        return self._storage[:]["order"]

    def _find_starts(self) -> None:
        """Note the places where a slice begins: where `order` rises by 1 throughout it.

        `order` falls from the newest decision to the oldest one, its neighbour in the ring, so
        no slice leads across.
        """
        order, reach = self._stored_order(), self._slice - 1
        if len(order) <= reach:
            self._starts = torch.empty(0, dtype=torch.long)
            return
        self._starts = (order.roll(-reach) - order == reach).nonzero().squeeze(1)

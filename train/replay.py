"""Replay of one task: frames stored once, stacks put together when they are sampled."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import LazyTensorStorage, SliceSampler, TensorDictReplayBuffer

# It tells of every storage that it makes.
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
    """The last decisions of one task (torchrl's storage and slice sampler).

    A stack of an observation is the newest frames of the decisions before it, so a transition
    is a slice of stack + 1 decisions of one copy of the game within one chunk of play and one
    episode. The first decisions of an episode or a chunk are stored, but never sampled alone.
    """

    def __init__(self, capacity: int, stack: int, batch_size: int) -> None:
        self._slice = stack + 1
        self._buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(capacity),
            sampler=SliceSampler(
                slice_len=self._slice, traj_key="trajectory", strict_length=True, cache_values=True
            ),
            batch_size=batch_size * self._slice,
        )
        self._trajectories = 0

    def __len__(self) -> int:
        """Decisions stored."""
        return len(self._buffer)

    def add(
        self, newest: Tensor, actions: Tensor, rewards: Tensor, terminal: Tensor, valid: Tensor
    ) -> None:
        """Store a chunk of play.

        Args:
            newest: uint8 (steps, copies, height, width), the newest frame before each decision.
            actions, rewards, terminal: (steps, copies).
            valid: False where the step only restarted a finished game.
        """
        steps, copies = actions.shape
        # A new trajectory begins after the step that restarts a game, and with every copy.
        restarts = torch.cat([torch.zeros(1, copies, dtype=torch.bool), ~valid[:-1]])
        numbers = restarts.long().cumsum(0) + torch.arange(copies) * steps
        trajectory = numbers + self._trajectories
        self._trajectories += copies * steps
        by_copy = {
            "frame": newest,
            "action": actions,
            "reward": rewards,
            "terminal": terminal,
            "trajectory": trajectory,
        }
        self._buffer.extend(
            TensorDict(
                {name: value.transpose(0, 1).flatten(0, 1) for name, value in by_copy.items()},
                [steps * copies],
            )
        )

    def sample(self) -> Transitions:
        """A batch of transitions, drawn with torch's global generator."""
        slices = self._buffer.sample().reshape(-1, self._slice)
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
        torch.save(self._trajectories, folder / "trajectories.pt")

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote."""
        self._buffer.loads(folder)
        self._trajectories = torch.load(folder / "trajectories.pt", weights_only=True)

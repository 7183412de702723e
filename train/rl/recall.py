"""What a network whose state survives decisions remembers of the games that play."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtspark.train.networks import Memory, MTSparkNetwork, mask_illegal


@dataclass(frozen=True)
class Moments:
    """State before a decision.

    Attributes:
        memory: of the copies; empty at rest.
        begins: (copies,) True where an episode begins.
    """

    memory: Memory
    begins: Tensor


class Recall:
    """The state of every copy of the one game that a stateful network learns.

    Args:
        network: that plays.
        copies: of the game.
        mask: (tasks, actions) of legal actions.
        device: of the network.
    """

    def __init__(
        self, network: MTSparkNetwork, copies: int, mask: Tensor, device: torch.device
    ) -> None:
        self._network, self._mask, self._device, self._copies = network, mask, device, copies
        self.restart()

    def restart(self) -> None:
        """Put every copy at rest, where all of its games start afresh."""
        self.now = Moments({}, torch.ones(self._copies, dtype=torch.bool, device=self._device))
        self._after: Memory = {}

    def values(self, frames: Tensor, task: Tensor) -> Tensor:
        """(copies, actions) values of what the games show; :meth:`advance` goes on from there."""
        series, self._after = self._network.unroll(
            frames[None], task, self.now.memory, self.now.begins[None]
        )
        return mask_illegal(series[0], self._mask[task])

    def advance(self, valid: Tensor) -> None:
        """Take over what the last :meth:`values` left, once the games have stepped.

        Args:
            valid: (copies,) False where the step only restarted a game: an episode begins.
        """
        self.now = Moments(self._after, ~valid.to(self._device))

    def state(self) -> dict[str, Any]:
        """Tensors that :meth:`restore` takes."""
        memory = {name: one.cpu() for name, one in self.now.memory.items()}
        return {"recall": {"memory": memory, "begins": self.now.begins.cpu()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        kept = state["recall"]
        memory = {name: one.to(self._device) for name, one in kept["memory"].items()}
        self.now = Moments(memory, kept["begins"].to(self._device))

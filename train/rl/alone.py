"""Mask pretraining: each task finds its path alone, then what they learned is averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtspark.train.config import TrainConfig
from mtspark.train.rl.schedule import Schedule


class Alone:
    """Turns in which one task plays and learns alone, each from the weights of the start.

    As in the released code of NPF (``pretrain_masks``): after the last turn, every weight is the
    mean of what the tasks made of it, and all tasks go on together with the paths that they found.

    Args:
        config: of the run.
        schedule: is told which task plays.
    """

    def __init__(self, config: TrainConfig, schedule: Schedule) -> None:
        self._decisions, self._tasks = config.pruning.pretrain_steps, len(config.games)
        self._schedule, self._since = schedule, 0
        self._begun: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        schedule.alone = 0

    @property
    def task(self) -> int | None:
        """Index of the task that plays alone; None once all play."""
        return self._schedule.alone

    def begin(self, learned: Mapping[str, nn.Module]) -> None:
        """Keep the weights that every task begins with.

        Args:
            learned: what learns, by name; the same in :meth:`after_update`.
        """
        self._begun = {name: value.detach().clone() for name, value in _weights(learned)}

    @torch.no_grad()
    def after_update(self, decisions: int, learned: Mapping[str, nn.Module]) -> bool:
        """Count an update's decisions; end the task's turn where it has had its share.

        Returns:
            Whether a turn ended: the weights are then those of the start, or after the last turn
            the means, and moments of the optimizer are of other weights.
        """
        if self.task is None:
            return False
        self._since += decisions
        if self._since < self._decisions:
            return False
        self._since = 0
        last = self.task + 1 == self._tasks
        for name, value in _weights(learned):
            total = self._sums.get(name, torch.zeros_like(value)) + value
            self._sums[name] = total
            value.copy_(total / self._tasks if last else self._begun[name])
        self._schedule.alone = None if last else self.task + 1
        if last:
            self._begun, self._sums = {}, {}
        return True

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as tensors and plain values."""
        kept = {"begun": self._begun, "sums": self._sums}
        return {"alone": {"task": self.task, "since": self._since, **kept}}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Resume from :meth:`state`."""
        saved = state["alone"]
        self._schedule.alone, self._since = saved["task"], int(saved["since"])
        self._begun = {name: value.to(device) for name, value in saved["begun"].items()}
        self._sums = {name: value.to(device) for name, value in saved["sums"].items()}


def _weights(learned: Mapping[str, nn.Module]) -> list[tuple[str, Tensor]]:
    return [
        (f"{module}.{name}", value)
        for module, owner in learned.items()
        for name, value in owner.named_parameters()
    ]

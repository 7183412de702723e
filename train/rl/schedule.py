"""Which tasks play and learn now, and the linear falls over a run or a task's share of it."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from mtspark.train.config import TrainConfig

CHANGES_IN_MEAN = 5
"""Changes of the weights in the mean that the schedule ``performance`` compares."""


def linear_fall(played: float, planned: float, floor: float) -> float:
    """Fall linearly from 1 to `floor` over the planned decisions, and stay there."""
    remaining = 1 - played / planned
    return max(floor + (1 - floor) * remaining, floor)


class Schedule:
    """The order in which the tasks take turns.

    * ``interleaved``: all tasks in every update.
    * ``sequential``: one task after the other, an equal share of all decisions for each; in
      every share exploration, learning rate and lessons fall anew.
    * ``interval``: the next task after every `switch_every_steps` decisions, in a ring.
    * ``performance``: the next task once this one has settled: more than `switch_episodes`
      episodes are over and the mean of the last five changes of the weights,
      mean over tensors of |w - w'| / |w| from one finished episode to the next, is below
      `switch_change` (SwitchMT, arXiv:2504.13541).

    Attributes:
        planned: decisions over which shares, exploration and learning rate are laid out: the
            `total_steps` that the run began with. A run that is made longer or shorter keeps them.
        current: the task that plays now, of ``interval`` and ``performance``.
        alone: the task that plays alone before the order begins, see
            :class:`mtspark.train.rl.alone.Alone`; None: none.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.planned = config.total_steps
        self.current = 0
        self.alone: int | None = None
        self._since = 0
        self._episodes = 0
        self._changes: deque[float] = deque(maxlen=CHANGES_IN_MEAN)
        self._weights: list[Tensor] = []

    def active(self, steps: int) -> tuple[int, ...]:
        """Indices of the tasks that learn after `steps` decisions."""
        if self.alone is not None:
            return (self.alone,)
        tasks = len(self.config.games)
        if self.config.schedule == "interleaved":
            return tuple(range(tasks))
        if self.config.schedule == "sequential":
            return (min(steps * tasks // self.planned, tasks - 1),)
        return (self.current,)

    def stretch(self, steps: int, task: int) -> tuple[float, float]:
        """Decisions played and planned of the stretch over which exploration and learning fall.

        That is the whole run; in a sequential run, the share of `task`. More decisions may be
        played of a share than planned, since an update may end beyond it.
        """
        if self.config.schedule != "sequential":
            return steps, self.planned
        tasks, total = len(self.config.games), self.planned
        return (steps * tasks - task * total) / tasks, total / tasks

    def after_update(self, decisions: int, episodes: int, network: nn.Module) -> None:
        """Count the decisions and finished episodes of an update; switch tasks if it is time to."""
        self._since += decisions
        self._episodes += episodes
        due = False
        if self.config.schedule == "interval":
            due = self._since >= self.config.switch_every_steps
        elif self.config.schedule == "performance":
            if episodes:
                self._note_change(network)
            settled = len(self._changes) == CHANGES_IN_MEAN and (
                sum(self._changes) / CHANGES_IN_MEAN < self.config.switch_change
            )
            due = settled and self._episodes > self.config.switch_episodes
        if due:
            self.current = (self.current + 1) % len(self.config.games)
            self._since = self._episodes = 0
            self._changes.clear()
            self._weights = []

    def _note_change(self, network: nn.Module) -> None:
        now = [value.detach().clone() for value in network.parameters()]
        if self._weights:
            ratios = [
                # A resumed run's old weights come from a file, so from the CPU.
                (new - old.to(new.device)).norm() / new.norm().clamp(min=1e-12)
                for new, old in zip(now, self._weights, strict=True)
            ]
            self._changes.append(float(torch.stack(ratios).mean()))
        self._weights = now

    def state(self) -> dict[str, Any]:
        """Plain values and tensors that :meth:`restore` takes."""
        return {
            "planned": self.planned,
            "current": self.current,
            "since": self._since,
            "episodes": self._episodes,
            "changes": list(self._changes),
            "weights": self._weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state`."""
        self.planned = int(state["planned"])
        self.current = state["current"]
        self._since = state["since"]
        self._episodes = state["episodes"]
        self._changes.clear()
        self._changes.extend(state["changes"])
        self._weights = list(state["weights"])

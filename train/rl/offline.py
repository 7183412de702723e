"""The loop of algorithms that learn from recorded data and play nothing.

Run folders, schedules, checkpoints, sparse layers and measures are those of every trainer. A step
of the run is a gradient step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mtspark.core.environments import Task
from mtspark.core.errors import BadRequestError, DivergedError
from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig
from mtspark.train.rl.pathways import SCORED, Scored
from mtspark.train.rl.recorded import (
    Batch,
    Recorded,
    at_statistics,
    load_data,
    with_statistics,
)
from mtspark.train.rl.trainer import Trainer
from mtspark.train.runs import check_finite


class OfflineTrainer(Trainer):
    """Draws a batch of every active task's data for each gradient step of actor and critics.

    Args:
        config: of the run.
        resumed: :meth:`restore` follows.

    Attributes:
        critics: plain networks, and their targets, by name; an algorithm's own.
        of_tasks: the recorded decisions of each task.

    Raises:
        BadFileError: a dataset is missing or damaged.
        BadRequestError: one was recorded otherwise than this run would play.
    """

    unit: ClassVar[str] = "gradient steps"

    def __init__(self, config: TrainConfig, *, resumed: bool = False) -> None:
        super().__init__(config, resumed=resumed)
        self.of_tasks = self._recorded()
        self.critics = nn.ModuleDict(self.made_critics()).to(self.device)
        for name, critic in self.critics.items():
            critic.requires_grad_(not name.endswith("target"))
        others = [one for one in self.critics.parameters() if one.requires_grad]
        own = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": own, "weight_decay": config.plasticity.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,
        )
        if self.alone is not None:
            self.alone.begin(self.learned())
        self._measured: dict[str, float] = {}

    def prepared(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        """Read the data; numbers are sent relative to its statistics, or those of the start."""
        self._data = load_data(self.config, tasks)
        return tuple(map(with_statistics, tasks, self._data))

    def _recorded(self) -> tuple[Recorded, ...]:
        rows = zip(self._data, self.tasks, strict=True)
        return tuple(
            Recorded(data, task, index, self.config) for index, (data, task) in enumerate(rows)
        )

    @abstractmethod
    def made_critics(self) -> dict[str, nn.Module]:
        """Build what learns beside the actor; a name that ends in ``target`` learns nothing."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """What a gradient step lowers, (), and what it measures."""

    @abstractmethod
    def after_step(self) -> None:
        """Let targets follow."""

    @abstractmethod
    def scored(self, batch: Batch) -> Scored:
        """Decisions with the loss of the actor on them."""

    @property
    def epsilon(self) -> float:
        """Nothing is played, so nothing at random."""
        return 0.0

    def update(self) -> float:
        """Take the gradient steps of an update; return their mean loss."""
        episodes, active, steps = self.games.episodes, self.active, self.config.rollout_steps
        size, total = self.config.replay.batch_size, 0.0
        # What is learned here is of the task whose turn it is, not of the update before.
        self._learned_task = active[0]
        self.set_learning_rate()
        self.network.train()
        sums: dict[str, float] = {}
        for _ in range(steps):
            loss, measured = self.loss(self.drawn(active, size))
            self.step_optimizer(loss)
            self.after_step()
            total += float(loss.detach())
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + value / steps
        self.network.eval()
        self._measured = sums
        try:
            check_finite(self.critics.state_dict())
        except ValueError as error:
            raise DivergedError(str(error)) from error
        self.count(steps, episodes)
        self.tend_network()
        return total / steps

    def drawn(
        self, active: tuple[int, ...], size: int, generator: np.random.Generator | None = None
    ) -> Batch:
        """Draw so many decisions of each of these tasks; by the run's generator without another."""
        by = self.generator if generator is None else generator
        parts = [self.of_tasks[index].sample(size, by) for index in active]
        return Batch.joined(parts).to(self.device)

    def last_transitions(self) -> Scored | None:
        """Decisions of each active task on which synapses are scored and measures are taken."""
        # Of its own, so that measuring changes nothing that is learned.
        generator = np.random.default_rng([self.config.seed, self.progress.updates])
        return self.scored(self.drawn(self.active, SCORED, generator))

    def learned(self) -> dict[str, nn.Module]:
        """The actor and, once they are there, the critics."""
        critics = getattr(self, "critics", None)
        return {**super().learned(), **({} if critics is None else {"critics": critics})}

    def follow(self, name: str) -> None:
        """Mix a critic into its target."""
        rate = self.config.offline.target_rate
        pairs = zip(
            self.critics[name].parameters(),
            self.critics[f"{name}_target"].parameters(),
            strict=True,
        )
        with torch.no_grad():
            for fast, slow in pairs:
                slow.lerp_(fast, rate)

    def measurements(self) -> dict[str, dict[str, float | None]]:
        """Those of every trainer, and the means of the last update."""
        own: dict[str, float | None] = {
            name: round(value, 6) for name, value in self._measured.items()
        }
        return {**super().measurements(), self.config.algorithm: own}

    def agent(self) -> Agent:
        """The agent as it is now, with the statistics of the data, and what it learned from."""
        made = super().agent()
        made.tasks = self.tasks
        made.training["data"] = {
            task.name: {
                "episodes": len(data.episodes),
                "decisions": data.decisions,
                "mean_return": _mean_return(data.episodes),
                "sha256": data.digest,
            }
            for task, data in zip(self.tasks, self._data, strict=True)
        }
        return made

    def state(self) -> dict[str, Any]:
        """The state of every trainer, the critics, and what says which data was learned from."""
        seen = []
        for task in self.tasks:
            found = None if task.environment is None else task.environment.found
            both = ((), ()) if found is None else (found.mean, found.deviation)
            seen.append([list(one) for one in both])
        own = {
            "critics": self.critics.state_dict(),
            "data": [data.digest for data in self._data],
            "seen": seen,
        }
        return {**super().state(), **own}

    def restore(
        self, state: dict[str, Any], on_decision: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[str, ...]:
        """Resume from :meth:`state`.

        Raises:
            BadRequestError: the data are not those that the run began with.
        """
        for data, task, before in zip(self._data, self.tasks, state["data"], strict=True):
            if data.digest != before:
                raise BadRequestError(
                    f"offline.data: the dataset of {task.name} is another one than this run has "
                    "learned from; put the old one back, or choose another folder for a new run"
                )
        self.critics.load_state_dict(state["critics"])
        # Those of the agent that it started from need not be there any more.
        self.tasks = tuple(
            at_statistics(task, tuple(mean), tuple(deviation)) if mean else task
            for task, (mean, deviation) in zip(self.tasks, state["seen"], strict=True)
        )
        self.of_tasks = self._recorded()
        return super().restore(state, on_decision)


def _mean_return(episodes: Any) -> float:
    return round(sum(float(one.rewards.sum()) for one in episodes) / len(episodes), 4)

"""Soft actor-critic for tasks whose actions are numbers (Haarnoja et al. 2018, arXiv:1812.05905).

The games, their statistics, checkpoints and logs are those of every trainer; the gradient step is
stable-baselines3's, see :mod:`mtspark.train.rl.policy`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtspark.core.arrays import Booleans, Singles
from mtspark.core.environments import ActionBox, Task, box_of, stretched
from mtspark.core.errors import BackendMissingError, BadRequestError, DivergedError
from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig, replay_places
from mtspark.train.rl.collect import Step
from mtspark.train.rl.memory import Memory, Transitions
from mtspark.train.rl.trainer import Trainer
from mtspark.train.runs import check_finite
from mtspark.train.sparsity import quiet_biases

EXTRA = 'algorithm sac: needs stable-baselines3; pip install "mtspark[sac]"'


class SacTrainer(Trainer):
    """Plays chunks into a memory; a gradient step learns a batch of it.

    Args:
        config: of the run.
        resumed: :meth:`restore` follows.

    Raises:
        BackendMissingError: stable-baselines3 is not installed.
        BadRequestError: tasks take different numbers.
    """

    def __init__(self, config: TrainConfig, *, resumed: bool = False) -> None:
        try:
            from mtspark.train.rl.policy import Learner
        except ModuleNotFoundError as error:
            raise BackendMissingError(EXTRA) from error

        super().__init__(config, resumed=resumed)
        size = _size_of(self.tasks)
        shape = config.network.observation_shape
        numbers = shape[1] + len(self.tasks)
        places = min(config.replay.capacity, sum(replay_places(config)))
        self.memory = Memory(places, numbers, size, self.generator)
        self.learner = Learner(
            config,
            self.network,
            self.memory,
            numbers,
            graded=config.network.input == "values",
            rate=lambda: (
                config.learning_rate * self._falling_to(config.final_learning_rate_fraction)
            ),
        )
        self.optimizer = self.learner.optimizer
        self.learner.take_statistics(self.games.tasks)
        self._owed = 0

    @property
    def epsilon(self) -> float:
        """Share of random actions: all of them until the warmup is over."""
        return float(len(self.memory) < self.config.replay.warmup)

    def update(self) -> float:
        """Play a chunk, store it and learn from the memory; return the critics' mean loss."""
        episodes, decisions = self.games.episodes, 0
        with self.network.weights_kept():
            for _ in range(self.config.rollout_steps):
                decisions += self._play_into_memory()
        self.count(decisions, episodes)
        self.learner.take_statistics(self.games.tasks)
        if self.epsilon:
            return 0.0
        self._owed += decisions
        steps, self._owed = divmod(self._owed, self.config.replay.update_every)
        loss = self._learned(steps) if steps else 0.0
        if self.config.quiet_biases:
            quiet_biases(self.network)
        self.tend_network()
        return loss

    def _learned(self, steps: int) -> float:
        """Take gradient steps; return the critics' mean loss.

        Raises:
            DivergedError: the loss was, or a weight is now, not finite.
        """
        problem: ValueError | None = None
        loss = 0.0
        try:
            loss = self.learner.learn(steps)
        except ValueError as error:
            # A distribution takes no mean that is no number.
            problem = error
        try:
            check_finite(self.network.state_dict())
            check_finite(self.learner.state()["critic"])
        except ValueError as error:
            raise DivergedError(str(error)) from error
        if problem is not None:
            raise problem
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss}")
        return loss

    @torch.no_grad()
    def _play_into_memory(self) -> int:
        """Play a decision of every active game and store it; return their number."""
        active = self.active
        squashed, before = self._squashed(), self._seen()
        actions = np.concatenate(
            [
                stretched(part, self._box(task))
                for task, part in zip(active, self._parted(squashed), strict=True)
            ]
        )
        steps = self.games.step(active, actions)
        rewards = self.games.learned_rewards(active, steps)
        kept = _joined(steps, "valid")
        self.memory.add(
            Transitions(
                torch.from_numpy(before[kept]),
                torch.from_numpy(self._seen()[kept]),
                torch.from_numpy(squashed[kept]),
                torch.from_numpy(rewards[kept, None]),
                torch.from_numpy(_joined(steps, "terminal")[kept, None].astype(np.float32)),
            )
        )
        return len(actions)

    def _squashed(self) -> Singles:
        """(copies, numbers) from -1 to 1 of every copy that plays now, drawn."""
        copies = sum(self.games[index].copies for index in self.active)
        size = self.config.network.actions
        if self.epsilon:
            return self.generator.uniform(-1, 1, (copies, size)).astype(np.float32)
        self.network.eval()
        values = self.network(self.observe(), self.task_of_copy())
        noise = torch.from_numpy(self.generator.standard_normal((copies, size), np.float32))
        deviation = torch.tensor(self.learner.deviation)
        return torch.tanh(values.cpu() + deviation * noise).numpy()

    def _seen(self) -> Singles:
        """(copies, numbers + tasks) what every copy that plays now shows, and its task."""
        rows = []
        for index in self.active:
            values = self.games[index].values
            task = np.zeros((len(values), len(self.tasks)))
            task[:, index] = 1
            rows.append(np.concatenate([values, task], axis=1))
        return np.concatenate(rows).astype(np.float32)

    def _parted(self, rows: Singles) -> list[Singles]:
        borders = np.cumsum([self.games[index].copies for index in self.active])[:-1]
        return np.split(rows, borders)

    def _box(self, task: int) -> ActionBox:
        box = box_of(self.tasks[task])
        assert box is not None
        return box

    def measurements(self) -> dict[str, dict[str, float | None]]:
        """Those of every trainer, the temperature and the deviations."""
        deviations = {f"value {n}": round(d, 4) for n, d in enumerate(self.learner.deviation)}
        temperature = round(self.learner.temperature, 6)
        return {**super().measurements(), "sac": {"temperature": temperature, **deviations}}

    def agent(self) -> Agent:
        """The agent as it is now; its tasks know the deviation of what was drawn."""
        made = super().agent()
        made.tasks = tuple(with_deviation(task, self.learner.deviation) for task in made.tasks)
        return made

    def state(self) -> dict[str, Any]:
        """The state of every trainer, the learner's, and counts."""
        own = {"owed": self._owed, "stored": len(self.memory)}
        return {**super().state(), **own, "learner": self.learner.state()}

    def restore(
        self, state: dict[str, Any], on_decision: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[str, ...]:
        """Resume from :meth:`state`."""
        self._owed = int(state["owed"])
        self.learner.restore(state["learner"])
        said = super().restore(state, on_decision)
        self.memory.generator = self.generator
        self.learner.take_statistics(self.games.tasks)
        return said

    def save_experience(self, folder: Path) -> None:
        """Save the memory."""
        if len(self.memory):
            self.memory.save(folder / "memory")

    def load_experience(self, folder: Path, state: dict[str, Any]) -> None:
        """Load the memory."""
        if state["stored"]:
            self.memory.load(folder / "memory")
        if len(self.memory) != state["stored"]:
            raise ValueError(f"{len(self.memory)} decisions, {state['stored']} were saved")


def _size_of(tasks: tuple[Task, ...]) -> int:
    """Numbers of a decision, the same in all tasks.

    Raises:
        BadRequestError: tasks take different numbers.
    """
    sizes = {task.name: box.size for task in tasks if (box := box_of(task)) is not None}
    if len(set(sizes.values())) > 1:
        named = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise BadRequestError(
            f"algorithm sac: tasks take different numbers of a decision ({named}); train an agent "
            "for each"
        )
    return next(iter(sizes.values()))


def with_deviation(task: Task, deviation: tuple[float, ...]) -> Task:
    """The task with what its numbers were drawn with."""
    environment = task.environment
    assert environment is not None
    assert environment.box is not None
    box = replace(environment.box, deviation=deviation)
    return replace(task, environment=replace(environment, box=box))


def _joined(steps: tuple[Step, ...], name: str) -> Booleans:
    return np.concatenate([getattr(step, name) for step in steps])

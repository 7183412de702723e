"""Soft actor-critic for tasks whose actions are numbers (Haarnoja et al. 2018, arXiv:1812.05905).

The games, their statistics, checkpoints and logs are those of every trainer; the gradient step is
stable-baselines3's, see :mod:`mtspark.train.rl.policy`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtspark.core.arrays import Booleans, Singles
from mtspark.core.environments import ActionBox, Task, box_of, stretched
from mtspark.core.errors import BackendMissingError, DivergedError
from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig, replay_places
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.plasticity import Seen, measure_plain, of_gaussians
from mtspark.train.rl.care import is_due
from mtspark.train.rl.collect import Step
from mtspark.train.rl.memory import Memory, Transitions
from mtspark.train.rl.pathways import Scored
from mtspark.train.rl.trainer import Trainer
from mtspark.train.runs import check_finite
from mtspark.train.sparsity import quiet_biases

EXTRA = 'algorithm sac: needs stable-baselines3; pip install "mtspark[sac]"'


class SacTrainer(Trainer):
    """Plays chunks into a memory of each task; a gradient step learns a batch of every active one.

    Args:
        config: of the run.
        resumed: :meth:`restore` follows.

    Raises:
        BackendMissingError: stable-baselines3 is not installed.
    """

    def __init__(self, config: TrainConfig, *, resumed: bool = False) -> None:
        try:
            from mtspark.train.rl.policy import Learner
        except ModuleNotFoundError as error:
            raise BackendMissingError(EXTRA) from error

        super().__init__(config, resumed=resumed)
        self._sizes = tuple(self._box(index).size for index in range(len(self.tasks)))
        numbers = config.network.observation_shape[1] + len(self.tasks)
        self.memories = tuple(
            Memory(places, numbers, config.network.actions, self.generator)
            for places in replay_places(config)
        )
        self._recent: list[Tensor] = []
        self.learner = Learner(
            config,
            self.network,
            self.memories,
            numbers,
            self._sizes,
            graded=config.network.input == "values",
            rate=lambda: (
                config.learning_rate * self._falling_to(config.final_learning_rate_fraction)
            ),
        )
        self.optimizer = self.learner.optimizer
        self.learner.take_statistics(self.games.tasks)
        self._owed = 0
        self._of_critics: dict[str, float] = {}
        if self.alone is not None:
            self.alone.begin(self.learned())

    @property
    def epsilon(self) -> float:
        """Share of random actions: all of them until the warmup of every active task is over.

        None after tasks have learned alone, whose memories are then emptied.
        """
        if self.alone is not None and self.alone.task is None:
            return 0.0
        warmup = self.config.replay.warmup
        return float(any(len(self.memories[index]) < warmup for index in self.active))

    def update(self) -> float:
        """Play a chunk, store it and learn from the memories; return the critics' mean loss."""
        episodes, decisions, active = self.games.episodes, 0, self.active
        self._recent.clear()
        with self.network.weights_kept():
            for _ in range(self.config.rollout_steps):
                decisions += self._play_into_memory()
        self.count(decisions, episodes)
        self.learner.take_statistics(self.games.tasks)
        if any(len(self.memories[index]) < self.config.replay.warmup for index in active):
            return 0.0
        self._owed += decisions
        steps, self._owed = divmod(self._owed, self.config.replay.update_every)
        loss = self._learned(steps, active) if steps else 0.0
        if self.config.quiet_biases:
            quiet_biases(self.network)
        self.tend_network()
        return loss

    def _learned(self, steps: int, active: tuple[int, ...]) -> float:
        """Take gradient steps on these tasks; return the critics' mean loss.

        Raises:
            DivergedError: the loss was, or a weight is now, not finite.
        """
        problem: ValueError | None = None
        loss = 0.0
        try:
            loss = self.learner.learn(steps, active)
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
                self._in_box(part, task)
                for task, part in zip(active, self._parted(squashed), strict=True)
            ]
        )
        steps = self.games.step(active, actions)
        rewards = self.games.learned_rewards(active, steps)
        ends = _joined(steps, "terminal")[:, None].astype(np.float32)
        columns = [before, self._seen(), squashed, rewards[:, None], ends]
        kept = self._parted(_joined(steps, "valid"))
        parted = zip(*(self._parted(column) for column in columns), strict=True)
        for index, valid, rows in zip(active, kept, parted, strict=True):
            added = Transitions(*(torch.from_numpy(row[valid]) for row in rows))
            self.memories[index].add(added)
            if self._looks_at(self.progress.updates + 1):
                self._recent.append(added.seen)
        return len(actions)

    def _in_box(self, squashed: Singles, task: int) -> Singles:
        """A task's numbers of a decision, and zeros up to the width of all tasks."""
        taken = np.zeros_like(squashed)
        taken[:, : self._sizes[task]] = stretched(squashed[:, : self._sizes[task]], self._box(task))
        return taken

    def last_transitions(self) -> Scored | None:
        """What the actor saw in this update; its loss scores synapses."""
        return ActorView(torch.cat(self._recent), self) if self._recent else None

    def judged_on(self, seen: Scored) -> Seen | None:
        """Draw of the memories of all active tasks; the critics are measured and judged, too."""
        wanted, updates = self.config.plasticity, self.progress.updates
        # Of its own, so that measuring changes nothing that is learned.
        generator = np.random.default_rng([self.config.seed, updates])
        share = -(-wanted.samples // len(self.active))
        drawn = [self.memories[index].looked_at(share, generator) for index in self.active]
        looked = torch.cat([one.seen for one in drawn])
        inputs = self.learner.critic_inputs(looked, torch.cat([one.action for one in drawn]))
        critics = list(enumerate(self.learner.critics))
        self._of_critics = {}
        if is_due(wanted.measure_every, updates):
            self._of_critics = {
                f"{name} {number}": value
                for number, layers in critics
                for name, value in measure_plain(
                    layers, inputs, threshold=wanted.dormant_threshold, delta=wanted.rank_delta
                ).items()
            }
        if is_due(wanted.redo_every, updates):
            renewed = self.learner.renew_critics(inputs, wanted.dormant_threshold)
            self._of_critics |= {f"renewed {n}": float(count) for n, count in enumerate(renewed)}
        return ActorView(looked, self)

    def reset_critics(self) -> None:
        """Draw the outputs of both critics anew."""
        self.learner.reset_critics()

    def cut_critics(self, density: float) -> None:
        """Cut both critics, and their slow copies at the same places."""
        self.learner.cut_critics(density)

    def learned(self) -> dict[str, nn.Module]:
        """The actor's network and the critics; deviations and temperatures are each task's own."""
        if not hasattr(self, "learner"):
            return super().learned()
        return {**super().learned(), "critic": self.learner.critic}

    def tend_network(self, *, is_learning: bool = True) -> None:
        """As every trainer; a task that ends its turn alone leaves the next one fresh critics."""
        before = self.schedule.alone
        super().tend_network(is_learning=is_learning)
        if self.schedule.alone != before:
            self.learner.begin_turn()

    def forget_experience(self) -> None:
        """Empty the memories."""
        for memory in self.memories:
            memory.clear()

    def _squashed(self) -> Singles:
        """(copies, numbers) from -1 to 1 of every copy that plays now, drawn; others are 0."""
        copies = sum(self.games[index].copies for index in self.active)
        size, task = self.config.network.actions, self.task_of_copy()
        own = (np.arange(size) < np.array(self._sizes)[:, None])[task.cpu().numpy()]
        if self.epsilon:
            return self.generator.uniform(-1, 1, (copies, size)).astype(np.float32) * own
        self.network.eval()
        values = self.network(self.observe(), task)
        noise = torch.from_numpy(self.generator.standard_normal((copies, size), np.float32))
        deviation = torch.zeros(len(self.tasks), size)
        for row, spreads in enumerate(self.learner.deviation):
            deviation[row, : len(spreads)] = torch.tensor(spreads)
        return torch.tanh(values.cpu() + deviation[task.cpu()] * noise).numpy() * own

    def _seen(self) -> Singles:
        """(copies, numbers + tasks) what every copy that plays now shows, and its task.

        Tasks that see different things have places of their own, as in a frame.
        """
        rows, frame = [], self.config.network.observation_shape[1]
        for index in self.active:
            values, environment = self.games[index].values, self.tasks[index].environment
            assert environment is not None
            start = environment.found.start
            row = np.zeros((len(values), frame + len(self.tasks)))
            row[:, start : start + values.shape[1]] = values
            row[:, frame + index] = 1
            rows.append(row)
        return np.concatenate(rows).astype(np.float32)

    def _parted(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        borders = np.cumsum([self.games[index].copies for index in self.active])[:-1]
        return np.split(rows, borders)

    def _box(self, task: int) -> ActionBox:
        box = box_of(self.tasks[task])
        assert box is not None
        return box

    def measurements(self) -> dict[str, dict[str, float | None]]:
        """Those of every trainer, the temperatures and the deviations."""
        measured: dict[str, float | None] = {}
        several = len(self.tasks) > 1
        rows = zip(self.tasks, self.learner.temperature, self.learner.deviation, strict=True)
        for task, temperature, deviations in rows:
            of = f" {task.name}" if several else ""
            measured[f"temperature{of}"] = round(temperature, 6)
            measured |= {f"value {n}{of}": round(d, 4) for n, d in enumerate(deviations)}
        found = {**super().measurements(), "sac": measured}
        if self.config.pruning.scope == "critics":
            found["critic_density"] = {**self.learner.critic_densities}
        if self._of_critics:
            found["critics"] = {**self._of_critics}
            self._of_critics = {}
        return found

    def agent(self) -> Agent:
        """The agent as it is now; its tasks know the deviation of what was drawn."""
        made = super().agent()
        made.tasks = tuple(map(with_deviation, made.tasks, self.learner.deviation))
        return made

    def state(self) -> dict[str, Any]:
        """The state of every trainer, the learner's, and counts."""
        stored = [len(memory) for memory in self.memories]
        own = {"owed": self._owed, "stored": stored[0] if len(stored) == 1 else stored}
        return {**super().state(), **own, "learner": self.learner.state()}

    def restore(
        self, state: dict[str, Any], on_decision: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[str, ...]:
        """Resume from :meth:`state`."""
        self._owed = int(state["owed"])
        self.learner.restore(state["learner"])
        said = super().restore(state, on_decision)
        for memory in self.memories:
            memory.generator = self.generator
        self.learner.take_statistics(self.games.tasks)
        return said

    def save_experience(self, folder: Path) -> None:
        """Save the memories."""
        for path, memory in zip(self._folders(folder), self.memories, strict=True):
            if len(memory):
                memory.save(path)

    def load_experience(self, folder: Path, state: dict[str, Any]) -> None:
        """Load the memories; a task that has not played has none."""
        saved = state["stored"] if isinstance(state["stored"], list) else [state["stored"]]
        rows = zip(self._folders(folder), self.memories, saved, strict=True)
        for path, memory, stored in rows:
            if stored:
                memory.load(path)
            if len(memory) != stored:
                raise ValueError(f"{len(memory)} decisions, {stored} were saved")

    def _folders(self, folder: Path) -> tuple[Path, ...]:
        """Of the memory of each task."""
        if len(self.tasks) == 1:
            return (folder / "memory",)
        return tuple(folder / f"memory-{task.name}" for task in self.tasks)


@dataclass(frozen=True)
class ActorView:
    """What the actor saw, by task, with its loss there.

    Attributes:
        seen: (samples, numbers + tasks).
        trainer: whose actor and critics these are.
    """

    seen: Tensor
    trainer: SacTrainer

    @property
    def task(self) -> Tensor:
        """(samples,) task indices."""
        return self.seen[:, -len(self.trainer.tasks) :].argmax(1)

    @property
    def frames(self) -> Tensor:
        """(samples, stack, height, width) what the network was shown."""
        return self.trainer.learner.actor.frames_of(self.seen)[0]

    def of_task(self, index: int) -> ActorView:
        """What was seen in one task."""
        return ActorView(self.seen[self.task == index], self.trainer)

    def thinned(self, samples: int) -> ActorView:
        """At most so many samples, spread evenly over these."""
        count = len(self.seen)
        if count <= samples:
            return self
        chosen = torch.linspace(0, count - 1, samples).long()
        return ActorView(self.seen[chosen], self.trainer)

    def loss(self, network: MTSparkNetwork) -> Tensor:
        """Mean loss of the actor, whose network this is."""
        assert network is self.trainer.network
        return self.trainer.learner.actor_loss(self.seen)

    def policies(self, network: MTSparkNetwork) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each sample's numbers 1 / deviation^2, and the mean."""
        spread = self.trainer.learner.deviation
        deviations = torch.full((len(spread), network.config.actions), torch.inf)
        for row, own in enumerate(spread):
            deviations[row, : len(own)] = torch.tensor(own)
        return of_gaussians(network, self.frames, self.task, deviations.to(self.seen.device))


def with_deviation(task: Task, deviation: tuple[float, ...]) -> Task:
    """The task with what its numbers were drawn with."""
    environment = task.environment
    assert environment is not None
    assert environment.box is not None
    box = replace(environment.box, deviation=deviation)
    return replace(task, environment=replace(environment, box=box))


def _joined(steps: tuple[Step, ...], name: str) -> Booleans:
    return np.concatenate([getattr(step, name) for step in steps])

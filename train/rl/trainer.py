"""The training loop that every algorithm shares: play, count, learn, save."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mtspark.core.environments import Task, side_by_side
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig, config_to_json
from mtspark.train.networks import MTSparkNetwork, mask_illegal
from mtspark.train.plasticity import Seen, Transitions
from mtspark.train.rl.alone import Alone
from mtspark.train.rl.care import Care
from mtspark.train.rl.collect import Games
from mtspark.train.rl.cost import OperationCost
from mtspark.train.rl.cuts import Cuts
from mtspark.train.rl.distil import fingerprints, load_teachers
from mtspark.train.rl.exploration import Exploration, RandomActions
from mtspark.train.rl.pathways import Pathways, Scored
from mtspark.train.rl.recall import Recall
from mtspark.train.rl.recent import RecentPlay
from mtspark.train.rl.schedule import Schedule, linear_fall
from mtspark.train.rl.start import check_actions, run_tasks, start_network, start_tasks
from mtspark.train.rl.turn import Turn
from mtspark.train.rl.values import ActionValues
from mtspark.train.runs import check_finite, descend, prepare_network, prepare_torch
from mtspark.train.sparsity import deaf_tasks, density, quiet_biases


@dataclass
class TrainingProgress:
    """Decisions played and updates finished."""

    steps: int = 0
    updates: int = 0


class Trainer(ABC):
    """One training run: call :meth:`update` until :attr:`finished`.

    Args:
        config: of the run.
        resumed: :meth:`restore` follows.

    Attributes:
        network: plays and learns.
        target: values the next states.
        values: evaluates both.
        teachers: of each task, see :mod:`mtspark.train.rl.distil`.
        schedule: which tasks play now.
        exploration: how often they take random actions.
        random_actions: which these are, and how long they last.
        games: the games of all tasks.
        generator: random numbers of exploration and minibatches.
        cuts: which synapses are cut and grown.
        cost: of synaptic operations; None where they are not counted.
        pathways: choose the synapses of each task; None without.
        alone: lets each task find its path alone first; None without.
        care: measures plasticity, and renews dormant neurons.
        recent: the decisions of the last update, for these two.
        recall: state that survives decisions; None of a network that keeps none.
    """

    recall: Recall | None = None
    unit: ClassVar[str] = "decisions"
    """What `total_steps` counts, in the plural."""

    def __init__(self, config: TrainConfig, *, resumed: bool = False) -> None:
        self.device = prepare_torch(config.device, config.seed, config.threads)
        self.config = config
        self.tasks: tuple[Task, ...] = side_by_side(run_tasks(config))
        check_actions(self.tasks, config)
        # A resumed run has its weights from its checkpoint; the agent that it started from may
        # be gone by then.
        begun = config
        if resumed:
            begun = replace(config, start_from="", pruning=replace(config.pruning, reopen=False))
        self.network = start_network(begun, self.tasks)
        self.tasks = self.prepared(start_tasks(begun, self.tasks))
        self.cuts = Cuts(config, self.network)
        paths = config.pruning.layers and config.pruning.method == "pathways"
        self.pathways = Pathways(config, self.network) if paths else None
        prepare_network(self.network, self.device, compiled=config.compiled)
        if config.quiet_biases:
            quiet_biases(self.network)
        self.target = copy.deepcopy(self.network).eval()
        self.cuts.restore_target(self.target)
        self.cost = (
            OperationCost(config, self.network, self.device) if config.operation_penalties else None
        )
        self.values = ActionValues(config, self.tasks, (self.network, self.target), self.device)
        self.optimizer: torch.optim.Optimizer = torch.optim.RAdam(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.plasticity.weight_decay,
            decoupled_weight_decay=config.plasticity.weight_decay > 0,
        )
        self.care = Care(config)
        self.recent = RecentPlay(config, self.values, self._looks_at)
        self.teachers = load_teachers(config.teachers, self.tasks, config.network, config.protocol)
        for teacher in self.teachers:
            if teacher is not None:
                teacher[0].to(self.device)
        self.schedule = Schedule(config)
        self.alone = Alone(config, self.schedule) if config.pruning.pretrain_steps else None
        self._last_decisions = 0
        self.exploration = Exploration(config, self.schedule)
        self.random_actions = RandomActions(config, self.tasks)
        self.progress = TrainingProgress()
        self._learned_task = self.active[0]
        self.games = Games(config, self.tasks)
        if config.network.stateful:
            copies = config.copies[0]
            self.recall = Recall(self.network, copies, self.values.mask, self.device)
        self.restart_games()
        if self.alone is not None:
            self.alone.begin(self.learned())

    def prepared(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        """The tasks of the run, with what an algorithm knows of them before it begins."""
        return tasks

    @abstractmethod
    def update(self) -> float:
        """Play for a while, learn from it; return the mean loss."""

    @property
    def finished(self) -> bool:
        """Whether all planned decisions are played."""
        return self.progress.steps >= self.config.total_steps

    @property
    def active(self) -> tuple[int, ...]:
        """Indices of the tasks that play now."""
        return self.schedule.active(self.progress.steps)

    @property
    def epsilon(self) -> float:
        """Exploration now."""
        return self.exploration.epsilon(self.progress.steps)

    def restart_games(self) -> None:
        """Start every game afresh, from seeds that depend on the run's seed and its step."""
        seeds = np.random.SeedSequence([self.config.seed, self.progress.steps])
        self.generator = np.random.default_rng(seeds)
        self.games.restart(self.generator)
        if self.recall is not None:
            self.recall.restart()
        torch.manual_seed(int(self.generator.integers(0, 2**30)))

    def task_of_copy(self) -> Tensor:
        """(copies,) task index of every copy that plays now."""
        return self.games.task_of_copy(self.active).to(self.device)

    def observe(self) -> Tensor:
        """uint8 (copies, stack, height, width) frames of every copy that plays now."""
        return self.games.frames(self.active).to(self.device)

    def greedy(self, frames: Tensor, task: Tensor) -> Tensor:
        """(copies,) best allowed actions of the games that play now, on what they show."""
        values = (
            self.values(self.network, frames, task)
            if self.recall is None
            else self.recall.values(frames, task)
        )
        allowed = self.games.allowed(self.active)
        if allowed is not None:
            values = mask_illegal(values, allowed.to(self.device))
        return values.argmax(1)

    @torch.no_grad()
    def play(self) -> Turn:
        """Play one epsilon-greedy decision of every active game."""
        self.network.eval()
        active = self.active
        frames, task = self.observe(), self.task_of_copy()
        greedy, allowed = self.greedy(frames, task), self.games.allowed(active)
        actions = self.random_actions(
            greedy.cpu().numpy(),
            self.exploration.rates(self.progress.steps),
            active,
            self.generator,
            [self.games[index].allowed for index in active],
        )
        steps = self.games.step(active, actions)
        if self.recall is not None:
            self.recall.advance(torch.from_numpy(np.concatenate([one.valid for one in steps])))
        rewards = self.games.learned_rewards(active, steps)
        taken, gained = torch.from_numpy(actions), torch.from_numpy(rewards)
        turn = Turn(frames, greedy, taken, gained, steps, allowed)
        self.recent.see(turn, task, self.progress.updates)
        return turn

    def count(self, decisions: int, episodes_before: int) -> None:
        """Record an update of so many decisions; `episodes_before` were finished before it."""
        # They are learned next, by the fall of their own task, whichever task plays then.
        self._learned_task = self.active[0]
        self._last_decisions = decisions
        self.progress.steps += decisions
        self.progress.updates += 1
        finished = self.games.episodes - episodes_before
        self.schedule.after_update(decisions, finished, self.network)
        self.games.take_statistics()

    def set_learning_rate(self) -> None:
        """Set the optimizer's rate to its place in the linear fall."""
        fraction = self._falling_to(self.config.final_learning_rate_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * fraction

    @property
    def distillation_weight(self) -> float:
        """Weight of a taught game's lesson now."""
        fraction = self._falling_to(self.config.final_distillation_fraction)
        return self.config.distillation_weight * fraction

    def _falling_to(self, floor: float) -> float:
        played, planned = self.schedule.stretch(self.progress.steps, self._learned_task)
        return linear_fall(played, planned, floor)

    def step_optimizer(self, loss: Tensor) -> None:
        """Take one step down the gradient, clipped to its largest norm."""
        descend(self.network, self.optimizer, loss, self.config.gradient_norm)
        if self.config.quiet_biases:
            quiet_biases(self.network)

    def tend_network(self, *, is_learning: bool = True) -> None:
        """End an update: cut, grow and choose the synapses that are due, then care for plasticity.

        A task that plays alone ends its turn here.

        Networks are scored and measured in float32, also where a run learns in bfloat16.

        Args:
            is_learning: False while a replay is filled: weights that nothing has taught yet say
                nothing of which synapses to cut.
        """
        if is_learning:
            self._look()
        else:
            self.recent.forget()
        if self.alone is None or not self.alone.after_update(self._last_decisions, self.learned()):
            return
        self.target.load_state_dict(self.network.state_dict())
        self.optimizer.state.clear()
        if self.alone.task is None:
            self.forget_experience()

    def learned(self) -> dict[str, nn.Module]:
        """What learns in this run, by name."""
        return {"network": self.network}

    def forget_experience(self) -> None:  # noqa: B027 (nothing, for most algorithms)
        """Drop what was stored of play."""

    def _look(self) -> None:
        share = self.progress.steps / self.schedule.planned
        self._cut_synapses(share)
        updates = self.progress.updates
        if self.care.reset(self.network, self.target, self.optimizer, updates):
            self.reset_critics()
        if not self._looks_at(updates):
            return
        seen = self.last_transitions()
        if seen is None:
            return
        if self.pathways is not None and self.pathways.due(updates, share):
            alone = None if self.alone is None else self.alone.task
            self.pathways.after_update(
                self.network, self.target, seen, self.games, share, alone=alone
            )
            if self.cost is not None:
                self.cost.recount(self.network)
        judged = self.judged_on(seen) if self.care.due(updates) else None
        if judged is not None:
            self.care.after_update(self.network, judged, self.optimizer, updates)
            if self.config.quiet_biases:
                # A renewed neuron has the bias of a new one.
                quiet_biases(self.network)

    def judged_on(self, seen: Scored) -> Seen | None:
        """On what plasticity is measured and neurons are judged; None: it is not."""
        return seen if isinstance(seen, Transitions) else None

    def reset_critics(self) -> None:  # noqa: B027 (nothing, for most algorithms)
        """Draw the outputs of critics anew, when the heads were."""

    def cut_critics(self, density: float) -> None:  # noqa: B027 (nothing, for most algorithms)
        """Cut the smallest weights of critics, until this share of each layer is left."""

    def last_transitions(self) -> Scored | None:
        """The decisions of this update, for those that look at them; None without any."""
        seen = self.recent.transitions(self.target)
        self.recent.forget()
        return seen

    def _looks_at(self, updates: int) -> bool:
        """Whether the decisions of the update with this number, from 1, may be looked at."""
        # While an update plays, nobody knows how many decisions it will have: the most that can be.
        most = self.progress.steps + self.config.rollout_steps * sum(self.config.copies)
        share = most / self.schedule.planned
        scored = self.pathways is not None and self.pathways.due(updates, share)
        return scored or self.care.due(updates)

    def _cut_synapses(self, share: float) -> None:
        pruning = self.config.pruning
        if self.pathways is not None or not pruning.layers:
            return
        if not self.cuts.due(self.progress.updates, share):
            return
        self.cuts.make(self.network, self.target, share)
        if pruning.scope == "critics":
            self.cut_critics(pruning.density_at(share))
        if self.cost is not None:
            self.cost.recount(self.network)

    def notes(self) -> list[str]:
        """What a user should know of the network that was learned, a line each."""
        said = [] if self.pathways is None else self.pathways.notes(self.network)
        deaf = deaf_tasks(self.network, self.tasks) if self.config.pruning.layers else []
        return said + [
            f"{self.config.games[task]}: the synapses that are left connect no input with the "
            "answer, which is always the same; raise pruning.density, or widen the layers"
            for task in deaf
        ]

    def measurements(self) -> dict[str, dict[str, float | None]]:
        """What an update measured beside its loss, by name and then by game or layer."""
        measured: dict[str, dict[str, float | None]] = {}
        if self.cost is not None:
            measured["operations"] = self.cost.means()
        if self.config.network.masked_layers:
            measured["density"] = {
                name: round(density(self.network, name), 4)
                for name in self.config.network.masked_layers
            }
        if self.pathways is not None:
            measured |= self.pathways.measurements(self.network)
        measured |= self.care.measurements()
        exchanged = self.cuts.exchanged()
        if exchanged:
            measured["exchanged"] = {name: float(count) for name, count in exchanged.items()}
        return measured

    def agent(self) -> Agent:
        """The agent as it is now, ready to be saved and evaluated."""
        # Agents are saved by the clock: the random numbers of training must not depend on it.
        with torch.random.fork_rng(devices=[]):
            network = MTSparkNetwork(self.config.network)
        network.load_state_dict(self.network.state_dict())
        training = {
            "config": config_to_json(self.config),
            "steps": self.progress.steps,
            "episodes": self.games.episodes,
            "training_returns": self.games.mean_returns(),
        }
        if success := self.games.success_rates():
            training["training_success"] = success
        protocol = None if self.config.worlds else self.config.protocol
        return Agent(network.eval(), self.games.tasks, protocol, training)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "steps": self.progress.steps,
            "updates": self.progress.updates,
            "generator": json.dumps(self.generator.bit_generator.state),
            "torch_generator": torch.get_rng_state(),
            **self.cuts.state(),
            **self.care.state(),
            **({} if self.pathways is None else self.pathways.state()),
            **({} if self.alone is None else self.alone.state()),
            **({} if self.recall is None else self.recall.state()),
            **({"teachers": fingerprints(self.teachers)} if any(self.teachers) else {}),
            **self.random_actions.state(),
            **self.games.state(),
        }

    def restore(
        self, state: dict[str, Any], on_decision: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[str, ...]:
        """Resume from :meth:`state`: play the running episodes again, then go on as before it.

        A state of a version that kept no episodes starts its games afresh, from seeds of the
        run's seed and its step.

        Args:
            state: of a trainer of this configuration.
            on_decision: called with the decisions of the replay that are done and those to do.

        Returns:
            What a user should know of it, a line each; normally nothing.

        Raises:
            BadRequestError: a teacher is another one than before.
        """
        self._check_teachers(state.get("teachers"))
        check_finite(state["network"])
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.restore(state["schedule"])
        self.progress.steps = state["steps"]
        self.progress.updates = state["updates"]
        self.cuts.restore(state)
        self.care.restore(state)
        if self.pathways is not None:
            self.pathways.restore(state, self.device)
        if self.alone is not None:
            self.alone.restore(state, self.device)
        if self.cost is not None:
            self.cost.recount(self.network)
        self._learned_task = self.active[0]
        self.games.restore(state)
        if self.finished:
            return ()  # Nobody plays on.
        if "running" not in state:
            self.restart_games()
            return ("the checkpoint is of a version that kept no running games: they start afresh",)
        others = self.games.replay(state, on_decision)
        if self.recall is not None and not others:
            self.recall.restore(state)
        self.generator.bit_generator.state = json.loads(state["generator"])
        torch.set_rng_state(state["torch_generator"])
        self.random_actions.restore(state)
        if others:
            return (
                f"{', '.join(others)}: the running games took another course than before the "
                "stop (another version of ale-py?): they start afresh",
            )
        return ()

    def _check_teachers(self, before: list[str] | None) -> None:
        """Check that teachers are those of before; older checkpoints do not say which they had."""
        rows = zip(self.config.teachers, fingerprints(self.teachers), before or (), strict=False)
        for path, now, then in rows:
            if now != then:
                raise BadRequestError(
                    f"teachers: {path} is another agent than this run has learned from; put the "
                    "old one back, or choose another folder for a new run"
                )

    def save_experience(self, folder: Path) -> None:  # noqa: B027 (nothing, for most algorithms)
        """Save what is too large for the state into a new folder."""

    def load_experience(self, folder: Path, state: dict[str, Any]) -> None:  # noqa: B027
        """Load what :meth:`save_experience` saved with a state."""

"""What every training run shares: networks, games, exploration, progress, its saved state."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtspark.core.environments.atari import task_for_game
from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.agent import Agent, load_agent
from mtspark.train.config.games import TrainConfig
from mtspark.train.networks.network import MTSparkNetwork, legal_action_mask, mask_illegal
from mtspark.train.quantised.integers import TwinOptions
from mtspark.train.quantised.twin import Twin
from mtspark.train.rl.collect import Step, TaskGames, random_frames
from mtspark.train.rl.distil import load_teachers
from mtspark.train.rl.schedule import Schedule
from mtspark.train.runs.setup import prepare_torch


def rescale(value: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x (Pohlen et al. 2018, arXiv:1805.11593)."""
    return value.sign() * ((value.abs() + 1).sqrt() - 1) + 1e-3 * value


def unscale(value: Tensor) -> Tensor:
    """The inverse of :func:`rescale`."""
    eps = 1e-3
    root = (1 + 4 * eps * (value.abs() + 1 + eps)).sqrt()
    return value.sign() * (((root - 1) / (2 * eps)) ** 2 - 1)


def start_network(config: TrainConfig, tasks: tuple[Task, ...]) -> MTSparkNetwork:
    """The network that a run begins with: new, or that of `config.start_from`.

    Raises:
        BadFileError: the agent cannot be read.
        BadRequestError: it plays other games, or its network has other sizes.
    """
    if not config.start_from:
        network = MTSparkNetwork(config.network)
        if config.network.context == "prototype":
            network.context.set_prototypes(
                [random_frames(task, config.training_protocol, config.seed) for task in tasks]
            )
        return network
    agent = load_agent(Path(config.start_from))
    if [task.game for task in agent.tasks] != [task.game for task in tasks]:
        known = ", ".join(task.game for task in agent.tasks)
        raise BadRequestError(
            f"start_from: {config.start_from} plays {known}, this run {', '.join(config.games)}"
        )
    if agent.network.config != config.network:
        raise BadRequestError(
            f"start_from: the network of {config.start_from} has other sizes than this run's; "
            "copy its [network] fields"
        )
    return agent.network


def check_actions(tasks: tuple[Task, ...], config: TrainConfig) -> None:
    """Check that the head has an output for every action of the games.

    Raises:
        BadRequestError: it has not.
    """
    for task in tasks:
        needed = max(task.legal_actions) + 1
        if needed > config.network.actions:
            raise BadRequestError(
                f"network.actions is {config.network.actions}, {task.name} needs {needed}; "
                "18 serve every game"
            )


@dataclass
class Progress:
    """What a run has reached."""

    steps: int = 0
    updates: int = 0


@dataclass(frozen=True)
class Turn:
    """One decision of all active games, as tensors and arrays over all their copies.

    Attributes:
        frames: uint8 (copies, stack, height, width), before the decision.
        greedy: (copies,) best actions.
        actions: (copies,) actions that were played.
        rewards: (copies,) as they are learned.
        steps: of each active game, what came of it.
    """

    frames: Tensor
    greedy: Tensor
    actions: Tensor
    rewards: Tensor
    steps: tuple[Step, ...]

    def joined(self, name: str) -> Tensor:
        """A field of all steps, concatenated over games."""
        return torch.from_numpy(np.concatenate([getattr(step, name) for step in self.steps]))


class Trainer(ABC):
    """One training run: call :meth:`update` until :attr:`finished`."""

    def __init__(self, config: TrainConfig) -> None:
        self.device = prepare_torch(config.device, config.seed, config.threads)
        self.config = config
        self.tasks: tuple[Task, ...] = tuple(task_for_game(game) for game in config.games)
        check_actions(self.tasks, config)
        self.network = start_network(config, self.tasks)
        for convolution in self.network.convolutions:
            # Module.to(memory_format) is missing from torch's type stubs.
            convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.compiled = config.compiled
        self.network.to(self.device)
        self.target = copy.deepcopy(self.network).eval()
        options = TwinOptions(weight_bits=config.weight_bits)
        # What acts and learns in a network's place.
        self.twins = (
            {network: Twin(network, options) for network in (self.network, self.target)}
            if config.quantisation_aware
            else {}
        )
        self.optimizer = torch.optim.RAdam(self.network.parameters(), lr=config.learning_rate)
        self.mask = legal_action_mask(
            [task.legal_actions for task in self.tasks], config.network.actions
        ).to(self.device)
        self.teachers = load_teachers(config.teachers, self.tasks, config.network, config.protocol)
        for teacher in self.teachers:
            if teacher is not None:
                teacher[0].to(self.device)
        self.schedule = Schedule(config)
        self.progress = Progress()
        self._learned_task = self.active[0]
        self.games = [
            TaskGames(task, config.training_protocol, copies, config.threads)
            for task, copies in zip(self.tasks, config.copies, strict=True)
        ]
        self.restart_games()

    @abstractmethod
    def update(self) -> float:
        """Play for a while, learn from it; return the mean loss."""

    @property
    def finished(self) -> bool:
        """All planned steps are played."""
        return self.progress.steps >= self.config.total_steps

    @property
    def epsilon(self) -> float:
        """Exploration now."""
        played, planned = self.schedule.stretch(self.progress.steps, self.active[0])
        done = played / (planned * self.config.exploration_fraction)
        return max(1 - done * (1 - self.config.final_exploration), self.config.final_exploration)

    def exploration_rates(self) -> NDArray[np.float64]:
        """(copies,) exploration of every copy that plays now."""
        rates = []
        for index in self.active:
            copies, now = self.games[index].copies, self.epsilon
            ladder = self.config.exploration_ladder
            highest = ladder[index] if ladder else 0.0
            if not highest:
                rates.append(np.full(copies, now))
                continue
            spread = np.geomspace(highest, highest / 100, copies)
            falling = now > self.config.final_exploration
            rates.append(np.maximum(spread, now) if falling else spread)
        return np.concatenate(rates)

    @property
    def active(self) -> tuple[int, ...]:
        """Indices of the tasks that play now."""
        return self.schedule.active(self.progress.steps)

    @property
    def episodes(self) -> int:
        """Finished episodes of all games."""
        return sum(game.episodes for game in self.games)

    def mean_returns(self) -> dict[str, float | None]:
        """Mean unclipped return of each game's last episodes, None before the first."""
        return {game.task.name: game.mean_return() for game in self.games}

    def restart_games(self) -> None:
        """Start every game afresh, from seeds that depend on the run's seed and its step."""
        seeds = np.random.SeedSequence([self.config.seed, self.progress.steps])
        self.generator = np.random.default_rng(seeds)
        for game, seed in zip(
            self.games, self.generator.integers(0, 2**30, size=len(self.games)), strict=True
        ):
            game.restart(int(seed))
        torch.manual_seed(int(self.generator.integers(0, 2**30)))

    def task_of_copy(self) -> Tensor:
        """(copies,) task index of every copy that plays now."""
        active = self.active
        copies = torch.tensor([self.games[index].copies for index in active])
        return torch.tensor(active).repeat_interleave(copies).to(self.device)

    def observe(self) -> Tensor:
        """(copies, stack, height, width) frames of all games that play now."""
        return torch.cat([self.games[index].frames for index in self.active]).to(self.device)

    def values(self, network: MTSparkNetwork, frames: Tensor, task: Tensor) -> Tensor:
        """(batch, actions) values; illegal actions are out of reach of any maximum."""
        if network in self.twins:
            return mask_illegal(self.twins[network](frames, task).float(), self.mask[task])
        kind, enabled = self.device.type, self.config.bfloat16
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled):
            return mask_illegal(network(frames, task), self.mask[task])

    @torch.no_grad()
    def play(self) -> Turn:
        """One epsilon-greedy decision of every active game."""
        self.network.eval()
        frames, task = self.observe(), self.task_of_copy()
        best = self.values(self.network, frames, task).argmax(1)
        chosen = best.cpu().numpy().copy()
        explore = self.generator.random(len(chosen)) < self.exploration_rates()
        owner = task.cpu().numpy()
        for copy_index in np.flatnonzero(explore):
            legal = self.tasks[owner[copy_index]].legal_actions
            chosen[copy_index] = self.generator.choice(legal)
        active = [self.games[index] for index in self.active]
        borders = np.cumsum([game.copies for game in active])[:-1]
        for game, actions in zip(active, np.split(chosen, borders), strict=True):
            game.send(actions)
        steps = tuple(
            game.receive(life_loss_is_terminal=self.config.life_loss_is_terminal) for game in active
        )
        rewards = [
            self._learned(index, step.rewards)
            for index, step in zip(self.active, steps, strict=True)
        ]
        return Turn(
            frames, best, torch.from_numpy(chosen), torch.from_numpy(np.concatenate(rewards)), steps
        )

    def _learned(self, task: int, rewards: NDArray[np.float64]) -> NDArray[np.float32]:
        if self.config.clipped[task]:
            return np.sign(rewards).astype(np.float32)
        scales = self.config.reward_scales
        return (rewards * (scales[task] if scales else 1.0)).astype(np.float32)

    def count(self, decisions: int, episodes_before: int) -> None:
        """Note an update that has played so many decisions."""
        # They are learned next, by the fall of their own task, whoever's turn comes then.
        self._learned_task = self.active[0]
        self.progress.steps += decisions
        self.progress.updates += 1
        self.schedule.after_update(decisions, self.episodes - episodes_before, self.network)

    def set_learning_rate(self) -> None:
        """The linear fall of the learning rate."""
        fraction = self._falling_to(self.config.final_learning_rate_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * fraction

    @property
    def distillation_weight(self) -> float:
        """Of a taught game's lesson, now."""
        fraction = self._falling_to(self.config.final_distillation_fraction)
        return self.config.distillation_weight * fraction

    def _falling_to(self, floor: float) -> float:
        played, planned = self.schedule.stretch(self.progress.steps, self._learned_task)
        remaining = 1 - played / planned
        return max(floor + (1 - floor) * remaining, floor)

    def step_optimizer(self, loss: Tensor) -> None:
        """One step down the gradient, clipped."""
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_norm)
        self.optimizer.step()

    def agent(self) -> Agent:
        """The agent as it is now, ready to be saved and evaluated."""
        # Agents are saved by the clock: the random numbers of training must not notice.
        with torch.random.fork_rng(devices=[]):
            network = MTSparkNetwork(self.config.network)
        network.load_state_dict(self.network.state_dict())
        training = {
            "config": asdict(self.config),
            "steps": self.progress.steps,
            "episodes": self.episodes,
            "training_returns": self.mean_returns(),
        }
        return Agent(network.eval(), self.tasks, self.config.protocol, training)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "steps": self.progress.steps,
            "updates": self.progress.updates,
            "episodes": [game.episodes for game in self.games],
            "returns": [list(game.returns) for game in self.games],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`; games start afresh, as they do at every checkpoint."""
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.restore(state["schedule"])
        self.progress.steps = state["steps"]
        self.progress.updates = state["updates"]
        self._learned_task = self.active[0]
        for game, episodes, returns in zip(
            self.games, state["episodes"], state["returns"], strict=True
        ):
            game.episodes = episodes
            game.returns.extend(returns)
        self.restart_games()

    def save_experience(self, folder: Path) -> None:  # noqa: B027 (nothing, for most algorithms)
        """Save what is too large for the state into a new folder."""

    def load_experience(self, folder: Path, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what :meth:`save_experience` saved with a state."""

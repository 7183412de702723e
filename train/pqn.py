"""PQN for spiking networks: vectorised games, no replay, a soft target network."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtspark.core.errors import BadRequestError
from mtspark.core.games import make_games, task_for_game
from mtspark.core.protocol import Task
from mtspark.train.checkpoint import Agent, load_agent
from mtspark.train.config import TrainConfig
from mtspark.train.network import MTSparkNetwork, legal_action_mask, mask_illegal

RETURN_WINDOW = 30


def rescale(value: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x (Pohlen et al. 2018, arXiv:1805.11593)."""
    return value.sign() * ((value.abs() + 1).sqrt() - 1) + 1e-3 * value


def unscale(value: Tensor) -> Tensor:
    """The inverse of :func:`rescale`."""
    eps = 1e-3
    root = (1 + 4 * eps * (value.abs() + 1 + eps)).sqrt()
    return value.sign() * (((root - 1) / (2 * eps)) ** 2 - 1)


def lambda_returns(
    rewards: Tensor, terminated: Tensor, finished: Tensor, next_values: Tensor, config: TrainConfig
) -> Tensor:
    """Lambda returns of a rollout, all tensors (steps, games).

    G_t = r_t + gamma (1 - terminated_t) [(1 - lambda) V_{t+1} + lambda G_{t+1}]; where an
    episode finished, or at the end of the rollout, V_{t+1} stands in for G_{t+1}.
    """
    returns = torch.empty_like(rewards)
    following = next_values[-1]
    for step in reversed(range(rewards.shape[0])):
        mixed = torch.lerp(next_values[step], following, config.trace)
        mixed = torch.where(finished[step], next_values[step], mixed)
        following = rewards[step] + config.discount * mixed * (~terminated[step]).float()
        returns[step] = following
    return returns


def load_teachers(
    paths: tuple[str, ...], tasks: tuple[Task, ...]
) -> list[tuple[MTSparkNetwork, int] | None]:
    """Load each game's teacher and the index of the game among the teacher's own tasks.

    Raises:
        BadFileError: a teacher's file cannot be read.
        BadRequestError: not one entry a game, or a teacher that does not know its game.
    """
    if not paths:
        return [None] * len(tasks)
    if len(paths) != len(tasks):
        raise BadRequestError(f"{len(paths)} teachers for {len(tasks)} games; give one each")
    teachers: list[tuple[MTSparkNetwork, int] | None] = []
    for path, task in zip(paths, tasks, strict=True):
        if not path:
            teachers.append(None)
            continue
        agent = load_agent(Path(path))
        known = [entry.game for entry in agent.tasks]
        if task.game not in known:
            raise BadRequestError(f"{path}: knows {', '.join(known)}, cannot teach {task.game}")
        teachers.append((agent.network, known.index(task.game)))
    return teachers


@dataclass
class Progress:
    """What a run has reached."""

    steps: int = 0
    updates: int = 0
    episodes: int = 0
    returns: dict[str, deque[float]] = field(default_factory=dict)

    def mean_returns(self) -> dict[str, float | None]:
        """Mean unclipped return of each game's last episodes, None before the first."""
        return {
            name: round(float(np.mean(window)), 2) if window else None
            for name, window in self.returns.items()
        }


class Trainer:
    """One training run: call :meth:`update` until :attr:`finished`."""

    def __init__(self, config: TrainConfig) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.tasks: tuple[Task, ...] = tuple(task_for_game(game) for game in config.games)
        self.network = MTSparkNetwork(config.network)
        for convolution in self.network.convolutions:
            # Module.to(memory_format) is missing from torch's type stubs.
            convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.compiled = config.compiled
        self.target = copy.deepcopy(self.network)
        self.optimizer = torch.optim.RAdam(self.network.parameters(), lr=config.learning_rate)
        self.mask = legal_action_mask(
            [task.legal_actions for task in self.tasks], config.network.actions
        )
        self.progress = Progress(
            returns={task.name: deque(maxlen=RETURN_WINDOW) for task in self.tasks}
        )
        self.task_of_game = torch.arange(len(self.tasks)).repeat_interleave(
            torch.tensor(config.copies)
        )
        self.teachers = load_teachers(config.teachers, self.tasks)
        self.taught = torch.tensor([teacher is not None for teacher in self.teachers])
        self.generator = np.random.default_rng(config.seed)
        self.restart_games()

    @property
    def finished(self) -> bool:
        """All planned steps are played."""
        return self.progress.steps >= self.config.total_steps

    @property
    def epsilon(self) -> float:
        """Exploration now."""
        done = self.progress.steps / (self.config.total_steps * self.config.exploration_fraction)
        return max(1 - done * (1 - self.config.final_exploration), self.config.final_exploration)

    def restart_games(self) -> None:
        """Start every game afresh, from seeds that depend on the run's seed and its step."""
        config = self.config
        self.envs = [
            make_games(task, config.protocol, copies, num_threads=config.threads)
            for task, copies in zip(self.tasks, config.copies, strict=True)
        ]
        seeds = np.random.SeedSequence([config.seed, self.progress.steps])
        self.generator = np.random.default_rng(seeds)
        first = self.generator.integers(0, 2**30, size=len(self.envs))
        frames = [env.reset(seed=int(seed))[0] for env, seed in zip(self.envs, first, strict=True)]
        self.frames = torch.from_numpy(np.concatenate(frames))
        self.was_done = np.zeros(len(self.frames), dtype=bool)
        self.lives = np.zeros(len(self.frames), dtype=np.int64)
        self.running_return = np.zeros(len(self.frames))

    def update(self) -> float:
        """Play one rollout, learn from it; return the mean loss."""
        rollout = self._play()
        with torch.no_grad():
            targets = self._targets(rollout)
        loss = self._learn(rollout, targets)
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, self.config.target_rate)
        self.progress.updates += 1
        return loss

    def _values(self, network: MTSparkNetwork, frames: Tensor, task: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bfloat16):
            return mask_illegal(network(frames, task), self.mask[task])

    def _step_games(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        per_task = np.split(actions, np.cumsum(self.config.copies)[:-1])
        for env, chosen in zip(self.envs, per_task, strict=True):
            env.send(chosen)
        received = [env.recv() for env in self.envs]
        results = [(*parts, info["lives"]) for *parts, info in received]
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))

    @torch.no_grad()
    def _play(self) -> dict[str, Tensor]:
        config, games = self.config, len(self.frames)
        frames, actions, rewards, terminated, finished, valid, greedy = ([] for _ in range(7))
        for _ in range(config.rollout_steps):
            best = self._values(self.network, self.frames, self.task_of_game).argmax(1)
            explore = self.generator.random(games) < self.epsilon
            chosen = best.numpy().copy()
            for game in np.flatnonzero(explore):
                legal = self.tasks[int(self.task_of_game[game])].legal_actions
                chosen[game] = self.generator.choice(legal)
            observation, reward, done, cut, lives = self._step_games(chosen)
            lost_life = (lives < self.lives) & ~self.was_done
            self.lives = lives.astype(np.int64)
            terminal = done | lost_life if config.life_loss_is_terminal else done
            frames.append(self.frames)
            greedy.append(best)
            actions.append(torch.from_numpy(chosen))
            rewards.append(torch.from_numpy(np.sign(reward).astype(np.float32)))
            terminated.append(torch.from_numpy(terminal.copy()))
            finished.append(torch.from_numpy(terminal | cut))
            valid.append(torch.from_numpy(~self.was_done))
            self._count_returns(reward, done | cut)
            self.frames = torch.from_numpy(observation.copy())
        self.progress.steps += games * config.rollout_steps
        last_best = self._values(self.network, self.frames, self.task_of_game).argmax(1)
        return {
            "frames": torch.stack(frames),
            "next_frames": torch.stack([*frames[1:], self.frames]),
            "next_greedy": torch.stack([*greedy[1:], last_best]),
            "actions": torch.stack(actions),
            "rewards": torch.stack(rewards),
            "terminated": torch.stack(terminated),
            "finished": torch.stack(finished),
            "valid": torch.stack(valid),
        }

    def _count_returns(self, reward: np.ndarray, done: np.ndarray) -> None:
        self.running_return = np.where(self.was_done, 0.0, self.running_return + reward)
        for game in np.flatnonzero(done):
            name = self.tasks[int(self.task_of_game[game])].name
            self.progress.returns[name].append(float(self.running_return[game]))
            self.progress.episodes += 1
        self.was_done = done

    def _targets(self, rollout: dict[str, Tensor]) -> Tensor:
        """Double Q: the online network picks the next action, the target network values it."""
        next_values = torch.stack(
            [
                self._values(self.target, frames, self.task_of_game)
                .gather(1, best[:, None])
                .squeeze(1)
                for frames, best in zip(rollout["next_frames"], rollout["next_greedy"], strict=True)
            ]
        )
        if self.config.rescale_values:
            next_values = unscale(next_values)
        returns = lambda_returns(
            rollout["rewards"], rollout["terminated"], rollout["finished"], next_values, self.config
        )
        return rescale(returns) if self.config.rescale_values else returns

    def _learn(self, rollout: dict[str, Tensor], targets: Tensor) -> float:
        config = self.config
        remaining = 1 - self.progress.steps / config.total_steps
        floor = config.final_learning_rate_fraction
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * max(floor + (1 - floor) * remaining, floor)
        frames = rollout["frames"].flatten(0, 1)
        actions = rollout["actions"].flatten()
        valid = rollout["valid"].flatten().float()
        goals = targets.flatten()
        tasks = self.task_of_game.repeat(config.rollout_steps)
        advice = self._advice(frames, tasks) if bool(self.taught.any()) else None
        size = len(goals) // config.minibatches
        losses = []
        for _ in range(config.epochs):
            order = torch.from_numpy(self.generator.permutation(len(goals)))
            for chunk in order[: size * config.minibatches].split(size):
                values = self._values(self.network, frames[chunk], tasks[chunk])
                error = values.gather(1, actions[chunk][:, None]).squeeze(1) - goals[chunk]
                taught = self.taught[tasks[chunk]]
                losses_each = 0.5 * error * error
                if advice is not None:
                    losses_each = torch.where(
                        taught, self._distillation(values, advice[chunk]), losses_each
                    )
                weight = valid[chunk]
                loss = (weight * losses_each).sum() / weight.sum().clamp(min=1)
                self.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_norm)
                self.optimizer.step()
                losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def _advice(self, frames: Tensor, tasks: Tensor) -> Tensor:
        """The teachers' action values, (decisions, actions); zeros where there is no teacher."""
        advice = torch.zeros(len(frames), self.config.network.actions)
        for index, teacher in enumerate(self.teachers):
            if teacher is None:
                continue
            network, own_task = teacher
            for chunk in torch.nonzero(tasks == index).squeeze(1).split(512):
                asked = torch.full((len(chunk),), own_task)
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bfloat16):
                    values = network(frames[chunk], asked)
                advice[chunk] = mask_illegal(values, self.mask[tasks[chunk]])
        return advice

    def _distillation(self, values: Tensor, advice: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the student's softmax policy from the teacher's."""
        warmth = self.config.distillation_temperature
        wanted = functional.log_softmax(advice / warmth, dim=1)
        given = functional.log_softmax(values / warmth, dim=1)
        divergence = (wanted.exp() * (wanted - given)).sum(1)
        return self.config.distillation_weight * warmth * divergence

    def agent(self) -> Agent:
        """The agent as it is now, ready to be saved and evaluated."""
        network = MTSparkNetwork(self.config.network)
        network.load_state_dict(self.network.state_dict())
        training = {
            "config": asdict(self.config),
            "steps": self.progress.steps,
            "episodes": self.progress.episodes,
            "training_returns": self.progress.mean_returns(),
        }
        return Agent(network.eval(), self.tasks, self.config.protocol, training)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.progress.steps,
            "updates": self.progress.updates,
            "episodes": self.progress.episodes,
            "returns": {name: list(window) for name, window in self.progress.returns.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`; games start afresh, as they do at every checkpoint."""
        self.network.load_state_dict(state["network"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress.steps = state["steps"]
        self.progress.updates = state["updates"]
        self.progress.episodes = state["episodes"]
        for name, values in state["returns"].items():
            self.progress.returns[name].extend(values)
        self.restart_games()

"""The games while an agent learns: steps, lost lives, true returns, rewards as learned."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtspark.core.arrays import Booleans, Floats, Integers, Singles
from mtspark.core.environments import GameProtocol, Task, make_games
from mtspark.train.config import TrainConfig

RETURN_WINDOW = 30
"""A mean return is that of this many last episodes."""


def random_frames(task: Task, protocol: GameProtocol, seed: int, decisions: int = 64) -> Tensor:
    """Frames of four copies of a game under random play.

    Returns:
        uint8 (4 * decisions, stack, height, width).
    """
    generator = np.random.default_rng(seed)
    games = TaskGames(task, protocol, 4, 1)
    games.restart(int(generator.integers(0, 2**30)))
    frames = []
    for _ in range(decisions):
        frames.append(games.frames)
        games.send(generator.choice(task.legal_actions, size=games.copies))
        games.receive(life_loss_is_terminal=False)
    return torch.cat(frames)


@dataclass(frozen=True)
class Step:
    """One decision of all copies of a game; arrays of length copies.

    Attributes:
        rewards: the game's own, unclipped.
        terminal: the learned return ends here.
        finished: as `terminal`, or the episode was truncated.
        valid: False for the step that only restarts a finished game.
    """

    rewards: Floats
    terminal: Booleans
    finished: Booleans
    valid: Booleans


class TaskGames:
    """Copies of one game that step together.

    Attributes:
        task: the game.
        frames: uint8 (copies, stack, height, width), what the next decision sees.
        returns: unclipped returns of the last finished episodes.
        episodes: finished since the run began.
    """

    def __init__(self, task: Task, protocol: GameProtocol, copies: int, threads: int) -> None:
        self.task = task
        self.copies = copies
        self.returns: deque[float] = deque(maxlen=RETURN_WINDOW)
        self.episodes = 0
        self._protocol, self._threads = protocol, threads

    def restart(self, seed: int) -> None:
        """Start every copy afresh."""
        self._games = make_games(self.task, self._protocol, self.copies, num_threads=self._threads)
        self.frames: Tensor = torch.from_numpy(self._games.reset(seed=seed)[0].copy())
        self._was_done = np.zeros(self.copies, dtype=bool)
        self._lives = np.zeros(self.copies, dtype=np.int64)
        self._running_return = np.zeros(self.copies)

    def send(self, actions: Integers) -> None:
        """Begin a step; other games may begin theirs before :meth:`receive`."""
        self._games.send(actions)

    def receive(self, *, life_loss_is_terminal: bool) -> Step:
        """End the step that :meth:`send` began; `frames` are then the next ones."""
        frames, rewards, ended, cut, info = self._games.recv()
        self.frames = torch.from_numpy(frames.copy())
        rewards = np.asarray(rewards, dtype=np.float64)
        lives = np.asarray(info["lives"], dtype=np.int64)
        valid = ~self._was_done
        lost = (lives < self._lives) & valid
        terminal = (ended | lost) if life_loss_is_terminal else ended.copy()
        self._lives = lives
        self._running_return = np.where(valid, self._running_return + rewards, 0.0)
        self._was_done = ended | cut
        for copy in np.flatnonzero(self._was_done):
            self.returns.append(float(self._running_return[copy]))
            self.episodes += 1
        return Step(rewards, terminal, terminal | cut, valid)

    def mean_return(self) -> float | None:
        """Mean unclipped return of the last episodes, None before the first."""
        return round(float(np.mean(self.returns)), 2) if self.returns else None


class Games:
    """The games of all tasks of a run, in the order of its tasks."""

    def __init__(self, config: TrainConfig, tasks: tuple[Task, ...]) -> None:
        self.config = config
        self.of_tasks = [
            TaskGames(task, config.training_protocol, copies, config.threads)
            for task, copies in zip(tasks, config.copies, strict=True)
        ]

    def __iter__(self) -> Iterator[TaskGames]:
        return iter(self.of_tasks)

    def __getitem__(self, task: int) -> TaskGames:
        return self.of_tasks[task]

    @property
    def episodes(self) -> int:
        """Finished episodes of all games."""
        return sum(game.episodes for game in self.of_tasks)

    def mean_returns(self) -> dict[str, float | None]:
        """Mean unclipped return of each game's last episodes, None before the first."""
        return {game.task.name: game.mean_return() for game in self.of_tasks}

    def restart(self, generator: np.random.Generator) -> None:
        """Start every copy of every game afresh."""
        seeds = generator.integers(0, 2**30, size=len(self.of_tasks))
        for game, seed in zip(self.of_tasks, seeds, strict=True):
            game.restart(int(seed))

    def frames(self, active: tuple[int, ...]) -> Tensor:
        """uint8 (copies, stack, height, width) of all copies of the active tasks."""
        return torch.cat([self.of_tasks[index].frames for index in active])

    def task_of_copy(self, active: tuple[int, ...]) -> Tensor:
        """(copies,) task index of every copy of the active tasks."""
        copies = torch.tensor([self.of_tasks[index].copies for index in active])
        return torch.tensor(active).repeat_interleave(copies)

    def step(self, active: tuple[int, ...], actions: Integers) -> tuple[Step, ...]:
        """Play one decision of every copy of the active tasks, which step at the same time.

        Args:
            active: task indices.
            actions: (copies,).

        Returns:
            A step of each active task.
        """
        playing = [self.of_tasks[index] for index in active]
        borders = np.cumsum([game.copies for game in playing])[:-1]
        for game, part in zip(playing, np.split(actions, borders), strict=True):
            game.send(part)
        return tuple(
            game.receive(life_loss_is_terminal=self.config.life_loss_is_terminal)
            for game in playing
        )

    def learned_rewards(self, active: tuple[int, ...], steps: tuple[Step, ...]) -> Singles:
        """(copies,) rewards of a decision as they are learned: their sign, or scaled."""
        rewards, scales = [], self.config.reward_scales
        for task, step in zip(active, steps, strict=True):
            if self.config.clipped[task]:
                rewards.append(np.sign(step.rewards).astype(np.float32))
            else:
                scaled = step.rewards * (scales[task] if scales else 1.0)
                rewards.append(scaled.astype(np.float32))
        return np.concatenate(rewards)

    def state(self) -> dict[str, Any]:
        """Plain values that :meth:`restore` takes."""
        return {
            "episodes": [game.episodes for game in self.of_tasks],
            "returns": [list(game.returns) for game in self.of_tasks],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the counts of :meth:`state` back."""
        for game, episodes, returns in zip(
            self.of_tasks, state["episodes"], state["returns"], strict=True
        ):
            game.episodes = episodes
            game.returns.extend(returns)

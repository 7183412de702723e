"""The games of one task while an agent learns: steps, lost lives, true returns."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtspark.core.environments.atari import make_games
from mtspark.core.environments.protocol import GameProtocol, Task

RETURN_WINDOW = 30
"""Mean returns are those of this many last episodes."""


def random_frames(task: Task, protocol: GameProtocol, seed: int, decisions: int = 64) -> Tensor:
    """uint8 (4 * decisions, stack, height, width): what four copies show under random play."""
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
        terminal: the return that is learned ends here.
        finished: as `terminal`, or the episode was cut off.
        valid: False for the step that only restarts a finished game.
    """

    rewards: NDArray[np.float64]
    terminal: NDArray[np.bool_]
    finished: NDArray[np.bool_]
    valid: NDArray[np.bool_]


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

    def send(self, actions: NDArray[np.int64]) -> None:
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

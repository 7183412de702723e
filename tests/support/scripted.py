"""Games that follow a script, for trainers whose every number a test knows beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.train.config.games import TrainConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.rl import collect as games
from mtspark.train.rl import trainer as trainer_module

LEGAL = {"pong": (0, 3), "breakout": (1, 2, 5)}
SMALL = TrainConfig(
    games=("pong", "breakout"),
    total_steps=1000,
    games_per_task=(2,),
    rollout_steps=6,
    minibatches=2,
    bfloat16=False,
    protocol=GameProtocol(frame_stack=1, screen_size=8),
    network=NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=5, actions=6, tasks=2),
)


class ScriptedGames:
    """Two copies of a game: copy 0 ends at its third step, copy 1 is cut off at its fourth."""

    def __init__(self, task: Task) -> None:
        self.task, self.count = task, 0
        self.actions: list[np.ndarray] = []
        self.noise = np.random.default_rng(len(task.name))

    def frames(self) -> np.ndarray:
        return self.noise.integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        self.count = 0
        return self.frames(), self.info()

    def info(self) -> dict[str, Any]:
        """Copy 1 loses a life at its second step."""
        return {"lives": np.array([3, 2 if 2 <= self.count < 5 else 3])}

    def send(self, actions: np.ndarray) -> None:
        self.actions.append(actions.copy())
        self.count += 1

    def recv(self) -> tuple[Any, ...]:
        terminated = np.array([self.count == 3, False])
        truncated = np.array([False, self.count == 4])
        # The reward of the step that resets a game is the one that must not count.
        reward = np.array([0.0 if self.count == 4 else 5.0, -3.0])
        return self.frames(), reward, terminated, truncated, self.info()


def script_games(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainers play :class:`ScriptedGames` as Pong and as Breakout."""
    known = {name: Task(name, name, legal) for name, legal in LEGAL.items()}
    monkeypatch.setattr(trainer_module, "task_for_game", known.__getitem__)
    monkeypatch.setattr(games, "make_games", lambda task, *_, **__: ScriptedGames(task))

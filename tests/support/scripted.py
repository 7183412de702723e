"""Games that follow a script, for trainers whose every number a test knows beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.train.config.games import TrainConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.rl import collect as games
from mtspark.train.rl import start as start_module

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
    """Two copies of a game: copy 0 ends at its third step, copy 1 is cut off at its fourth.

    That is so of their first episodes; later ones never end. What is seen is a function of the
    episode's seed and its length, as of a real game.
    """

    num_envs = 2

    def __init__(self, task: Task) -> None:
        self.task = task
        self.actions: list[np.ndarray] = []
        self.seeds, self.age = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
        self.done = np.zeros(2, dtype=bool)
        self.firsts: np.ndarray | None = None

    def frames(self) -> np.ndarray:
        shown = []
        for seed, age in zip(self.seeds, self.age, strict=True):
            noise = np.random.default_rng([len(self.task.name), int(seed), int(age)])
            shown.append(noise.integers(0, 256, (1, 8, 8), dtype=np.uint8))
        return np.stack(shown)

    def reset(
        self, seed: Any, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        starting = np.ones(2, dtype=bool) if options is None else options["reset_mask"]
        self.seeds[starting], self.age[starting], self.done[starting] = seed, 0, False
        if self.firsts is None:
            self.firsts = self.seeds.copy()
        return self.frames(), self.info()

    def info(self) -> dict[str, Any]:
        """Copy 1 loses a life at its second step."""
        return {"lives": np.array([3, 2 if self.scripted[1] and self.age[1] >= 2 else 3])}

    @property
    def scripted(self) -> np.ndarray:
        return self.seeds == self.firsts

    def send(self, actions: np.ndarray) -> None:
        self.actions.append(actions.copy())

    def recv(self) -> tuple[Any, ...]:
        again = self.done
        self.age = np.where(again, 0, self.age + 1)
        ends = self.scripted & ~again & (self.age == [3, 4])
        self.done = ends
        # The reward of the step that resets a game is the one that must not count.
        reward = np.array([0.0 if again[0] else 5.0, -3.0])
        return self.frames(), reward, ends & [True, False], ends & [False, True], self.info()


def script_games(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainers play :class:`ScriptedGames` as Pong and as Breakout."""
    known = {name: Task(name, name, legal) for name, legal in LEGAL.items()}
    monkeypatch.setattr(start_module, "task_for_game", known.__getitem__)
    monkeypatch.setattr(games, "make_games", lambda task, *_, **__: ScriptedGames(task))

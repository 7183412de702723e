"""Environments of Gymnasium for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mtspark.core.environments import Environment, Task, world_task

SPREAD = (0.5, 1.0, 0.1, 1.0)


def cartpole(**changes: Any) -> Task:
    """CartPole's task, with statistics."""
    task = world_task(Environment("CartPole-v1", **changes))
    assert task.environment is not None
    seen = replace(task.environment.found, mean=(0.0,) * 4, deviation=SPREAD)
    return replace(task, environment=replace(task.environment, observation=seen))


class Shows(gymnasium.Env[Any, Any]):
    """Shows a sample of any space, and takes the actions of another."""

    metadata = {"render_fps": 7}  # noqa: RUF012 (gymnasium's own form)

    def __init__(self, seen: spaces.Space[Any], taken: spaces.Space[Any] | None = None) -> None:
        self.observation_space = seen
        self.action_space = taken or spaces.Discrete(2)
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.taken.append(action)
        return self.observation_space.sample(), 1.0, False, len(self.taken) % 5 == 0, {}


def register(name: str, seen: spaces.Space[Any], taken: spaces.Space[Any] | None = None) -> None:
    """Give :class:`Shows` a name of gymnasium's; a test removes it again."""
    gymnasium.register(
        name, lambda: Shows(seen, taken), disable_env_checker=True, order_enforce=False
    )


def box(low: float, high: float, *shape: int) -> spaces.Box:
    return spaces.Box(np.full(shape, low, np.float32), np.full(shape, high, np.float32))

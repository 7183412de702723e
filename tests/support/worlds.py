"""Environments of Gymnasium for tests."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

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
        # A space draws by a generator of its own, which copies of a game must not share.
        self.observation_space = deepcopy(seen)
        self.action_space = taken or spaces.Discrete(2)
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
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


class Door(gymnasium.Env[Any, Any]):
    """Allows the actions of its state only, none at its end, and fails at others."""

    observation_space = spaces.Discrete(4)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(4))
        return self.state, {"action_mask": self.mask}

    @property
    def mask(self) -> Any:
        return np.array([(self.state + action) % 3 != 0 for action in range(3)], np.int8)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.mask[action], "an action that was not allowed"
        self.state = int(self.np_random.integers(4))
        over = bool(self.np_random.random() < 0.2)
        given = self.mask * 0 if over else self.mask
        return self.state, float(action), over, False, {"action_mask": given}


def register_two() -> None:
    """Two-v0: an environment of four numbers that takes two."""
    register("Two-v0", spaces.Box(-1, 1, (4,), np.float64), spaces.Box(-3, 1, (2,), np.float32))


def register_door() -> None:
    """Give :class:`Door` a name; a test removes it again."""
    gymnasium.register("Door-v0", Door, disable_env_checker=True, max_episode_steps=12)


def box(low: float, high: float, *shape: int) -> spaces.Box:
    return spaces.Box(np.full(shape, low, np.float32), np.full(shape, high, np.float32))


class Lock(gymnasium.Env[Any, Any]):
    """Opens for one decision, the third, if its action is the one that the seed drew."""

    observation_space = spaces.Box(-1, 1, (3,), np.float64)
    action_space = spaces.Discrete(2)
    said = "success"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.key, self.passed = int(self.np_random.integers(2)), 0
        return self._seen, {}

    @property
    def _seen(self) -> Any:
        return np.array([self.key, self.passed / 6, -self.key], np.float64)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.passed += 1
        opened = self.passed == 3 and action == self.key
        return self._seen, float(action), self.passed == 6, False, {self.said: np.float64(opened)}


class LaterLock(Lock):
    """Says it at the last decision alone, as stable-baselines3 asks for."""

    said = "is_success"

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, over, cut, info = super().step(action)
        self.opened = info[self.said] > 0 or (self.passed > 3 and self.opened)
        return seen, reward, over, cut, {self.said: self.opened} if over else {}


def register_locks() -> None:
    """Give both locks names; a test removes them again."""
    for name, lock in (("Lock-v0", Lock), ("LaterLock-v0", LaterLock)):
        gymnasium.register(name, lock, disable_env_checker=True)


HIDDEN = "HiddenCartPole-v0"
"""Name of :class:`HiddenCartPole`."""
SEEN = [0, 2]
"""Of CartPole: where the cart and the pole are, not how fast."""


class HiddenCartPole(CartPoleEnv):
    """CartPole without its velocities: one frame does not tell where the pole falls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        high = self.observation_space.high[SEEN]
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        seen, about = super().reset(seed=seed, options=options)
        return seen[SEEN], about

    def step(self, action: Any) -> Any:
        seen, *rest = super().step(action)
        return (seen[SEEN], *rest)


def register_hidden() -> None:
    """Give :class:`HiddenCartPole` a name; a test removes it again."""
    gymnasium.register(HIDDEN, HiddenCartPole, max_episode_steps=500)

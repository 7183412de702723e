"""Wrappers of our own that a file may name beside gymnasium's.

What is seen: which task it is, and entries that are hidden. Goals: they change the reward alone,
and keep the control cost that the environment states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

TASK = "task"
"""Entry of an observation that says which task it is."""


class TaskOneHot(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Shows which task it is, as one flag of each.

    Entries of a Dict or Tuple keep their names; anything else is the entry ``observation``.

    Args:
        env: the environment.
        task: its place among the tasks.
        tasks: their number.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], task: int, tasks: int) -> None:
        super().__init__(env)
        if not 0 <= task < tasks:
            raise ValueError(f"TaskOneHot: task is {task}; must be 0 to {tasks - 1}")
        self._task = task
        entries = dict(self._entries(env.observation_space))
        if TASK in entries:
            raise ValueError("TaskOneHot: the observation has an entry task of its own")
        self.observation_space = spaces.Dict({**entries, TASK: spaces.Discrete(tasks)})

    def observation(self, observation: Any) -> dict[str, Any]:
        """Return what the environment shows, with the task."""
        return {**self._entries(observation), TASK: self._task}

    @staticmethod
    def _entries(shown: Any) -> dict[str, Any]:
        """The parts of a space, or of what it holds, by name."""
        if isinstance(shown, (dict, spaces.Dict)):
            return dict(shown.items())
        if isinstance(shown, (tuple, spaces.Tuple)):
            return {str(place): part for place, part in enumerate(shown)}
        return {"observation": shown}


class HideEntries(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Leaves out some numbers of a Box observation, such as velocities.

    Args:
        env: shows a Box of one axis.
        hidden: places of the numbers that are left out, from 0.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], hidden: Sequence[int]) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"HideEntries: the observation is {space}; must be a Box of one axis")
        size = space.shape[0]
        places = list(hidden) if isinstance(hidden, (list, tuple)) else []
        if not places or not all(type(one) is int and 0 <= one < size for one in places):
            raise ValueError(
                f"HideEntries: hidden is {hidden}; must be a list of places from 0 to {size - 1}"
            )
        self._kept = [place for place in range(size) if place not in places]
        if not self._kept:
            raise ValueError(f"HideEntries: hidden is {hidden}; must leave some of {size} numbers")
        self.observation_space = spaces.Box(
            space.low[self._kept], space.high[self._kept], dtype=space.dtype.type
        )

    def observation(self, observation: Any) -> Any:
        """Return the numbers that stay."""
        return np.asarray(observation)[self._kept]


class TargetVelocity(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Rewards running at a speed: -|v - target| beside the control cost.

    As HalfCheetah's goal velocities (Finn et al. 2017, arXiv:1703.03400).

    Args:
        env: one of MuJoCo's that states ``x_velocity`` and ``reward_ctrl``.
        velocity: target, in metres a second; below 0: backward.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], velocity: float) -> None:
        super().__init__(env)
        self._velocity = float(velocity)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take an action."""
        shown, _, ended, cut, info = self.env.step(action)
        reward = info["reward_ctrl"] - abs(info["x_velocity"] - self._velocity)
        return shown, reward, ended, cut, info


class Jump(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Rewards height: 15 (z - z of the start) beside the control cost.

    HalfCheetah's jump (Yu et al. 2020, arXiv:2005.13239), without its term of speed.

    Args:
        env: one of MuJoCo's whose body moves in a plane, its height the second position.
    """

    HEIGHT = 15.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, and keep its height."""
        shown, info = self.env.reset(seed=seed, options=options)
        self._start = self._height
        return shown, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take an action."""
        shown, _, ended, cut, info = self.env.step(action)
        reward = info["reward_ctrl"] + self.HEIGHT * (self._height - self._start)
        return shown, reward, ended, cut, info

    @property
    def _height(self) -> float:
        simulated: Any = self.env.unwrapped
        return float(np.asarray(simulated.data.qpos)[1])

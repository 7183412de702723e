"""An environment that draws a colour for each of its steps, and a network that plays it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.environments import Environment, world_task
from tests.support.networks import dense, network, population

DICE = itertools.count()
"""No two rolls are the same, which real dice might be, and no seed brings one back."""
STEPS = 12
COLOURS = [(20 * step, 255 - 20 * step, 90) for step in range(STEPS + 1)]


class Lamp(gymnasium.Env[Any, Any]):
    """Draws a colour for each step, and shows its number; with dice, also one of its own."""

    metadata = {"render_fps": 25, "render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's form)
    observation_space = spaces.MultiDiscrete([STEPS + 1, 1000])
    action_space = spaces.Discrete(2)

    def __init__(self, dice: bool = False, draws: bool = True, render_mode: str | None = None):
        self.dice, self.draws, self.render_mode = dice, draws, render_mode

    def seen(self) -> Any:
        return np.array([self.number, next(DICE) % 1000 if self.dice else 0])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.number = 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.number += 1
        return self.seen(), 2.0, self.number == STEPS, False, {}

    def render(self) -> Any:
        if not self.draws:
            raise RuntimeError("no display")
        return np.full((30, 40, 3), COLOURS[self.number], np.uint8)


@contextmanager
def registered_lamp() -> Iterator[None]:
    """Give :class:`Lamp` a name of gymnasium's within the block."""
    gymnasium.register("Lamp-v0", Lamp, disable_env_checker=True)
    try:
        yield
    finally:
        del gymnasium.registry["Lamp-v0"]


def lamp_network(**arguments: bool) -> ChipNetwork:
    """Three neurons that see the lamp, and two actions."""
    task = world_task(Environment("Lamp-v0", arguments=arguments))
    assert task.environment is not None
    made = network(
        (1, task.environment.found.size, 1),
        [
            population("hidden", [[2, 4, 9]]),
            population("out", [[131071] * 2], membrane_decay=0),
        ],
        [
            dense(INPUT, "hidden", np.full((3, task.environment.found.size), 2)),
            dense("hidden", "out", [[2, 4, 6], [4, 2, 0]]),
        ],
        payload_bits=0,
        time_steps=4,
    )
    return replace(made, tasks=(task,), protocol=None)

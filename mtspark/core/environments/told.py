"""Which of several ALE games is played, shown in the frame itself.

The bottom rows of every frame are black but for a bright block whose place is the task's, as the
pressed action stands in the top rows of an agent with a decision delay
(:mod:`mtspark.core.environments.delay`). So every backend plays such an agent unchanged, and its
pixels are counted and priced like others: they never change in an episode, so an input that is sent
by its changes pays for them once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mtspark.core.environments.vector import Games

TOLD_ROWS = 3
"""Height of the block, in rows of the frame."""


def told_strip(told: tuple[int, int], screen_size: int) -> NDArray[np.uint8]:
    """What the bottom rows of a frame show.

    Args:
        told: place of the task, and number of tasks, at most `screen_size`.
        screen_size: width of a frame in pixels.

    Returns:
        (3, screen_size): black but for a block of 255, as wide as fits all tasks.
    """
    place, tasks = told
    width = screen_size // tasks
    strip = np.zeros((TOLD_ROWS, screen_size), np.uint8)
    strip[:, place * width : (place + 1) * width] = 255
    return strip


class ToldGames:
    """Copies of a game whose frames show which task it is; steps as the games inside do.

    Args:
        games: the copies.
        told: place of the task, and number of tasks.
        screen_size: width of a frame in pixels.
    """

    def __init__(self, games: Games, told: tuple[int, int], screen_size: int) -> None:
        self._games, self._strip = games, told_strip(told, screen_size)
        self.num_envs: int = games.num_envs

    def reset(
        self, *, seed: Any, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start copies afresh, with `reset_mask` in `options` only some."""
        frames, info = self._games.reset(seed=seed, options=options)
        return self._drawn(frames), info

    def send(self, actions: Any) -> None:
        """Begin a decision."""
        self._games.send(actions)

    def recv(self) -> tuple[NDArray[np.uint8], Any, Any, Any, dict[str, Any]]:
        """End the decision that :meth:`send` began."""
        frames, *rest = self._games.recv()
        return (self._drawn(frames), *rest)

    def step(self, actions: Any) -> tuple[NDArray[np.uint8], Any, Any, Any, dict[str, Any]]:
        """Play one decision of every copy."""
        self.send(actions)
        return self.recv()

    def close(self) -> None:
        """Release the games."""
        self._games.close()

    def _drawn(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen = frames.copy()  # the games reuse their memory
        seen[:, :, -TOLD_ROWS:] = self._strip
        return seen

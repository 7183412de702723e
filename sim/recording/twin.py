"""The played game once more, beside it: it draws what people look at.

A game of the agent loop shows an agent's frames only. An episode follows from its seed and its
actions, so a second copy that is given the same ones shows the same, in its own colours. What the
agent would see of the copy tells whether it does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.environments import NOOP, FrameGame, GameProtocol, Task, World


class Twin:
    """A copy of a game or of an environment that draws pictures.

    Args:
        task: that is played.
        protocol: how, with the stickiness of the played game; None of an environment.

    Raises:
        MtsparkError: it cannot be made, or cannot draw, here.
    """

    def __init__(self, task: Task, protocol: GameProtocol | None) -> None:
        self._game: _Console | _World
        if task.environment is not None:
            self._game = _World(World(task.environment, render=True))
        else:
            assert protocol is not None
            self._game = _Console(FrameGame(task, protocol))

    def reset(self, seed: int) -> None:
        """Start the episode of a seed."""
        self._game.reset(seed)

    def act(self, action: Any) -> float:
        """Let the decision pass for which an action was chosen; return its reward."""
        return self._game.act(action)

    @property
    def seen(self) -> NDArray[Any]:
        """What an agent sees of the copy now, of its input's shape."""
        return self._game.seen

    def picture(self) -> NDArray[np.uint8]:
        """What people are shown now, uint8 (height, width, 3).

        Raises:
            MtsparkError: the environment draws none.
        """
        return self._game.picture()

    def close(self) -> None:
        """Release the copy; safe to call twice."""
        self._game.close()


class _Console:
    """An Atari game, of which a decision is some frames."""

    def __init__(self, game: FrameGame) -> None:
        self._game = game
        self._pending = NOOP
        self._shown = np.zeros((1, 1, 3), np.uint8)
        self.seen: NDArray[Any] = self._shown

    def reset(self, seed: int) -> None:
        self._game.reset(seed)
        self._pending, self._shown = NOOP, self._game.picture()
        self.seen = self._game.observe(self._pending)

    def act(self, action: Any) -> float:
        protocol, reward = self._game.protocol, 0.0
        chosen = int(action)
        acting = self._pending if protocol.decision_delay else chosen
        self._pending = chosen
        pictures = []
        for frame in range(protocol.frame_skip):
            given, over = self._game.act(acting)
            reward += given
            # Consoles draw some things in every second frame only: the agent sees the maximum.
            if over or frame >= protocol.frame_skip - (2 if protocol.max_pool else 1):
                pictures.append(self._game.picture())
            if over:
                break
        self._shown = np.maximum.reduce(pictures)
        self.seen = self._game.observe(self._pending)
        return reward

    def picture(self) -> NDArray[np.uint8]:
        return self._shown

    def close(self) -> None:
        self._game.close()


class _World:
    """An environment of Gymnasium."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pending = world.resting

    def reset(self, seed: int) -> None:
        self._world.reset(seed)
        self._pending = self._world.resting

    def act(self, action: Any) -> float:
        acting = self._pending if self._world.environment.decision_delay else action
        self._pending = action
        return self._world.act(acting)[0]

    def picture(self) -> NDArray[np.uint8]:
        return self._world.picture()

    @property
    def seen(self) -> NDArray[Any]:
        return self._world.observe(self._pending)

    def close(self) -> None:
        self._world.close()

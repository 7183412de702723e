"""Decision delay: an action acts one decision after the frame that it was chosen for.

Real-time reinforcement learning (Ramstedt and Pal 2019, arXiv:1911.04448): the world does not wait
for the agent. The action chosen on frame k is pressed from decision k + 1 on, and the agent sees
which action is being pressed. It sees it in the frame itself, as a bright block in the top rows,
so the frame stack carries the last few pressed actions and no network needs a second input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.environments.protocol import EMULATOR_ACTIONS, GameProtocol

if TYPE_CHECKING:
    from mtspark.core.environments.vector import Games

NOOP = 0
"""Of ALE's 18 actions; it is pending at the start of every episode."""
NO_FRAME = -1
"""In a history of pressed actions: the stack has no frame there yet, the plane is black."""
STRIP_ROWS = 3
"""Height of the blocks, in rows of the frame."""


def action_strips(screen_size: int) -> NDArray[np.uint8]:
    """What the top rows of a frame show for each pressed action.

    Args:
        screen_size: width of a frame in pixels, at least 18.

    Returns:
        (19, 3, screen_size): black but for a block of 255 whose place is the action's number; the
        last one, which :data:`NO_FRAME` indexes, is all black.
    """
    width = screen_size // EMULATOR_ACTIONS
    strips = np.zeros((EMULATOR_ACTIONS + 1, STRIP_ROWS, screen_size), np.uint8)
    for action in range(EMULATOR_ACTIONS):
        strips[action, :, action * width : (action + 1) * width] = 255
    return strips


class DelayedGames:
    """Copies of a game in which an action acts one decision late; steps as the games inside do.

    Args:
        games: the copies, with gymnasium's NEXT_STEP autoreset.
        protocol: of decision delay 1.
    """

    def __init__(self, games: Games, protocol: GameProtocol) -> None:
        self._games = games
        self.num_envs: int = games.num_envs
        self._strips = action_strips(protocol.screen_size)
        self._history = np.full((self.num_envs, protocol.frame_stack), NO_FRAME)
        self._was_done = np.zeros(self.num_envs, dtype=bool)

    def reset(
        self, *, seed: Any, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start copies afresh, with `reset_mask` in `options` only some; NOOP is pending."""
        frames, info = self._games.reset(seed=seed, options=options)
        starting = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        self._was_done[starting] = False
        self._start(starting)
        return self._drawn(frames), info

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begin a decision: the pending actions act, `actions` become the pending ones."""
        # What acts is drawn in the newest plane already.
        self._games.send(self._history[:, -1])
        self._history = np.roll(self._history, -1, axis=1)
        self._history[:, -1] = actions

    def recv(self) -> tuple[NDArray[np.uint8], Any, Any, Any, dict[str, Any]]:
        """End the decision that :meth:`send` began."""
        frames, rewards, ended, cut, info = self._games.recv()
        self._start(self._was_done)
        self._was_done = np.asarray(ended | cut)
        return self._drawn(frames), rewards, ended, cut, info

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], Any, Any, Any, dict[str, Any]]:
        """Play one decision of every copy."""
        self.send(actions)
        return self.recv()

    def close(self) -> None:
        """Release the games."""
        self._games.close()

    def _start(self, copies: NDArray[np.bool_]) -> None:
        self._history[copies] = NO_FRAME
        self._history[copies, -1] = NOOP

    def _drawn(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen = frames.copy()  # the games reuse their memory
        seen[:, :, :STRIP_ROWS] = self._strips[self._history]
        return seen

"""The game of a chip in the loop, at its own rate: console frames, or steps of an environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtspark.core.arrays import Booleans, Pixels
from mtspark.core.environments import (
    FRAME_RATE_HZ,
    AreaResize,
    FrameGame,
    GameProtocol,
    Task,
    World,
)

__all__ = ["FRAME_RATE_HZ", "AreaResize", "FrameGame", "Pace", "allowed_in", "open_game", "pace_of"]


@dataclass(frozen=True)
class Pace:
    """How time passes in a game.

    Attributes:
        rate_hz: frames in a second: emulator frames, or steps of an environment.
        skip: frames of a decision.
        delay: decisions after which an action acts.
    """

    rate_hz: float
    skip: int = 1
    delay: int = 0

    @property
    def decision_s(self) -> float:
        """Seconds of a decision."""
        return self.skip / self.rate_hz


def pace_of(task: Task, protocol: GameProtocol | None) -> Pace:
    """How time passes in a task that is played."""
    if task.environment is not None:
        return Pace(task.environment.decisions_per_s, delay=task.environment.decision_delay)
    assert protocol is not None
    return Pace(FRAME_RATE_HZ, protocol.frame_skip, protocol.decision_delay)


class WorldGame(World):
    """An environment whose every frame is a decision."""

    def observe(self, pressed: Any = None) -> Pixels:
        """What the agent sees now, and with a decision delay what is pressed."""
        return super().observe(pressed)


def allowed_in(game: FrameGame | WorldGame) -> Booleans | None:
    """(1, legal actions) which of them a game allows now; None where all."""
    mask = game.mask if isinstance(game, WorldGame) else None
    return None if mask is None else mask[None]


def open_game(task: Task, protocol: GameProtocol | None) -> FrameGame | WorldGame:
    """Open the game, or the environment, of a task.

    Raises:
        MtsparkError: it cannot be made here.
    """
    if task.environment is not None:
        return WorldGame(task.environment)
    assert protocol is not None
    return FrameGame(task, protocol)

"""What an export needs to know about agents: frames of their games, and their weight bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans
from mtspark.core.environments import make_games, masks_of, random_actions
from mtspark.workflows.export.request import WEIGHT_BITS

if TYPE_CHECKING:
    from mtspark.core.environments import GameProtocol, Task
    from mtspark.train.checkpoint import Agent

GAMES, RANDOM_STEPS, MOMENTS = 4, 60, 4
"""The graph is compared on the frames of 4 games at 4 moments of 60 random steps."""

CALIBRATION_MOMENTS = 20
"""Weight limits are chosen on as many moments of the same games."""


def trained_weight_bits(training: dict[str, Any]) -> int:
    """Return the bits of the integers that an agent learned on, by its checkpoint; else 8."""
    config = training.get("config")
    if isinstance(config, dict) and config.get("quantisation_aware") is True:
        bits = config.get("weight_bits")
        if isinstance(bits, int) and 2 <= bits <= WEIGHT_BITS:
            return bits
    return WEIGHT_BITS


def payload_bits_of(agent: Agent) -> int:
    """Return the bits of an agent's input messages: 0 of spikes, 8 of pixels and values."""
    return 0 if agent.network.config.input == "spikes" else 8


class Sample(NamedTuple):
    """What a game showed that was played at random.

    Attributes:
        frames: (frames, ...) int8 messages of an environment's numbers, or uint8 spikes or pixels.
        masks: (frames, legal actions) which actions the environment allowed; None: all.
    """

    frames: NDArray[Any]
    masks: Booleans | None = None


def frames_of(agent: Agent, task: Task, moments: int = MOMENTS) -> NDArray[np.uint8]:
    """Return the frames of :func:`sample_of`."""
    return sample_of(agent, task, moments).frames


def sample_of(agent: Agent, task: Task, moments: int = MOMENTS) -> Sample:
    """Return what a game shows that is played at random.

    Args:
        agent: with the protocol of its games.
        task: without a game, the frames are noise, from dark to bright.
        moments: of each of the games.
    """
    generator = np.random.default_rng(0)
    if not task.game:
        shape = (GAMES * moments, *agent.network.config.observation_shape)
        brightest = np.linspace(40, 256, shape[0])[:, None, None, None]
        return Sample((generator.random(shape) * brightest).astype(np.uint8))
    return played_sample(task, agent.protocol, generator, moments)


def played_sample(
    task: Task, protocol: GameProtocol | None, generator: np.random.Generator, moments: int
) -> Sample:
    """Return what a game or an environment shows that is played at random.

    Args:
        task: that is played.
        protocol: how; None of an environment.
        generator: of the actions.
        moments: of each of the games.
    """
    games = make_games(task, protocol, GAMES)
    try:
        games.reset(seed=0)
        kept, masks = [], []
        for step in range(1, RANDOM_STEPS + 1):
            frames = games.step(random_actions(task, GAMES, generator, masks_of(games)))[0]
            if step % (RANDOM_STEPS // moments) == 0:
                kept.append(frames.copy())
                masks.append(masks_of(games))
    finally:
        games.close()
    allowed = [mask for mask in masks if mask is not None]
    return Sample(np.concatenate(kept), np.concatenate(allowed) if allowed else None)

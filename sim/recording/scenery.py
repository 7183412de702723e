"""Pictures of an environment by its own renderer: its episode is played again by its actions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.environments import Environment, World
from mtspark.core.errors import MtsparkError
from mtspark.sim.play import Episode
from mtspark.sim.recording.film import Shot

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

LONGEST_SIDE = 200
"""Pixels of a picture's longer side."""
GREY = 128
"""A message of 0, where messages are shown instead."""


def with_scenery(shots: list[Shot], environment: Environment, episode: Episode) -> list[Shot]:
    """Show people what the environment draws; the messages, with a warning, where it cannot.

    Args:
        shots: of the episode.
        environment: that was played.
        episode: with all its actions.
    """
    try:
        # What gymnasium warns of, as that an environment names no way to draw, is said below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pictures = drawn(environment, episode, [shot.number for shot in shots])
    except MtsparkError as error:
        log.warning("draws no pictures, so its messages are shown instead: %s", error)
        return [replace(shot, frame=message_picture(shot.observation)) for shot in shots]
    return [replace(shot, frame=one) for shot, one in zip(shots, pictures, strict=True)]


def drawn(
    environment: Environment, episode: Episode, numbers: Sequence[int]
) -> list[NDArray[np.uint8]]:
    """Return pictures of some decisions, uint8 (height, width, 3).

    Args:
        environment: that was played.
        episode: of it; an episode follows from its seed and its actions.
        numbers: of the decisions, ascending; a picture is what the decision was made on.

    Raises:
        MtsparkError: it cannot draw here.
    """
    world, wanted = World(environment, render=True), set(numbers)
    # With a decision delay an action acts in the decision after it was chosen.
    acting = (world.resting, *episode.actions) if environment.decision_delay else episode.actions
    pictures = []
    try:
        world.reset(episode.seed)
        for number, action in enumerate(acting):
            if number in wanted:
                pictures.append(_small(world.picture()))
            if number >= max(wanted, default=-1):
                break
            world.act(action)
    finally:
        world.close()
    return pictures


def message_picture(observation: NDArray[Any]) -> NDArray[np.uint8]:
    """Return messages as grey columns, uint8 (height, width): 0 is grey, spikes are white."""
    values = observation.reshape(-1).astype(np.int64)
    shades = values + GREY if observation.dtype == np.int8 else values.clip(0, 1) * 255
    width = max(1, LONGEST_SIDE // 2 // len(values))
    return np.tile(np.repeat(shades.astype(np.uint8), width), (LONGEST_SIDE // 4, 1))


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image as pillow

    image: Image = pillow.fromarray(picture)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(image)

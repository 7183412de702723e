"""Inputs of a comparison: frames of a game, recorded inputs, or random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.sim.recording import as_messages, check_one_frame, load_inputs

if TYPE_CHECKING:
    from mtspark.core.backend import Moment

PIXEL_SHARE, SPIKE_SHARE = 0.4, 0.1
"""Share of the values that are not zero in random frames and in random spikes."""


MOST_RECORDED = 10**5
"""Decisions whose frames are kept in memory."""


@dataclass(frozen=True)
class Feed:
    """What a network takes.

    Attributes:
        shape: of one frame or slice.
        time_steps: T.
        held: one frame for all steps, otherwise a slice a step.
        graded: bytes 0 to 255, otherwise spikes 0 and 1.
        signed: bytes -128 to 127.
        scale: what a message of 1 stands for in floats.
    """

    shape: tuple[int, ...]
    time_steps: int
    held: bool
    graded: bool
    scale: float
    signed: bool = False


def feed_of(network: ChipNetwork) -> Feed:
    """Return what a chip network takes."""
    given = network.input
    graded = given.payload_bits > 0
    steps = network.time_steps
    return Feed(given.shape, steps, given.held, graded, given.scale, given.signed)


def task_frames(
    network: ChipNetwork,
    task: str,
    decisions: int,
    seed: int,
    *,
    observe: Callable[[Moment], None] | None = None,
    progress: ProgressCallback = no_progress,
) -> NDArray[np.uint8]:
    """Return frames of the task's game; random ones where the task is no game.

    Args:
        network: that plays.
        task: by name.
        decisions: number of frames.
        seed: of the first game, or of the random numbers.
        observe: called after every decision of the games, which are numbered from 0.
        progress: receives the frames recorded so far.

    Returns:
        (decisions, *input shape), or (decisions, T, *input shape) of a network that takes a slice
        a step.

    Raises:
        BadRequestError: unknown task, or more decisions than can be kept.
    """
    if decisions > MOST_RECORDED:
        raise BadRequestError(f"decisions {decisions:,}: {MOST_RECORDED:,} is the limit")
    if not 0 <= seed < 2**30:
        raise BadRequestError(f"seed {seed}: must be 0 to {2**30 - 1}")
    if not network.tasks[network.task_index(task)].game:
        return random_frames(feed_of(network), decisions, seed)
    return game_frames(network, task, decisions, seed, observe=observe, progress=progress)


def game_frames(
    network: ChipNetwork,
    task: str,
    decisions: int,
    seed: int,
    *,
    observe: Callable[[Moment], None] | None = None,
    progress: ProgressCallback = no_progress,
) -> NDArray[np.uint8]:
    """Return the frames that a network gets when the engine plays, (decisions, *input shape).

    Args:
        network: that plays, one game after another.
        task: a game, by name.
        decisions: number of frames.
        seed: of the first game; each further one has the next seed.
        observe: called after every decision of the games, which are numbered from 0.
        progress: receives the frames recorded so far.
    """
    from mtspark.sim.engine import EngineChip
    from mtspark.sim.play import play

    frames: list[NDArray[np.uint8]] = []
    first = seed

    def keep(moment: Moment) -> None:
        frames.append(moment.frames[0].copy())
        if observe is not None:
            observe(replace(moment, episodes=moment.episodes + seed - first))
        progress(Progress(stage, len(frames), decisions, "frames"))

    stage = f"recording frames of {task}"
    progress(Progress(stage, 0, decisions, "frames"))
    while len(frames) < decisions:
        play(
            EngineChip(network),
            network,
            task,
            episodes=1,
            seed=seed,
            max_decisions=decisions - len(frames),
            observe=keep,
        )
        seed += 1
    return np.stack(frames)


def random_frames(feed: Feed, decisions: int, seed: int) -> NDArray[np.uint8]:
    """Return random bytes of which six in ten are zero, or spikes of which nine in ten are.

    Args:
        feed: what the network takes.
        decisions: number of frames, or of series.
        seed: of the random numbers.
    """
    generator = np.random.default_rng(seed)
    shape = (decisions, *(() if feed.held else (feed.time_steps,)), *feed.shape)
    if feed.graded:
        values = generator.integers(0, 256, shape) * (generator.random(shape) < PIXEL_SHARE)
        return values.astype(np.uint8).view(np.int8 if feed.signed else np.uint8)
    return (generator.random(shape) < SPIKE_SHARE).astype(np.uint8)


def recorded_frames(
    network: ChipNetwork,
    task: str,
    decisions: int,
    inputs: AnyPath | None,
    seed: int,
    *,
    observe: Callable[[Moment], None] | None = None,
    progress: ProgressCallback = no_progress,
) -> NDArray[np.uint8]:
    """Return the inputs in a file, or frames of the task's game where no file is given.

    Args:
        network: that the inputs are for.
        task: by name.
        decisions: number of frames; fewer where the file holds fewer.
        inputs: a .npy file of frames (decisions, *input shape), or series (decisions, T, *input
            shape), in the network's own values, or messages in 8 bits.
        seed: of the game.
        observe: called after every decision of the games, which are numbered from 0.
        progress: receives the frames recorded so far.

    Raises:
        BadRequestError: no file, and the task is no game.
        BadFileError: the file holds no array of the network's inputs.
    """
    if inputs is None:
        if not network.tasks[network.task_index(task)].game:
            raise BadRequestError(f"task {task!r} is no game; give some of its inputs (--inputs)")
        return task_frames(network, task, decisions, seed, observe=observe, progress=progress)
    values, are_frames = load_inputs(inputs, network)
    messages = as_messages(values[:decisions], network, inputs)
    if network.input.held:
        if not are_frames:
            check_one_frame(messages, network.input.shape, inputs)
        return messages if are_frames else messages[:, 0]
    if are_frames:
        steps = (len(messages), network.time_steps, *network.input.shape)
        return np.broadcast_to(messages[:, None], steps).copy()
    if messages.shape[1] != network.time_steps:
        raise BadRequestError(
            f"{inputs}: has series of {messages.shape[1]} steps; a decision has "
            f"{network.time_steps}"
        )
    return messages

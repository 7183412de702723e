"""A module that acts in an environment: what it is shown, and how its network is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.environments import MESSAGES_PER_DEVIATION
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.workflows.export.agent import MOMENTS, played_sample
from mtspark.workflows.export.request import Source

if TYPE_CHECKING:
    from mtspark.core.environments import Task
    from mtspark.core.float_network import FloatNetwork

SENT = ("sample", "input_shape", "input_bits", "input_scale", "one_frame", "recording")
"""Options that follow from an environment."""


def shown_to_module(task: Task, source: Source, given: set[str]) -> tuple[NDArray[Any], Any]:
    """Return a sample of what a module is shown in an environment, and how that is sent.

    Args:
        task: of :func:`mtspark.environment_task`.
        source: what is exported.
        given: names of the options that the caller gave.

    Returns:
        (frames, size) in the module's own units, and the options `input_bits`, `input_scale` and
        `one_frame`.

    Raises:
        BadRequestError: the source brings its tasks, or an option is given that follows.
    """
    if source is not Source.MODULE:
        raise BadRequestError(
            f"environment: is for {Source.MODULE.value}; this is {source.value}, leave it out"
        )
    double = [name for name in SENT if name in given]
    if double:
        raise BadRequestError(f"{double[0]}: follows from environment; leave it out")
    if task.environment is None:
        raise BadRequestError(f"environment: {task.name} is a game of ALE; give an environment's")
    graded = task.environment.found.graded
    unit = 1 / MESSAGES_PER_DEVIATION if graded else 1.0
    frames = played_sample(task, None, np.random.default_rng(0), MOMENTS).frames
    sample = frames.reshape(len(frames), -1).astype(np.float64) * unit
    return sample, {"input_bits": 8 if graded else 0, "input_scale": unit, "one_frame": True}


def in_environment(network: FloatNetwork, task: Task) -> FloatNetwork:
    """The network with frames of an environment as its input.

    Args:
        network: of the module.
        task: that it acts in.

    Raises:
        BadNetworkError: it has fewer outputs than there are actions.
    """
    assert task.environment is not None
    seen = task.environment.found
    outputs = network.size_of(network.output.population)
    if outputs < task.environment.actions:
        raise BadNetworkError(
            f"{network.name}: has {outputs} outputs, {task.name} takes {task.environment.actions} "
            "actions; give the actor an output for each"
        )
    entry, notes = replace(network.input, shape=seen.shape, signed=seen.graded), network.notes
    if outputs > task.environment.actions:
        taken = task.environment.actions
        note = f"{task.name} takes {taken} actions: of {outputs} outputs, the first {taken} count"
        notes = (*notes, note)
    return replace(network, input=entry, notes=notes)

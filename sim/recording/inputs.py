"""Recorded inputs: a .npy file of messages, one slice a step."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import GIVEN_FLAT, ChipNetwork
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files import AnyPath, current_policy, map_npy, over

TOLERANCE = 1e-3
"""Of a message, which is a whole number."""
BLOCK = 2**20
"""Values that are converted together: in float64, they take eight times a message."""


def load_array(path: AnyPath) -> NDArray[Any]:
    """Read a plain array of numbers, no more of it than the file holds.

    Raises:
        BadFileError: no such file, or no numbers in it.
    """
    try:
        return np.array(mapped_array(path))
    except MemoryError as error:
        raise BadFileError(f"{path}: is larger than this computer's memory") from error


def mapped_array(path: AnyPath) -> NDArray[Any]:
    """Map a plain array of numbers into memory without reading its values.

    A file that declares more than it holds, or more than the limit, is refused before any memory
    is taken.

    Raises:
        BadFileError: no such file, no numbers in it, or over a limit.
    """
    path = Path(path)
    if not path.exists():
        raise BadFileError(f"{path}: no such file; give a .npy file")
    return map_npy(path, current_policy().limits)


def load_inputs(path: AnyPath, network: ChipNetwork) -> tuple[NDArray[Any], bool]:
    """Read inputs of a network: frames, each of which is shown in every step, or series.

    Of shape (N, *shape of a step), values are N frames and spikes one series of N steps, unless
    the network holds a frame anyway. Where state survives decisions, a series is an episode of T
    decisions, and N frames are one of N. Axes of size 1 of the shape may be left out.

    Args:
        path: a .npy file without pickled objects.
        network: that takes the inputs.

    Returns:
        Frames (batch, *shape) and True, or series (batch, T, *shape) and False.

    Raises:
        BadFileError: no such file, no numbers in it, or a series over the limit of steps.
        BadRequestError: another shape.
    """
    array, given = load_array(path), network.input
    if not np.isfinite(array).all():
        raise BadFileError(f"{path}: has values that are not finite")
    axes = axes_before(array.shape, network)
    if axes is None or not array.size:
        wanted = ", ".join(map(str, given.shape))
        needed = f"frames (batch, {wanted}) or series (batch, T, {wanted}) are needed, or one "
        needed += f"series (T, {wanted}) of spikes"
        if network.stateful:
            needed = f"episodes (batch, T, {wanted}) or one episode (T, {wanted}) are needed"
        raise BadRequestError(f"{path}: has shape {array.shape}; {needed}")
    array = array.reshape(*array.shape[:axes], *given.shape)
    if axes == 1 and (given.held or given.payload_bits) and not network.stateful:
        return array, True
    series = array if axes == 2 else array[None]
    limits = current_policy().limits
    if series.shape[1] > limits.time_steps:
        raise over("time_steps", f"{path}", series.shape[1], limits)
    return series, False


def axes_before(found: tuple[int, ...], network: ChipNetwork) -> int | None:
    """Return how many axes stand before those of a step: 1 of a batch, 2 with time; None: neither.

    Args:
        found: shape of an array.
        network: whose steps they are; axes of size 1 may be missing in the array, and what a module
            shapes itself comes flat.
    """
    shape = network.input.shape
    for axes in (1, 2):
        if found[axes:] == shape and len(found) == axes + len(shape):
            return axes
    for axes in (1, 2):
        if len(found) >= axes and _plain(found[axes:]) == _plain(shape):
            return axes
    flat = GIVEN_FLAT in network.provenance
    return next((axes for axes in (1, 2) if flat and found[axes:] == (prod(shape),)), None)


def _plain(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def as_messages(series: NDArray[Any], network: ChipNetwork, path: AnyPath) -> NDArray[Any]:
    """Convert values to messages: spikes, or bytes of the input's scale, rounded to the nearest.

    Args:
        series: any shape, in the network's own values; of uint8, int8 or bool, the messages
            themselves.
        network: says what its input sends.
        path: of their file, for errors.

    Returns:
        uint8, or int8 of a signed input, of the same shape.

    Raises:
        BadRequestError: a value that no message stands for.
    """
    values = np.ascontiguousarray(series).reshape(-1)
    messages = np.empty(values.shape, network.input.dtype)
    scale = _scale_of(values, network)
    for start in range(0, len(values), BLOCK):
        part = slice(start, start + BLOCK)
        whole = np.round(np.asarray(values[part], np.float64) / scale)
        odd = _odd(values[part], whole, scale, network)
        if odd is not None:
            raise BadRequestError(f"{path}: {_refusal(odd, values, network)}")
        messages[part] = whole
    return messages.reshape(np.shape(series))


def check_one_frame(series: NDArray[Any], shape: tuple[int, ...], path: AnyPath) -> None:
    """Refuse recorded inputs that change in time, for a network that holds one frame.

    Args:
        series: (batch, T, *shape).
        shape: of one frame.
        path: of their file, for errors.

    Raises:
        BadRequestError: a frame differs from the first one of its sample.
    """
    if (series == series[:, :1]).all():
        return
    raise BadRequestError(
        f"{path}: changes from step to step, but this network holds one frame over all its steps; "
        f"give one frame a sample, (batch, {', '.join(map(str, shape))})"
    )


def rounding(series: NDArray[Any], network: ChipNetwork) -> float:
    """Return how far values lie at most from what their messages stand for; 0 for none.

    Args:
        series: values that :func:`as_messages` takes.
        network: says what its input sends.
    """
    values, most = np.ascontiguousarray(series).reshape(-1), 0.0
    scale = _scale_of(values, network)
    for start in range(0, len(values), BLOCK):
        messages = np.asarray(values[start : start + BLOCK], np.float64) / scale
        most = max(most, float(np.abs(messages - np.round(messages)).max(initial=0)))
    return most * scale if most > TOLERANCE else 0.0


def own_values(series: NDArray[Any], network: ChipNetwork) -> NDArray[np.float64]:
    """Return inputs in the network's own values, which uint8, int8 and bool are not.

    Args:
        series: that :func:`as_messages` takes, any shape.
        network: says what a message stands for.
    """
    values = np.asarray(series)
    return np.asarray(values, np.float64) * (network.input.scale / _scale_of(values, network))


def _scale_of(values: NDArray[Any], network: ChipNetwork) -> float:
    """What a message of 1 is in an array: 1 in one of messages, otherwise the input's scale."""
    given = network.input
    are_messages = values.dtype.kind == "b" or values.dtype in (np.uint8, np.int8)
    if are_messages and (given.payload_bits or values.max(initial=0) <= 1):
        return 1.0
    return given.scale


def _odd(
    values: NDArray[Any], whole: NDArray[np.float64], scale: float, network: ChipNetwork
) -> float | None:
    """Return the first value that no message stands for; values are rounded, spikes are not."""
    low, high = (-128, 127) if network.input.signed else (0, network.input.largest_message)
    wrong = (whole < low) | (whole > high)
    if not network.input.payload_bits:
        wrong |= np.abs(values / scale - whole) > TOLERANCE
    return float(values[wrong][0]) if wrong.any() else None


def _refusal(odd: float, values: NDArray[Any], network: ChipNetwork) -> str:
    given = network.input
    scale = _scale_of(values, network)
    low, high = (-128, 127) if given.signed else (0, given.largest_message)
    kind = (
        f"{low * scale:g} to {high * scale:g} (8-bit messages, {low} to {high} times {scale:g})"
        if given.payload_bits
        else f"0 or {scale:g} (spikes)"
    )
    return (
        f"has the value {odd:g}, its values are {values.min():g} to {values.max():g}; this "
        f"network's input takes {kind}; export again with some of these inputs (--input), which "
        "say their kind and scale, or with --input-bits and --input-scale"
    )

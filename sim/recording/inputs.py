"""Recorded inputs: a .npy file of messages, one slice a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork, FrameInput
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
        raise BadFileError(f"{path}: no such file; give a .npy file of shape (T, ...)")
    return map_npy(path, current_policy().limits)


def load_recording(path: AnyPath, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read a series (T, *shape) or a batch of them, as (batch, T, *shape).

    Args:
        path: a .npy file without pickled objects.
        shape: of one step.

    Raises:
        BadFileError: no such file, or no numbers in it.
        BadRequestError: another shape.
    """
    array = load_array(path)
    if not np.isfinite(array).all():
        raise BadFileError(f"{path}: has values that are not finite")
    for batch in ((), (None,)):
        ndim = len(batch) + 1 + len(shape)
        if array.ndim == ndim and array.shape[len(batch) + 1 :] == shape and array.size:
            series = array if batch else array[None]
            limits = current_policy().limits
            if series.shape[1] > limits.time_steps:
                raise over("time_steps", f"{path}", series.shape[1], limits)
            return series
    wanted = ", ".join(map(str, shape))
    raise BadRequestError(f"{path}: has shape {array.shape}, (T, {wanted}) or (batch, T, {wanted})")


def as_messages(series: NDArray[Any], network: ChipNetwork, path: AnyPath) -> NDArray[Any]:
    """Convert values to messages: spikes, or bytes of the input's scale.

    Args:
        series: any shape, in the network's own values.
        network: says what its input sends.
        path: of their file, for errors.

    Returns:
        uint8, or int8 of a signed input, of the same shape.

    Raises:
        BadRequestError: a value that no message stands for.
    """
    values = np.ascontiguousarray(series).reshape(-1)
    messages = np.empty(values.shape, network.input.dtype)
    for start in range(0, len(values), BLOCK):
        part = slice(start, start + BLOCK)
        whole = np.round(np.asarray(values[part], np.float64) / network.input.scale)
        odd = _no_messages(values[part], network.input)
        if odd.any():
            value = np.asarray(values[part])[odd][0]
            raise BadRequestError(_refusal(float(value), values, network.input, path))
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
    wanted = ", ".join(map(str, shape))
    if len(series) == 1:
        raise BadRequestError(
            f"{path}: is read as one sample of {series.shape[1]} steps (T, {wanted}), which "
            "change, but this network holds one frame over all its steps; give samples as "
            f"(batch, 1, {wanted}), x[:, None]"
        )
    raise BadRequestError(
        f"{path}: changes from step to step, but this network holds one frame over all its steps; "
        f"give one frame a sample, (batch, 1, {wanted})"
    )


def _range(entry: FrameInput) -> tuple[int, int]:
    return (-128, 127) if entry.signed else (0, entry.largest_message)


def _no_messages(values: NDArray[Any], entry: FrameInput) -> NDArray[np.bool_]:
    """Where values are no whole numbers of messages, or out of their range."""
    messages = np.asarray(values, np.float64) / entry.scale
    whole, (low, high) = np.round(messages), _range(entry)
    out: NDArray[np.bool_] = (np.abs(messages - whole) > TOLERANCE) | (whole < low) | (whole > high)
    return out


def _refusal(value: float, values: NDArray[Any], entry: FrameInput, path: AnyPath) -> str:
    """What an input is told that has a value no message stands for, and what helps it."""
    scale, (low, high) = entry.scale, _range(entry)
    graded = bool(entry.payload_bits)
    kind = f"{low} to {high} times {scale:g}" if graded else f"0 or {scale:g} (spikes)"
    blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
    if not any(_no_messages(block, replace(entry, scale=1.0)).any() for block in blocks):
        remedy = f"if these are the messages themselves, multiply them by {scale:g}"
    elif graded and all(
        low * scale <= block.min() and block.max() <= high * scale for block in blocks
    ):
        remedy = f"round them, np.round(x / {scale:g}) * {scale:g}"
    else:
        remedy = "export with --input-bits and --input-scale that suit it"
    return f"{path}: has the value {value:g}, this network's input takes {kind}; {remedy}"

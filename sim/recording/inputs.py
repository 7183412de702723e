"""Recorded inputs: a .npy file of messages, one slice a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files import AnyPath, current_policy, map_npy, over

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
        messages[part] = _messages_of_block(values[part], network, path)
    return messages.reshape(np.shape(series))


def _messages_of_block(
    values: NDArray[Any], network: ChipNetwork, path: AnyPath
) -> NDArray[np.float64]:
    scale, graded = network.input.scale, bool(network.input.payload_bits)
    messages = np.asarray(values, np.float64) / scale
    whole = np.round(messages)
    low, high = (-128, 127) if network.input.signed else (0, network.input.largest_message)
    allowed = whole.min() >= low and whole.max() <= high
    if not allowed or np.abs(messages - whole).max() > 1e-3:
        odd = messages[(np.abs(messages - whole) > 1e-3) | (whole < low) | (whole > max(high, 127))]
        value = (odd if odd.size else messages[whole > 1]).flat[0] * scale
        kind = f"{low} to {high} times {scale:g}" if graded else f"0 or {scale:g} (spikes)"
        raise BadRequestError(
            f"{path}: has the value {value:g}, this network's input takes {kind}; export with "
            "--input-bits and --input-scale that suit it"
        )
    return whole

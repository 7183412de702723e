"""Recorded inputs: a .npy file of messages, one slice a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import AnyPath


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

    A file that declares more than it holds is refused before any memory is taken.

    Raises:
        BadFileError: no such file, or no numbers in it.
    """
    path = Path(path)
    if not path.is_file():
        raise BadFileError(f"{path}: no such file; give a .npy file of shape (T, ...)")
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # Its header is a piece of Python, which can be wrong in many ways.
        raise BadFileError(f"{path}: no readable .npy file: {one_line(error)}") from error
    if mapped.dtype.kind not in "biuf":
        raise BadFileError(f"{path}: does not hold a plain array of numbers")
    return mapped


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
            return array if batch else array[None]
    wanted = ", ".join(map(str, shape))
    raise BadRequestError(f"{path}: has shape {array.shape}, (T, {wanted}) or (batch, T, {wanted})")


def as_messages(series: NDArray[Any], network: ChipNetwork, path: AnyPath) -> NDArray[np.uint8]:
    """Convert values to messages: spikes, or bytes of the input's scale.

    Args:
        series: any shape, in the network's own values.
        network: says what its input sends.
        path: of their file, for errors.

    Returns:
        uint8 of the same shape.

    Raises:
        BadRequestError: a value that no message stands for.
    """
    scale, graded = network.input.scale, bool(network.input.payload_bits)
    messages = np.asarray(series, np.float64) / scale
    whole = np.round(messages)
    allowed = whole.min() >= 0 and whole.max() <= (255 if graded else 1)
    if not allowed or np.abs(messages - whole).max() > 1e-3:
        odd = messages[(np.abs(messages - whole) > 1e-3) | (whole < 0) | (whole > 255)]
        value = (odd if odd.size else messages[whole > 1]).flat[0] * scale
        kind = f"0 to 255 times {scale:g}" if graded else f"0 or {scale:g} (spikes)"
        raise BadRequestError(
            f"{path}: has the value {value:g}, this network's input takes {kind}; export with "
            "--input-bits and --input-scale that suit it"
        )
    return whole.astype(np.uint8)

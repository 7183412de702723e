"""Arrays, tensors and data loaders as what a chip is sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import GIVEN_FLAT, ChipNetwork
from mtspark.core.errors import BadRequestError, one_line
from mtspark.sim.recording import as_messages, axes_before

BATCH = 256
"""Samples that are simulated together."""


def is_loader(data: Any) -> bool:
    """Whether data come in batches of their own, as a DataLoader's."""
    return (
        hasattr(data, "__iter__")
        and not hasattr(data, "__array__")
        and (hasattr(data, "dataset") or hasattr(data, "__next__"))
    )


def loader_of(data: Any) -> Any:
    """Return a loader of a dataset, and anything else as it is.

    Args:
        data: a dataset as torch has them, with one sample or pair for each index, or that gives
            one after the other; a loader; or numbers.
    """
    # Whoever has one of torch's has imported torch.
    known = sys.modules.get("torch.utils.data")
    if known is None or not isinstance(data, known.Dataset):
        plain = hasattr(data, "__array__") or isinstance(data, (str, bytes, list, tuple, Mapping))
        by_index = hasattr(data, "__getitem__") and hasattr(data, "__len__")
        if plain or is_loader(data) or not by_index:
            return data
    from torch.utils.data import DataLoader

    return DataLoader(data, batch_size=BATCH)


def as_array(data: Any, name: str) -> NDArray[Any]:
    """Return numbers as an array: a numpy array, a torch tensor, or nested lists.

    Args:
        data: the numbers.
        name: of the argument, for errors.

    Raises:
        TypeError: something else.
    """
    if hasattr(data, "detach"):
        try:
            data = data.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:
            raise TypeError(f"{name}: a tensor that is no array ({one_line(error)})") from error
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise TypeError(f"{name}: {type(data).__name__} of rows of unequal length") from error
    if array.dtype.kind not in "biuf" and hasattr(data, "dtype"):
        raise TypeError(f"{name}: has dtype {array.dtype}; give whole or real numbers")
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name}: is {type(data).__name__}, not numbers; give a numpy array, a torch "
            "tensor, a dataset or a DataLoader of pairs"
        )
    return array


def first_batch(data: Any, name: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the inputs and the labels of the first batch of a loader, or all of an array.

    Labels are None where there are none, or none that are one whole number a sample.

    Raises:
        TypeError: neither.
        BadRequestError: a loader without a batch.
    """
    data = loader_of(data)
    if not is_loader(data):
        return as_array(data, name), None
    for batch in data:
        if not isinstance(batch, (tuple, list)):
            return as_array(batch, name), None
        return as_array(batch[0], name), _classes(batch[1]) if len(batch) > 1 else None
    raise BadRequestError(f"{name}: the loader gives no batch")


def _classes(labels: Any) -> NDArray[Any] | None:
    try:
        array = as_array(labels, "labels")
    except TypeError:
        return None
    return array if array.ndim == 1 and array.dtype.kind in "iu" else None


def batches(
    x: Any, y: Any = None, *, size: int = BATCH
) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Yield inputs and labels in batches.

    Args:
        x: inputs, batch first; or a dataset or loader of batches, or of pairs of inputs and labels.
        y: labels of the inputs in `x`, where that is no loader of pairs.
        size: samples of a batch of an array.

    Raises:
        TypeError: no numbers.
        BadRequestError: labels that are not one for each input.
    """
    if size < 1:
        raise BadRequestError(f"batch_size {size}: must be at least 1")
    x = loader_of(x)
    if is_loader(x):
        if y is not None:
            raise BadRequestError("y: a loader brings its own labels; leave y out")
        for batch in x:
            pair = isinstance(batch, (tuple, list))
            inputs = as_array(batch[0] if pair else batch, "x")
            yield inputs, as_array(batch[1], "y") if pair and len(batch) > 1 else None
        return
    inputs = as_array(x, "x")
    labels = None if y is None else as_array(y, "y")
    if inputs.ndim == 0 or not len(inputs):
        raise BadRequestError(f"x: has shape {inputs.shape}; give at least one sample, batch first")
    if labels is not None:
        check_label_count(labels, inputs.shape)
    for start in range(0, len(inputs), size):
        part = slice(start, start + size)
        yield inputs[part], None if labels is None else labels[part]


def check_label_count(labels: NDArray[Any], inputs: tuple[int, ...]) -> None:
    """Refuse labels that are not one for each input.

    Args:
        labels: of a batch.
        inputs: shape of the inputs of the same batch.

    Raises:
        BadRequestError: they are not.
    """
    if labels.shape == inputs[:1]:
        return
    remedy = ""
    if labels.shape == (inputs[0], 1):
        remedy = "; give y.reshape(-1)"
    elif labels.ndim == 2 and len(labels) == inputs[0]:
        remedy = "; give indices of classes, of one-hot labels y.argmax(1)"
    elif len(inputs) > 1 and labels.shape == inputs[1:2]:
        remedy = "; if the steps of the inputs come first, swap their first two axes"
    raise BadRequestError(
        f"y: has shape {labels.shape}; one label for each of {inputs[0]} inputs is needed{remedy}"
    )


def sample_count(x: Any) -> int | None:
    """Return how many samples there are; None where only a loader knows."""
    try:
        return len(x.dataset) if is_loader(x) else len(x)
    except (TypeError, AttributeError):
        return None


def batch_first(series: NDArray[Any]) -> NDArray[Any]:
    """Return a series (T, batch, ...) as (batch, T, ...)."""
    return series.swapaxes(0, 1) if series.ndim > 1 else series


def messages_of(values: NDArray[Any], network: ChipNetwork, name: str = "x") -> NDArray[Any]:
    """Return values as the messages of a decision.

    Args:
        values: frames (batch, *shape) of a network that holds one frame, series
            (batch, T, *shape) of one that takes a slice a step, in the network's own values. A
            frame for such a network is shown in all of its steps.
        network: says what its input sends.
        name: of the argument, for errors.

    Returns:
        uint8, or int8 of a signed input, (batch, *input shape), or (batch, T, *input shape).

    Raises:
        BadRequestError: another shape, or a value that no message stands for.
    """
    return as_messages(shown_values(values, network, name), network, Path(name))


def shown_values(values: NDArray[Any], network: ChipNetwork, name: str = "x") -> NDArray[Any]:
    """Return values in the shape of a decision: a frame for a series is shown in all its steps.

    Args:
        values, network, name: as for :func:`messages_of`.

    Raises:
        BadRequestError: another shape, or values that are not finite.
    """
    shape, axes = network.input.shape, 1 if network.input.held else 2
    # A module's own shape may lack the axes of size 1 that an image on the chip has.
    found = axes_before(values.shape, network)
    if found is None or not values.size or (found == 2 and axes == 1):
        wanted = ", ".join(map(str, shape))
        series = "" if axes == 1 else f" or series (batch, T, {wanted})"
        if GIVEN_FLAT in network.provenance:
            series += f", or flat ones, of {prod(shape)} values"
        raise BadRequestError(
            f"{name}: has shape {values.shape}, {network.name} takes frames (batch, {wanted})"
            f"{series}"
        )
    if not np.isfinite(values).all():
        raise BadRequestError(f"{name}: has values that are not finite")
    shown = values.reshape(*values.shape[:found], *shape)
    if found < axes:
        steps = (len(shown), network.time_steps, *shape)
        shown = np.broadcast_to(shown[:, None], steps)
    return shown

"""Maxima of signals: exact where the signals are spikes, a named approximation where they are not.

The maximum of spikes is 1 where any of them is there: a neuron of threshold 0.5 without memory that
every value of the window reaches with weight 1. Padding and missing values count as no spike. The
same holds of spikes times one positive factor plus one constant; with a negative factor the
maximum is below the constant only where all spikes are there, which is a higher threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtspark.convert.linear import (
    MATRIX_VALUES,
    Dense,
    LinearMap,
    Scale,
    convolution,
    copied,
    identity,
)
from mtspark.convert.snntorch.recorder import Node
from mtspark.convert.snntorch.values import (
    Form,
    InputValues,
    NeedsSpikesError,
    Pooled,
    composed,
    substitute,
)
from mtspark.core.arrays import Floats
from mtspark.core.errors import BadNetworkError
from mtspark.core.geometry import Pair, Shape

OF_INPUT = "values of the input, whose messages have 8 bits"
"""What a maximum is taken of that comes before all neurons."""


class NoSpikesError(BadNetworkError):
    """The values of a window are no spikes of one worth; the text says what they are."""


def windows(node: Node, shape: Shape, signals: int = 1) -> LinearMap:
    """Return the map that counts the values of every window of a maximum.

    Args:
        node: the recorded maximum.
        shape: of one sample of each of its signals.
        signals: how many they are.

    Raises:
        BadNetworkError: a maximum over samples, a window without any value, or a matrix that
            would be too large.
    """
    name = node.op.removesuffix("_with_indices")
    if node.item not in (None, 0):
        raise BadNetworkError(
            f"{node.where}: the places of the largest values are no spikes; use the values only"
        )
    if signals > 1:
        if shape != node.shape[1:]:
            raise BadNetworkError(f"{node.where}: {name} of values of different shapes")
        return identity(prod(shape))
    if any(isinstance(value, Tensor) for value in (*node.args, *node.kwargs.values())):
        raise BadNetworkError(f"{node.where}: {name} of a signal and a constant is not linear")
    linear = _WINDOWS.get(name, _reduced)(node, shape)
    if linear.outputs != prod(node.shape[1:]):
        raise BadNetworkError(f"{node.where}: {name} over the samples of a batch")
    if (linear.apply(np.ones((1, linear.inputs))) == 0).any():
        raise BadNetworkError(f"{node.where}: a window lies in the padding alone")
    return linear


def _argument(node: Node, at: int, name: str, default: Any) -> Any:
    return node.args[at] if len(node.args) > at else node.kwargs.get(name, default)


def _pair(value: Any, dimensions: int, neutral: int) -> Pair:
    values = [value] if isinstance(value, int) else [int(entry) for entry in value]
    if dimensions == 1:
        return neutral, values[0]
    return values[0], values[-1]


def _max_pool(node: Node, shape: Shape) -> LinearMap:
    dimensions = 1 if "1d" in node.op else 2
    image = _image(shape, dimensions)
    kernel = _pair(_argument(node, 1, "kernel_size", None), dimensions, 1)
    step = _argument(node, 2, "stride", None)
    stride = kernel if step is None or step in ((), []) else _pair(step, dimensions, 1)
    padding = _pair(_argument(node, 3, "padding", 0), dimensions, 0)
    dilation = _pair(_argument(node, 4, "dilation", 1), dimensions, 1)
    taps = np.ones((image[0], 1, *kernel))
    conv = convolution(taps, image, stride, padding, dilation, image[0])
    if conv is not None and conv.outputs == prod(node.shape[1:]):
        return conv
    taps, padding, dilation = _reaching(
        taps, image, stride, padding, dilation, node.shape[-dimensions:]
    )
    conv = convolution(taps, image, stride, padding, dilation, image[0])
    assert conv is not None
    return conv


def _reaching(
    taps: Floats,
    image: tuple[int, int, int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    made: Shape,
) -> tuple[Floats, Pair, Pair]:
    """Kernel, padding and dilation of windows that reach beyond the padding at the end.

    With ceil_mode they do. The chip pads both sides alike, so the kernel gets leading rows and
    columns of zeros, which lie in the padding before.
    """
    ends, spaces = list(padding), list(dilation)
    for axis, count in ((0, made[0] if len(made) == 2 else 1), (1, made[-1])):
        reach = dilation[axis] * (taps.shape[2 + axis] - 1) + 1
        beyond = (count - 1) * stride[axis] + reach - image[1 + axis] - 2 * padding[axis]
        if beyond <= 0:
            continue
        spread = np.zeros((*taps.shape[: 2 + axis], beyond + reach, *taps.shape[3 + axis :]))
        at = (slice(None),) * (2 + axis)
        spread[(*at, slice(beyond, None, dilation[axis]))] = taps
        taps, ends[axis], spaces[axis] = spread, padding[axis] + beyond, 1
    return taps, (ends[0], ends[1]), (spaces[0], spaces[1])


def _adaptive(node: Node, shape: Shape) -> LinearMap:
    dimensions = 1 if "1d" in node.op else 2
    image = _image(shape, dimensions)
    sizes = node.shape[-dimensions:]
    if all(have % want == 0 for have, want in zip(shape[-dimensions:], sizes, strict=True)):
        rows, columns = image[1] // (1, *sizes)[-2], image[2] // sizes[-1]
        return _windows_of(image, (rows, columns))
    return _by_channel(node, image, shape[-dimensions:])


def _reduced(node: Node, shape: Shape) -> LinearMap:
    """The largest value along some axes of a sample."""
    axes = _argument(node, 1, "dim", node.kwargs.get("axis"))
    chosen = [axes] if isinstance(axes, int) else list(axes or [])
    rank = len(shape) + 1
    chosen = sorted(axis % rank for axis in chosen)
    if not chosen or 0 in chosen:
        raise BadNetworkError(
            f"{node.where}: {node.op} over the samples of a batch; name other dimensions"
        )
    if chosen == list(range(chosen[0], rank)):
        # The last axes: one window for each value of the others.
        return _windows_of((prod(shape[: chosen[0] - 1]), 1, prod(shape[chosen[0] - 1 :])), None)
    numbers = np.arange(prod(shape)).reshape(shape)
    kept = [axis for axis in range(len(shape)) if axis + 1 not in chosen]
    order = numbers.transpose(*kept, *[axis - 1 for axis in chosen]).reshape(
        prod(node.shape[1:]), -1
    )
    _check_size(node, len(order), prod(shape))
    weights = np.zeros((len(order), prod(shape)))
    np.put_along_axis(weights, order, 1.0, axis=1)
    return Dense(weights)


def _windows_of(image: tuple[int, int, int], kernel: Pair | None) -> LinearMap:
    """Windows side by side; None: one over each channel."""
    size = image[1:] if kernel is None else kernel
    conv = convolution(np.ones((image[0], 1, *size)), image, size, (0, 0), (1, 1), image[0])
    assert conv is not None
    return conv


def _image(shape: Shape, dimensions: int) -> tuple[int, int, int]:
    """Values as (channels, rows, columns); a series of channels has one row."""
    rows, columns = (1, shape[-1]) if dimensions == 1 else (shape[-2], shape[-1])
    return prod(shape[:-dimensions]), rows, columns


def _by_channel(node: Node, image: tuple[int, int, int], size: Shape) -> LinearMap:
    """The matrix of the windows: torch's own maximum of every unit vector of a channel."""
    values = image[1] * image[2]
    outputs = prod(node.shape[1:]) // image[0]
    _check_size(node, image[0] * outputs, image[0] * values)
    units = torch.eye(values, dtype=torch.float64).reshape(values, 1, *size)
    counted = _function(node)(units, *node.args[1:], **node.kwargs)
    if isinstance(counted, tuple):
        counted = counted[0]
    one = np.maximum(counted.reshape(values, -1).numpy().T, 0)
    return Dense(np.kron(np.eye(image[0]), one))


def _check_size(node: Node, outputs: int, inputs: int) -> None:
    if outputs * inputs > MATRIX_VALUES:
        raise BadNetworkError(
            f"{node.where}: {node.op} of {inputs} values to {outputs} would need a matrix that is "
            "too large; use nn.MaxPool2d with a size that divides the image, without ceil_mode"
        )


_WINDOWS: dict[str, Callable[[Node, Shape], LinearMap]] = {
    "max_pool1d": _max_pool,
    "max_pool2d": _max_pool,
    "adaptive_max_pool1d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
}


def _function(node: Node) -> Callable[..., Any]:
    assert node.function is not None
    return node.function


def maximum(node: Node, values: Mapping[int, Floats]) -> Floats:
    """Take a recorded maximum of other values.

    Args:
        node: the recorded maximum.
        values: (n, *shape) of each of its signals, by the id of their nodes.

    Returns:
        Its result, (n, *shape of the node).
    """
    args, kwargs = substitute((node.args, node.kwargs), dict(values))
    result = _function(node)(*args, **kwargs)
    result = result if node.item is None else result[node.item]
    assert isinstance(result, Tensor)
    return np.asarray(result.numpy())


class Spikes:
    """What spikes make of a window: any of them, or all of them, is one value, none another.

    Attributes:
        maps: for each term of the forms, in order, the map that counts the spikes of the windows.
        threshold: of the count, above which the maximum is the constant and the worth.
        worth: of a spike.
        constant: what is added to it.
    """

    def __init__(
        self,
        node: Node,
        forms: Mapping[int, Form],
        counted: LinearMap,
        inputs: InputValues,
    ) -> None:
        """Read the forms of a maximum.

        Args:
            node: the recorded maximum.
            forms: of its signals, by the ids of their nodes.
            counted: its windows.
            inputs: what the input's values are.

        Raises:
            NoSpikesError: no spikes of one worth.
            NeedsSpikesError: they would be, had the input been recorded as spikes.
        """
        self.maps: list[LinearMap] = []
        worths, constants = {}, {}
        for key, form in forms.items():
            worth = self._worth(form, counted, inputs.spike, node.where)
            worths[key] = worth.reshape(1, *form.shape)
            constants[key] = form.constant.reshape(1, *form.shape)
        there = {key: worth != 0 for key, worth in worths.items()}
        largest = maximum(node, {k: np.where(there[k], worths[k], -np.inf) for k in worths})
        smallest = -maximum(node, {k: np.where(there[k], -worths[k], -np.inf) for k in worths})
        empty = np.isneginf(largest)
        top = maximum(node, constants)
        bottom = -maximum(node, {key: -constant for key, constant in constants.items()})
        if (~empty & (largest != smallest)).any() or (top != bottom).any():
            raise NoSpikesError("spikes of different worth")
        if not inputs.recorded and any(
            term.source.call is None for form in forms.values() for term in form.terms
        ):
            raise NeedsSpikesError(f"{node.where}: {node.op} of the input")
        self.worth: Floats = np.where(empty, 0.0, largest)[0]
        self.constant: Floats = top[0]
        sizes = len(forms) * counted.apply(np.ones((1, counted.inputs)))[0]
        all_of_them = sizes.reshape(self.worth.shape) - 0.5
        self.threshold: Floats = np.where(self.worth < 0, all_of_them, 0.5)

    def fired(self, result: Tensor) -> Tensor:
        """Which neurons fire where the maximum is `result`, (batch, *shape)."""
        risen = np.abs(result.double().numpy() - self.constant) > np.abs(self.worth) / 2
        return torch.from_numpy(risen & (self.worth != 0))

    def _worth(self, form: Form, counted: LinearMap, unit: float | None, where: str) -> Floats:
        """What a spike is worth in each value of a form; 0 where none arrives."""
        worth, arriving = np.zeros(prod(form.shape)), np.zeros(prod(form.shape))
        for term in form.terms:
            single = copied(term.linear)
            if single is None:
                raise NoSpikesError("sums of several values")
            if term.source.call is None and unit is None:
                raise NoSpikesError(OF_INPUT)
            if term.source.call is not None and term.source.quantity != "spikes":
                raise NoSpikesError(f"a {term.source.quantity}")
            factors, ones = single
            size = unit if term.source.call is None and unit is not None else 1.0
            worth += factors * size
            arriving += factors != 0
            if size != 1:
                ones = composed(ones, Scale(np.full(ones.inputs, 1 / size)), where)
            self.maps.append(composed(counted, ones, where))
        if (arriving > 1).any():
            raise NoSpikesError("sums of several values")
        return worth


def refused(pooled: Pooled, exchangeable: bool, between: Node | None = None) -> BadNetworkError:
    """Explain that a maximum is no OR of spikes, with what to do.

    Args:
        pooled: the maximum.
        exchangeable: whether `--max-pool or` would help.
        between: what lies between it and the neurons, where something does.

    Returns:
        The error to raise.
    """
    first = pooled.pools[0]
    name = first.op.removesuffix("_with_indices")
    remedy = (
        "put it behind the neurons, use average pooling (nn.AvgPool2d) or a convolution with a "
        "stride"
    )
    if pooled.of == OF_INPUT:
        remedy = "pool your data before they are sent"
    if exchangeable:
        remedy += (
            ", or export with --max-pool or, an approximation in which the neurons fire before "
            "the pool"
        )
    elif between is not None:
        remedy += f" (no help from --max-pool or: {between.op} lies between it and the neurons)"
    return BadNetworkError(
        f"{first.where}: {name} of {pooled.of} is not linear, and a chip has it of spikes only: "
        f"{remedy}"
    )


def after_pools(pools: Sequence[Node], values: Floats) -> Floats:
    """Take several maxima one after another.

    Args:
        pools: each of one signal.
        values: (n, *shape) of the first one's signal.
    """
    for node in pools:
        signal = next(entry for entry in node.args if isinstance(entry, Node))
        values = maximum(node, {id(signal): values})
    return values

"""Linear maps between flattened signals, and what follows from putting one after another.

What lies between two populations of a graph (affine layers, convolutions, pooling, scales) is
one linear map. Compositions are exact; a convolution stays one where that is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import Float, FloatConnection, FloatKind
from mtspark.core.float_network.rules import conv_output_shape
from mtspark.core.float_network.simulator import convolve

MATRIX_VALUES = 2**25
"""Largest matrix that a composition may become (256 MiB in float64)."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LinearMap:
    """A linear map; fields as in :class:`mtspark.core.float_network.network.FloatConnection`."""

    kind: FloatKind
    weights: Float
    input_shape: Shape = ()
    output_shape: Shape = ()
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def inputs(self) -> int:
        """Number of values that go in."""
        if self.kind is FloatKind.CONV:
            return int(np.prod(self.input_shape))
        return self.weights.shape[-1]

    @property
    def outputs(self) -> int:
        """Number of values that come out."""
        if self.kind is FloatKind.CONV:
            return int(np.prod(self.output_shape))
        return self.weights.shape[0]

    def apply(self, values: Float) -> Float:
        """Map rows (n, inputs) to (n, outputs)."""
        if self.kind is FloatKind.DIAGONAL:
            return values * self.weights
        if self.kind is FloatKind.DENSE:
            return values @ self.weights.T
        return convolve(self.connection(), values.reshape(-1, *self.input_shape)).reshape(
            len(values), -1
        )

    def connection(self, name: str = "", source: str = "", target: str = "") -> FloatConnection:
        """The map as a connection."""
        return FloatConnection(name, source, target, **vars(self))


def diagonal(factors: Float) -> LinearMap:
    """One factor a value."""
    return LinearMap(FloatKind.DIAGONAL, np.asarray(factors, np.float64).reshape(-1))


def identity(size: int) -> LinearMap:
    """Nothing changes."""
    return diagonal(np.ones(size))


def dense(weights: Float) -> LinearMap:
    """A matrix (outputs, inputs)."""
    return LinearMap(FloatKind.DENSE, np.asarray(weights, np.float64))


def convolution(
    weights: Float,
    input_shape: Shape,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> LinearMap | None:
    """A cross-correlation over (channels, rows, columns); None where kernel and shape misfit."""
    shaped = LinearMap(
        FloatKind.CONV,
        np.asarray(weights, np.float64),
        input_shape,
        (),
        stride,
        padding,
        dilation,
        groups,
    )
    made = conv_output_shape(shaped.connection())
    return None if made is None else replace(shaped, output_shape=made)


def compose(second: LinearMap, first: LinearMap) -> LinearMap:
    """The map that applies `first`, then `second`.

    Raises:
        BadNetworkError: it has no compact form and its matrix would be too large.
    """
    if first.kind is FloatKind.DIAGONAL and np.all(first.weights == 1):
        return second
    if second.kind is FloatKind.DIAGONAL and np.all(second.weights == 1):
        return first
    kinds = second.kind, first.kind
    if kinds == (FloatKind.DIAGONAL, FloatKind.DIAGONAL):
        return diagonal(second.weights * first.weights)
    if kinds == (FloatKind.DENSE, FloatKind.DIAGONAL):
        return dense(second.weights * first.weights)
    if kinds == (FloatKind.DIAGONAL, FloatKind.DENSE):
        return dense(second.weights[:, None] * first.weights)
    if kinds == (FloatKind.CONV, FloatKind.CONV):
        merged = _merge_convolutions(second, first)
        if merged is not None:
            return merged
    if kinds == (FloatKind.CONV, FloatKind.DIAGONAL):
        factors = _by_channel(first.weights, second.input_shape[0])
        if factors is not None:
            per_group = second.weights.shape[1]
            out = second.weights.shape[0] // second.groups
            rows = np.repeat(factors.reshape(second.groups, per_group), out, axis=0)
            return replace(second, weights=second.weights * rows[:, :, None, None])
    if kinds == (FloatKind.DIAGONAL, FloatKind.CONV):
        factors = _by_channel(second.weights, first.output_shape[0])
        if factors is not None:
            return replace(first, weights=first.weights * factors[:, None, None, None])
    _check_size(second.outputs, first.inputs)
    if second.kind is FloatKind.DENSE and first.kind is FloatKind.CONV:
        return dense(_convolve_rows_back(first, second.weights))
    return dense(second.apply(matrix(first).T).T)


def matrix(linear: LinearMap) -> Float:
    """The map as a matrix (outputs, inputs).

    Raises:
        BadNetworkError: it would be too large.
    """
    if linear.kind is FloatKind.DENSE:
        return linear.weights
    _check_size(linear.outputs, linear.inputs)
    if linear.kind is FloatKind.DIAGONAL:
        return np.diag(linear.weights)
    return linear.apply(np.eye(linear.inputs)).T


def add(one: LinearMap, other: LinearMap) -> LinearMap | None:
    """The sum of two maps where it has a compact form, else None."""
    if one.kind is other.kind is FloatKind.CONV:
        return replace(one, weights=one.weights + other.weights) if _like(one, other) else None
    if FloatKind.CONV in (one.kind, other.kind):
        return None
    if one.kind is other.kind:
        return replace(one, weights=one.weights + other.weights)
    return dense(matrix(one) + matrix(other))


def _like(one: LinearMap, other: LinearMap) -> bool:
    keys = ("input_shape", "output_shape", "stride", "padding", "dilation", "groups")
    return one.weights.shape == other.weights.shape and all(
        getattr(one, key) == getattr(other, key) for key in keys
    )


def _check_size(outputs: int, inputs: int) -> None:
    if outputs * inputs > MATRIX_VALUES:
        raise BadNetworkError(
            f"layers without neurons between them combine to a matrix of {outputs} x {inputs}, "
            f"{MATRIX_VALUES} values are the limit; put neurons between them or combine them before"
        )


def _by_channel(factors: Float, channels: int) -> Float | None:
    """One factor a channel, where all values of a channel share theirs."""
    rows = factors.reshape(channels, -1)
    return rows[:, 0] if np.all(rows == rows[:, :1]) else None


def _convolve_rows_back(first: LinearMap, rows: Float) -> Float:
    """rows @ matrix(first) without that matrix: the transposed convolution of each row."""
    channels, height, width = first.input_shape
    out, per_group, *kernel = first.weights.shape
    (pad_y, pad_x), (step_y, step_x) = first.padding, first.stride
    padded = np.zeros((len(rows), channels, height + 2 * pad_y, width + 2 * pad_x))
    images = rows.reshape(len(rows), *first.output_shape)
    share = out // first.groups
    made_y, made_x = first.output_shape[1:]
    for row, column in np.ndindex(*kernel):
        y, x = row * first.dilation[0], column * first.dilation[1]
        window = np.s_[y : y + step_y * made_y : step_y], np.s_[x : x + step_x * made_x : step_x]
        for group in range(first.groups):
            taps = first.weights[group * share : (group + 1) * share, :, row, column]
            part = images[:, group * share : (group + 1) * share]
            target = np.s_[group * per_group : (group + 1) * per_group]
            padded[(slice(None), target, *window)] += np.einsum("noyx,oc->ncyx", part, taps)
    inner = padded[:, :, pad_y : pad_y + height, pad_x : pad_x + width]
    return inner.reshape(len(rows), -1)


def _merge_convolutions(second: LinearMap, first: LinearMap) -> LinearMap | None:
    """One convolution that equals two, where padding and strides allow it.

    The zeros around what `second` sees must be what `first` makes of zeros alone, so a window
    of `first` that `second` takes for padding must not reach into the image.
    """
    if first.output_shape != second.input_shape:
        return None
    for axis in range(2):
        if not second.padding[axis]:
            continue
        reach = first.dilation[axis] * (first.weights.shape[2 + axis] - 1)
        before = -first.stride[axis] - first.padding[axis] + reach
        made = first.output_shape[1 + axis]
        after = made * first.stride[axis] - first.padding[axis]
        if before >= 0 or after < first.input_shape[1 + axis]:
            return None
    depthwise = first.groups == first.input_shape[0] == first.output_shape[0]
    groups = second.groups if depthwise else 1
    outer = second.weights if depthwise else _ungrouped(second)
    inner = first.weights[:, 0] if depthwise else _ungrouped(first)
    spread = [d * s for d, s in zip(second.dilation, first.stride, strict=True)]
    size = [
        (outer.shape[2 + axis] - 1) * spread[axis]
        + (inner.shape[-2 + axis] - 1) * first.dilation[axis]
        + 1
        for axis in range(2)
    ]
    channels = outer.shape[1] if depthwise else first.input_shape[0]
    if len(outer) * channels * size[0] * size[1] > MATRIX_VALUES:
        return None
    weights = np.zeros((len(outer), channels, *size))
    share = len(outer) // groups
    for row, column in np.ndindex(*outer.shape[2:]):
        for y, x in np.ndindex(*inner.shape[-2:]):
            place = (
                slice(None),
                slice(None),
                row * spread[0] + y * first.dilation[0],
                column * spread[1] + x * first.dilation[1],
            )
            taps = outer[:, :, row, column]
            if depthwise:
                factors = np.repeat(inner[:, y, x].reshape(groups, -1), share, axis=0)
                weights[place] += taps * factors
            else:
                weights[place] += taps @ inner[:, :, y, x]
    padding = tuple(
        first.padding[axis] + second.padding[axis] * first.stride[axis] for axis in range(2)
    )
    stride = tuple(one * two for one, two in zip(first.stride, second.stride, strict=True))
    merged = convolution(
        weights,
        first.input_shape,
        (stride[0], stride[1]),
        (padding[0], padding[1]),
        (1, 1),
        groups,
    )
    return merged if merged is not None and merged.output_shape == second.output_shape else None


def _ungrouped(linear: LinearMap) -> Float:
    """Weights (out channels, all in channels, rows, columns), zero outside of the groups."""
    out, per_group, *kernel = linear.weights.shape
    full = np.zeros((out, linear.input_shape[0], *kernel))
    share = out // linear.groups
    for group in range(linear.groups):
        rows = np.s_[group * share : (group + 1) * share]
        full[rows, group * per_group : (group + 1) * per_group] = linear.weights[rows]
    return full

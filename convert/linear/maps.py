"""The linear maps that lie between two populations: scales, selections, convolutions, matrices.

A map takes a flattened signal of `inputs` values to one of `outputs` values, in float64. Every
kind can be applied to rows and, for compositions, its transpose too. A reshape changes no value of
a flattened signal, so it is the identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Floats
from mtspark.core.float_network import convolve
from mtspark.core.geometry import ConvGeometry, ConvParameters, Pair, Shape, conv_geometry

BLOCK_VALUES = 2**22
"""Values that a transposed convolution or a composition lays out at once (32 MiB)."""


class LinearMap(ABC):
    """A linear map of flattened signals."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Number of values that go in."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of values that come out."""

    @abstractmethod
    def apply(self, rows: Floats) -> Floats:
        """Map rows (n, inputs) to (n, outputs)."""

    @abstractmethod
    def transposed(self, rows: Floats) -> Floats:
        """Multiply rows (n, outputs) by the map's matrix, without building it: (n, inputs)."""


@dataclass(frozen=True, eq=False)
class Scale(LinearMap):
    """One factor a value.

    Attributes:
        factors: (values,).
    """

    factors: Floats

    @property
    def inputs(self) -> int:
        """Number of values that go in."""
        return len(self.factors)

    @property
    def outputs(self) -> int:
        """Number of values that come out."""
        return len(self.factors)

    def apply(self, rows: Floats) -> Floats:
        """Map rows (n, inputs) to (n, outputs)."""
        return rows * self.factors

    def transposed(self, rows: Floats) -> Floats:
        """Multiply rows (n, outputs) by the map's matrix."""
        return rows * self.factors


@dataclass(frozen=True, eq=False)
class Select(LinearMap):
    """Values in other places: permutations, slices, repetitions, zero padding.

    Attributes:
        index: (outputs,); output i is input index[i], or 0 where that is -1.
        size: number of inputs.
    """

    index: NDArray[np.int64]
    size: int

    @property
    def inputs(self) -> int:
        """Number of values that go in."""
        return self.size

    @property
    def outputs(self) -> int:
        """Number of values that come out."""
        return len(self.index)

    def apply(self, rows: Floats) -> Floats:
        """Map rows (n, inputs) to (n, outputs)."""
        taken = self.index >= 0
        result = np.zeros((len(rows), self.outputs))
        result[:, taken] = rows[:, self.index[taken]]
        return result

    def transposed(self, rows: Floats) -> Floats:
        """Multiply rows (n, outputs) by the map's matrix."""
        taken = self.index >= 0
        result = np.zeros((len(rows), self.size))
        # np.add.at adds up an index that occurs several times; result.T is a view.
        np.add.at(result.T, self.index[taken], rows[:, taken].T)
        return result


@dataclass(frozen=True, eq=False)
class Dense(LinearMap):
    """A matrix.

    Attributes:
        weights: (outputs, inputs).
    """

    weights: Floats

    @property
    def inputs(self) -> int:
        """Number of values that go in."""
        return self.weights.shape[1]

    @property
    def outputs(self) -> int:
        """Number of values that come out."""
        return self.weights.shape[0]

    def apply(self, rows: Floats) -> Floats:
        """Map rows (n, inputs) to (n, outputs)."""
        return rows @ self.weights.T

    def transposed(self, rows: Floats) -> Floats:
        """Multiply rows (n, outputs) by the map's matrix."""
        return rows @ self.weights


@dataclass(frozen=True, eq=False)
class Conv(LinearMap):
    """A cross-correlation over (channels, rows, columns) with zero padding; also every pooling.

    Attributes:
        weights: (output channels, input channels / groups, rows, columns).
        geometry: of its kernel on its image.
    """

    weights: Floats
    geometry: ConvGeometry

    @property
    def inputs(self) -> int:
        """Number of values that go in."""
        return prod(self.geometry.input_shape)

    @property
    def outputs(self) -> int:
        """Number of values that come out."""
        return prod(self.geometry.output_shape)

    def apply(self, rows: Floats) -> Floats:
        """Map rows (n, inputs) to (n, outputs)."""
        images = rows.reshape(-1, *self.geometry.input_shape)
        return convolve(self.geometry, self.weights, images).reshape(len(rows), -1)

    def transposed(self, rows: Floats) -> Floats:
        """Multiply rows (n, outputs) by the map's matrix: the transposed convolution."""
        geometry = self.geometry
        (channels, height, width), (_, *sent_shape) = geometry.input_shape, geometry.output_shape
        (pad_y, pad_x), groups = geometry.padding, geometry.groups
        kernels = self.weights.reshape(groups, -1, *self.weights.shape[1:])
        # (rows, columns, groups, channels of a group, filters of a group)
        taps = np.ascontiguousarray(kernels.transpose(3, 4, 0, 2, 1))
        size = channels, height + 2 * pad_y, width + 2 * pad_x
        result = np.empty((len(rows), self.inputs))
        block = max(1, BLOCK_VALUES // max(prod(size), self.outputs))
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            # Channels first, so that each tap is one large product: (groups, filters of a group,
            # rows of the block and places).
            images = part.reshape(len(part), groups, geometry.filters_per_group, -1)
            sent = images.transpose(1, 2, 0, 3).reshape(groups, geometry.filters_per_group, -1)
            padded = np.zeros((channels, len(part), *size[1:]))
            for row, column, (down, right) in geometry.taps():
                arriving = (taps[row, column] @ sent).reshape(channels, -1, *sent_shape)
                padded[:, :, down, right] += arriving
            inner = padded[..., pad_y : pad_y + height, pad_x : pad_x + width]
            result[start : start + block] = inner.swapaxes(0, 1).reshape(len(part), -1)
        return result


def identity(size: int) -> Scale:
    """The map that changes nothing."""
    return Scale(np.ones(size))


def is_identity(linear: LinearMap) -> bool:
    """Whether a map is the identity."""
    return isinstance(linear, Scale) and bool((linear.factors == 1).all())


def select(index: NDArray[np.int64], size: int) -> LinearMap:
    """The map that puts input `index[i]` in place i, or 0 where that is -1.

    Args:
        index: (outputs,).
        size: number of inputs.

    Returns:
        A selection; the identity where every value keeps its place.
    """
    if len(index) == size and (index == np.arange(size)).all():
        return identity(size)
    return Select(index, size)


def convolution(
    weights: Floats, input_shape: Shape, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Conv | None:
    """Build a convolution from its kernel and the image that it gets.

    Args:
        weights: (output channels, input channels / groups, rows, columns).
        input_shape: (channels, rows, columns).
        stride, padding, dilation: (rows, columns); the same zeros on both sides.
        groups: of channels.

    Returns:
        The map; None where kernel and image do not fit one another.
    """
    weights = np.asarray(weights, np.float64)
    parameters = ConvParameters(stride=stride, padding=padding, dilation=dilation, groups=groups)
    geometry = conv_geometry(parameters, input_shape, weights.shape)
    return None if geometry is None else Conv(weights, geometry)


def copied(linear: LinearMap) -> tuple[Floats, LinearMap] | None:
    """Read a map whose every output is one input times a factor, or nothing.

    Args:
        linear: any map.

    Returns:
        The factor of each output, 0 where it is nothing, and the map with 1 for every factor
        that is not 0. None where an output can be a sum of several inputs.
    """
    if isinstance(linear, Scale):
        return linear.factors, Scale((linear.factors != 0).astype(np.float64))
    if isinstance(linear, Select):
        return (linear.index >= 0).astype(np.float64), linear
    if isinstance(linear, Dense):
        there = linear.weights != 0
        if (np.count_nonzero(there, axis=1) > 1).any():
            return None
        return linear.weights.sum(1), Dense(there.astype(np.float64))
    if isinstance(linear, Conv):
        geometry = linear.geometry
        if geometry.kernel == (1, 1) and geometry.channels_per_group == 1:
            ones = Conv((linear.weights != 0).astype(np.float64), geometry)
            return linear.apply(np.ones((1, linear.inputs)))[0], ones
    return None


def same(one: LinearMap, other: LinearMap) -> bool:
    """Whether two maps are of one kind and hold the same numbers."""
    if one is other:
        return True
    return type(one) is type(other) and all(
        np.array_equal(value, vars(other)[key])
        if isinstance(value, np.ndarray)
        else value == vars(other)[key]
        for key, value in vars(one).items()
    )

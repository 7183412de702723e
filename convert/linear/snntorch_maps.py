"""Linear maps between neurons, and how two of them in a row become one.

Shapes are those of one sample. Every map takes a flattened or shaped array of its input size;
weights are float64. :func:`join` appends a map to a chain and folds it into the last one where
that is exact; where no convolution can say it, the product becomes a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.grad import conv2d_input

from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import Float

MATRIX_VALUES = 2**24
"""Largest matrix that a composition may become (128 MiB)."""

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Matrix:
    """weight (outputs, inputs) over flattened shapes."""

    weight: Float
    name: str = ""


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation with weight (out, in / groups, rows, columns), zero padding."""

    weight: Float
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    name: str = ""


@dataclass(frozen=True, eq=False)
class Scale:
    """A factor for each value, (inputs,)."""

    factor: Float
    name: str = ""


@dataclass(frozen=True, eq=False)
class Gather:
    """Output i is input index[i]; nothing (0) where the index is -1."""

    index: NDArray[np.int64]
    inputs: int
    name: str = ""

    @property
    def keeps_all(self) -> bool:
        """Whether it changes nothing but the shape."""
        return len(self.index) == self.inputs and bool((self.index == np.arange(self.inputs)).all())


Linear = Matrix | Conv | Scale | Gather
Chain = tuple[Linear, ...]


def join(chain: Chain, step: Linear, where: str) -> Chain:
    """Append a map to a chain of at most one map.

    Raises:
        BadNetworkError: the product is no convolution and too large for a matrix.
    """
    if isinstance(step, Gather) and step.keeps_all:
        return chain
    if isinstance(step, Scale) and (step.factor == 1).all():
        return chain
    if not chain:
        return (step,)
    (last,) = chain
    return (_product(last, step, where),)


def _product(first: Linear, then: Linear, where: str) -> Linear:
    name = then.name or first.name
    if isinstance(first, Scale) and isinstance(then, Scale):
        return Scale(first.factor * then.factor, name)
    if isinstance(first, Gather) and isinstance(then, Gather):
        index = np.where(then.index < 0, -1, first.index[then.index])
        return Gather(index, first.inputs, name)
    if isinstance(then, Scale) and isinstance(first, Conv):
        rows = then.factor.reshape(first.output_shape[0], -1)
        if (rows == rows[:, :1]).all():
            weight = first.weight * rows[:, 0].reshape(-1, 1, 1, 1)
            return replace(first, weight=weight, name=name)
    if isinstance(first, Scale) and isinstance(then, Conv):
        rows = first.factor.reshape(then.input_shape[0], -1)
        if (rows == rows[:, :1]).all():
            out, per_group = then.weight.shape[:2]
            factors = rows[:, 0].reshape(then.groups, 1, per_group, 1, 1)
            weight = then.weight.reshape(then.groups, out // then.groups, *then.weight.shape[1:])
            return replace(then, weight=(weight * factors).reshape(then.weight.shape), name=name)
    if isinstance(first, Conv) and isinstance(then, Conv):
        joined = _convolutions(first, then)
        if joined is not None:
            return joined
    return Matrix(_matrix_product(first, then, where), name)


def _matrix_product(first: Linear, then: Linear, where: str) -> Float:
    if isinstance(then, Matrix):
        return _pull_back(then.weight, first, where)
    outputs = output_size(then)
    _check_size(outputs, input_size(first), where)
    return _pull_back(matrix_of(then, where), first, where)


def _pull_back(rows: Float, first: Linear, where: str) -> Float:
    """rows @ matrix_of(first), without that matrix where it is large."""
    _check_size(len(rows), input_size(first), where)
    if isinstance(first, Matrix):
        return rows @ first.weight
    if isinstance(first, Scale):
        return rows * first.factor
    if isinstance(first, Gather):
        result = np.zeros((len(rows), first.inputs))
        used = first.index >= 0
        columns = result.T  # A view: np.add.at counts an index as often as it occurs.
        np.add.at(columns, first.index[used], rows[:, used].T)
        return result
    return (
        conv2d_input(
            (len(rows), *first.input_shape),
            torch.from_numpy(first.weight),
            torch.from_numpy(np.ascontiguousarray(rows)).reshape(len(rows), *first.output_shape),
            stride=first.stride,
            padding=first.padding,
            dilation=first.dilation,
            groups=first.groups,
        )
        .reshape(len(rows), -1)
        .numpy()
    )


def matrix_of(step: Linear, where: str) -> Float:
    """The map as a matrix (outputs, inputs).

    Raises:
        BadNetworkError: it would be too large.
    """
    if isinstance(step, Matrix):
        return step.weight
    _check_size(output_size(step), input_size(step), where)
    return _pull_back(np.eye(output_size(step)), step, where)


def input_size(step: Linear) -> int:
    """Values that go in."""
    if isinstance(step, Matrix):
        return step.weight.shape[1]
    if isinstance(step, Conv):
        return prod(step.input_shape)
    return len(step.factor) if isinstance(step, Scale) else step.inputs


def output_size(step: Linear) -> int:
    """Values that come out."""
    if isinstance(step, Matrix):
        return step.weight.shape[0]
    if isinstance(step, Conv):
        return prod(step.output_shape)
    return len(step.factor) if isinstance(step, Scale) else len(step.index)


def _check_size(outputs: int, inputs: int, where: str) -> None:
    if outputs * inputs > MATRIX_VALUES:
        raise BadNetworkError(
            f"{where}: two operations in a row without neurons between that are no single "
            f"convolution would become a matrix of {outputs} x {inputs}, the limit is "
            f"{MATRIX_VALUES} values; put spiking neurons between them"
        )


def _convolutions(first: Conv, then: Conv) -> Conv | None:
    """Two convolutions in a row as one; None where the borders would differ.

    Padding of the second means zeros in the first one's output, which equal zeros in its input
    only if no window that lies outside reaches inside.
    """
    for axis in range(2):
        reach = first.dilation[axis] * (first.weight.shape[2 + axis] - 1) + 1
        covered = first.output_shape[1 + axis] * first.stride[axis]
        if then.padding[axis] and (
            first.padding[axis]
            or reach > first.stride[axis]
            or covered < first.input_shape[1 + axis]
        ):
            return None
    weight, groups = _compose_kernels(first, then)
    return Conv(
        weight=weight,
        input_shape=first.input_shape,
        output_shape=then.output_shape,
        stride=(first.stride[0] * then.stride[0], first.stride[1] * then.stride[1]),
        padding=(
            first.padding[0] + then.padding[0] * first.stride[0],
            first.padding[1] + then.padding[1] * first.stride[1],
        ),
        groups=groups,
        name=then.name or first.name,
    )


def _compose_kernels(first: Conv, then: Conv) -> tuple[Float, int]:
    """Kernel of the product, dilation 1, and its groups."""
    depthwise = first.groups == first.input_shape[0] == len(first.weight)
    one = first.weight if depthwise else _without_groups(first)
    two = then.weight if depthwise else _without_groups(then)
    gaps = [then.dilation[axis] * first.stride[axis] for axis in range(2)]
    size = [
        (two.shape[2 + axis] - 1) * gaps[axis]
        + first.dilation[axis] * (one.shape[2 + axis] - 1)
        + 1
        for axis in range(2)
    ]
    channels = two.shape[1] if depthwise else one.shape[1]
    kernel = np.zeros((len(two), channels, *size))
    groups = then.groups if depthwise else 1
    # Input channel of each (output, channel in its group), for the depthwise case.
    group_of = np.arange(len(two)) // (len(two) // groups)
    source = group_of[:, None] * two.shape[1] + np.arange(two.shape[1])
    for row, column in np.ndindex(*two.shape[2:]):
        for y, x in np.ndindex(*one.shape[2:]):
            at = (
                row * gaps[0] + y * first.dilation[0],
                column * gaps[1] + x * first.dilation[1],
            )
            if depthwise:
                kernel[:, :, at[0], at[1]] += two[:, :, row, column] * one[:, 0, y, x][source]
            else:
                kernel[:, :, at[0], at[1]] += two[:, :, row, column] @ one[:, :, y, x]
    return kernel, groups


def _without_groups(conv: Conv) -> Float:
    """The same kernel over all input channels."""
    if conv.groups == 1:
        return conv.weight
    out, per_group, *taps = conv.weight.shape
    full = np.zeros((out, per_group * conv.groups, *taps))
    for group in range(conv.groups):
        rows = slice(group * out // conv.groups, (group + 1) * out // conv.groups)
        full[rows, group * per_group : (group + 1) * per_group] = conv.weight[rows]
    return full


def same(one: Chain, two: Chain) -> bool:
    """Whether two chains hold the same numbers."""
    if len(one) != len(two):
        return False
    for first, second in zip(one, two, strict=True):
        if first is second:
            continue
        if type(first) is not type(second):
            return False
        for key, value in vars(first).items():
            if key != "name" and not np.array_equal(value, vars(second)[key]):
                return False
    return True

"""Random linear maps with the matrices that the oracle gives for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from mtspark.convert.linear.maps import Conv, Dense, LinearMap, Scale, convolution, select
from tests.support import linear_oracle

Image = tuple[int, int, int]

# Whole numbers, so that all sums are exact in any order.
NUMBERS = st.integers(-3, 3)


@dataclass(frozen=True)
class Case:
    """A map, its matrix by the oracle, and the shape of the image that comes out."""

    linear: LinearMap
    matrix: np.ndarray
    image: Image


images = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def _array(draw: Any, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(-3, 4, shape).astype(float)


@st.composite
def scales(draw: Any, image: Image) -> Case:
    """Factors for all, for each channel, for each row of a channel, or for each value."""
    shape = draw(
        st.sampled_from([(1, 1, 1), (image[0], 1, 1), (1, image[1], 1), image]), label="broadcast"
    )
    factors = np.broadcast_to(_array(draw, *shape), image).reshape(-1)
    return Case(Scale(factors.copy()), linear_oracle.scaling(factors), image)


def all_selections(image: Image) -> list[Case]:
    """A permutation of the axes, a flip, a slice, a repetition, padding, and a reshape."""
    numbers, size = np.arange(math.prod(image)).reshape(image), math.prod(image)
    moved: list[np.ndarray] = [
        numbers.transpose(2, 0, 1),
        numbers[::-1],
        numbers[:1, :, :],
        numbers.repeat(2, axis=0),
        np.pad(numbers, ((0, 0), (1, 0), (0, 2)), constant_values=-1),
        numbers.reshape(image[2], image[0], image[1]),
    ]
    cases = []
    for places in moved:
        index = places.reshape(-1).astype(np.int64)
        matrix = linear_oracle.selection(index, size)
        cases.append(Case(select(index, size), matrix, places.shape))  # type: ignore[arg-type]
    return cases


def selections(image: Image) -> Any:
    """One of these."""
    return st.sampled_from(all_selections(image))


@st.composite
def matrices(draw: Any, image: Image) -> Case:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)))
    weights = _array(draw, math.prod(shape), math.prod(image))
    return Case(Dense(weights), weights.copy(), shape)


@st.composite
def convolutions(draw: Any, image: Image, depthwise: bool | None = None) -> Case:
    """Any stride, padding, dilation, groups and kernel that fits."""
    channels = image[0]
    groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    if depthwise:
        groups = channels
    share = 1 if depthwise else draw(st.integers(1, 2), label="filters of a group")
    kernel, stride = draw(pairs, label="kernel"), draw(pairs, label="stride")
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)), label="padding")
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)), label="dilation")
    assume(
        all(
            linear_oracle.positions(*axis) > 0
            for axis in zip(image[1:], kernel, stride, padding, dilation, strict=True)
        )
    )
    weights = _array(draw, groups * share, channels // groups, *kernel)
    return _convolved(weights, image, stride, padding, dilation)


@st.composite
def pools(draw: Any, image: Image) -> Case:
    """Sums over windows, of equal or other strides, with padding up to half a window."""
    kernel = draw(pairs, label="kernel")
    assume(kernel[0] <= image[1] and kernel[1] <= image[2])
    stride = draw(st.sampled_from([kernel, (1, 1), (2, 2)]), label="stride")
    padding = draw(st.sampled_from([(0, 0), (kernel[0] // 2, kernel[1] // 2)]), label="padding")
    return _convolved(np.ones((image[0], 1, *kernel)), image, stride, padding, (1, 1))


def _convolved(weights: np.ndarray, image: Image, stride: Any, padding: Any, dilation: Any) -> Case:
    matrix = linear_oracle.convolution(weights, image, stride, padding, dilation)
    groups = image[0] // weights.shape[1]
    linear = convolution(weights, image, stride, padding, dilation, groups)
    assert isinstance(linear, Conv)
    return Case(linear, matrix, linear.geometry.output_shape)  # type: ignore[arg-type]


KINDS = (scales, selections, matrices, convolutions, pools)


def maps(image: Image) -> Any:
    """Maps of every kind."""
    return st.one_of(*(kind(image) for kind in KINDS))


@st.composite
def chains(draw: Any, length: int) -> list[Case]:
    """Maps that follow one another."""
    image = draw(images, label="image")
    cases = []
    for _ in range(length):
        assume(math.prod(image) <= 150)
        cases.append(draw(maps(image)))
        image = cases[-1].image
    return cases

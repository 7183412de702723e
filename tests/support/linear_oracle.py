"""Linear maps as matrices, one value at a time in plain loops; shares no code with mtspark."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

Pair = tuple[int, int]


def scaling(factors: Any) -> np.ndarray:
    matrix = np.zeros((len(factors), len(factors)))
    for place, factor in enumerate(factors):
        matrix[place, place] = factor
    return matrix


def selection(index: Any, size: int) -> np.ndarray:
    matrix = np.zeros((len(index), size))
    for place, source in enumerate(index):
        if source >= 0:
            matrix[place, source] = 1
    return matrix


def positions(size: int, taps: int, stride: int, padding: int, dilation: int) -> int:
    """How often a kernel fits along one axis."""
    count = 0
    while count * stride - padding + (taps - 1) * dilation < size + padding:
        count += 1
    return count


def convolution(
    weights: Any, image: tuple[int, int, int], stride: Pair, padding: Pair, dilation: Pair
) -> np.ndarray:
    """Each filter of (filters, channels of a group, rows, columns) at each place of the image."""
    filters, per_group, *taps = weights.shape
    channels, *sizes = image
    groups = channels // per_group
    places = [
        positions(size, tap, step, pad, gap)
        for size, tap, step, pad, gap in zip(sizes, taps, stride, padding, dilation, strict=True)
    ]
    matrix = np.zeros((filters * places[0] * places[1], math.prod(image)))
    outputs = itertools.product(range(filters), range(places[0]), range(places[1]))
    for output, (filter_, row, column) in enumerate(outputs):
        group = filter_ // (filters // groups)
        for channel, y, x in itertools.product(range(per_group), range(taps[0]), range(taps[1])):
            down = row * stride[0] - padding[0] + y * dilation[0]
            right = column * stride[1] - padding[1] + x * dilation[1]
            if 0 <= down < sizes[0] and 0 <= right < sizes[1]:
                source = ((group * per_group + channel) * sizes[0] + down) * sizes[1] + right
                matrix[output, source] += weights[filter_, channel, y, x]
    return matrix


def after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The matrix of `first`, then `second`."""
    product = np.zeros((second.shape[0], first.shape[1]))
    for row, column in itertools.product(range(len(product)), range(product.shape[1])):
        for middle in range(len(first)):
            product[row, column] += second[row, middle] * first[middle, column]
    return product

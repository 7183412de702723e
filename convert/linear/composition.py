"""One map after another, and the sum of two; exact, and compact wherever that is possible."""

from __future__ import annotations

import numpy as np

from mtspark.convert.linear.fuse import fuse_convolutions, fuse_scale_after, fuse_scale_before
from mtspark.convert.linear.maps import (
    Conv,
    Dense,
    LinearMap,
    Scale,
    Select,
    is_identity,
    select,
)
from mtspark.convert.linear.materialise import check_size, matrix, product


def compose(second: LinearMap, first: LinearMap) -> LinearMap:
    """Join two maps in a row.

    Scales, selections and, where :mod:`~mtspark.convert.linear.fuse` allows it, convolutions stay
    what they are; everything else becomes a matrix.

    Args:
        second: applied last; takes as many values as `first` gives.
        first: applied before.

    Returns:
        The map that applies both.

    Raises:
        BadNetworkError: that matrix would be too large.
    """
    if is_identity(first):
        return second
    if is_identity(second):
        return first
    fused: LinearMap | None = None
    if isinstance(second, Scale) and isinstance(first, Scale):
        fused = Scale(second.factors * first.factors)
    elif isinstance(second, Select) and isinstance(first, Select):
        fused = select(np.where(second.index < 0, -1, first.index[second.index]), first.size)
    elif isinstance(second, Conv) and isinstance(first, Scale):
        fused = fuse_scale_before(second, first)
    elif isinstance(second, Scale) and isinstance(first, Conv):
        fused = fuse_scale_after(second, first)
    elif isinstance(second, Conv) and isinstance(first, Conv):
        fused = fuse_convolutions(second, first)
    return Dense(product(second, first)) if fused is None else fused


def add(one: LinearMap, other: LinearMap) -> LinearMap | None:
    """Add two maps from the same values to the same values.

    Args:
        one, other: of the same size.

    Returns:
        Their sum; None where one of them is a convolution and the sum is none.

    Raises:
        BadNetworkError: the sum is a matrix, and that would be too large.
    """
    if isinstance(one, Scale) and isinstance(other, Scale):
        return Scale(one.factors + other.factors)
    if isinstance(one, Conv) and isinstance(other, Conv):
        alike = one.geometry == other.geometry
        return Conv(one.weights + other.weights, one.geometry) if alike else None
    if isinstance(one, Conv) or isinstance(other, Conv):
        return None
    check_size(one.outputs, one.inputs, one, other)
    if isinstance(one, Scale):
        one, other = other, one
    if isinstance(other, Scale):
        weights = matrix(one).copy()
        np.einsum("ii->i", weights)[:] += other.factors
        return Dense(weights)
    return Dense(matrix(one) + matrix(other))

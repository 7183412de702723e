"""Decide when two maps in a row are one convolution, and join them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtspark.convert.linear.maps import Conv, Scale, convolution
from mtspark.convert.linear.materialise import MATRIX_VALUES
from mtspark.core.arrays import Floats
from mtspark.core.geometry import ConvGeometry


def fuse_scale_before(conv: Conv, scale: Scale) -> Conv | None:
    """Include the factors of what a convolution gets.

    Args:
        conv: applied last.
        scale: applied before.

    Returns:
        The convolution that does both; None where the factors differ within a channel.
    """
    factors = _by_channel(scale, conv.geometry.input_shape[0])
    if factors is None:
        return None
    # (groups, 1, channels of a group), since filters of a group see its channels.
    by_group = factors.reshape(conv.geometry.groups, 1, -1, 1, 1)
    weights = conv.weights.reshape(conv.geometry.groups, -1, *conv.weights.shape[1:]) * by_group
    return replace(conv, weights=weights.reshape(conv.weights.shape))


def fuse_scale_after(scale: Scale, conv: Conv) -> Conv | None:
    """Include the factors of what a convolution sends.

    Args:
        scale: applied last.
        conv: applied before.

    Returns:
        The convolution that does both; None where the factors differ within a channel.
    """
    factors = _by_channel(scale, conv.geometry.filters)
    if factors is None:
        return None
    return replace(conv, weights=conv.weights * factors[:, None, None, None])


def _by_channel(scale: Scale, channels: int) -> Floats | None:
    """One factor a channel, where all values of a channel share theirs."""
    rows = scale.factors.reshape(channels, -1)
    return rows[:, 0] if (rows == rows[:, :1]).all() else None


def fuse_convolutions(second: Conv, first: Conv) -> Conv | None:
    """Join two convolutions in a row.

    With kernels k, strides s, dilations d and paddings p of both, its kernel has
    d2 s1 (k2 - 1) + d1 (k1 - 1) + 1 taps, its stride is s1 s2 and its padding p1 + p2 s1.

    Args:
        second: applied last.
        first: applied before.

    Returns:
        The convolution that does both. None where there is none, since the image is reshaped
        between them or the zeros that the second pads with are not what the first would give
        there (see :func:`_padding_agrees`), or where its kernel is larger than a matrix may be.
    """
    inside, outside = first.geometry, second.geometry
    if inside.output_shape != outside.input_shape or not _padding_agrees(outside, inside):
        return None
    # Where each channel goes its own way first, the second's groups stay; otherwise they would
    # have to be groups of both.
    depthwise = inside.groups == inside.input_shape[0] == inside.filters
    outer = second.weights if depthwise else _ungrouped(second)
    inner = first.weights[:, 0] if depthwise else _ungrouped(first)
    groups = outside.groups if depthwise else 1
    channels = outer.shape[1] if depthwise else inside.input_shape[0]
    (gap_y, gap_x), (step_y, step_x) = inside.dilation, inside.stride
    spread = outside.dilation[0] * step_y, outside.dilation[1] * step_x
    size = [
        (outside.kernel[axis] - 1) * spread[axis]
        + (inside.kernel[axis] - 1) * inside.dilation[axis]
        + 1
        for axis in range(2)
    ]
    if len(outer) * channels * size[0] * size[1] > MATRIX_VALUES:
        return None
    weights = np.zeros((len(outer), channels, *size))
    for row, column in np.ndindex(*outside.kernel):
        taps = outer[:, :, row, column]
        for y, x in np.ndindex(*inside.kernel):
            if depthwise:
                factors = inner[:, y, x].reshape(groups, -1)
                part = taps * np.repeat(factors, outside.filters_per_group, axis=0)
            else:
                part = taps @ inner[:, :, y, x]
            weights[:, :, row * spread[0] + y * gap_y, column * spread[1] + x * gap_x] += part
    return convolution(
        weights,
        inside.input_shape,
        (step_y * outside.stride[0], step_x * outside.stride[1]),
        (
            inside.padding[0] + outside.padding[0] * step_y,
            inside.padding[1] + outside.padding[1] * step_x,
        ),
        (1, 1),
        groups,
    )


def _padding_agrees(outside: ConvGeometry, inside: ConvGeometry) -> bool:
    """Whether the zeros around the second's image are what the first would give there.

    It would give zeros where its window, moved on beyond its own output, meets no value of the
    image. The first window behind the output decides: for an image of n values, a reach r, stride
    s, padding p and o outputs, it starts at o s - p. That is at least n only if r <= p + s, since
    o s <= n + 2 p - r + s; and then the window before the output, which ends at r - 1 - s - p,
    lies outside, too.
    """
    for axis in range(2):
        first_tap_after = inside.output_shape[1 + axis] * inside.stride[axis] - inside.padding[axis]
        if outside.padding[axis] and first_tap_after < inside.input_shape[1 + axis]:
            return False
    return True


def _ungrouped(conv: Conv) -> Floats:
    """Weights (filters, all input channels, rows, columns), zero outside of the groups."""
    geometry = conv.geometry
    if geometry.groups == 1:
        return conv.weights
    full = np.zeros((geometry.filters, geometry.input_shape[0], *geometry.kernel))
    share, per_group = geometry.filters_per_group, geometry.channels_per_group
    for group in range(geometry.groups):
        rows = np.s_[group * share : (group + 1) * share]
        full[rows, group * per_group : (group + 1) * per_group] = conv.weights[rows]
    return full

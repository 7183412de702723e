"""The geometry of a convolution: which values of an image each tap of a kernel meets.

A connection declares how its kernel moves (:class:`ConvParameters`). :func:`conv_geometry` joins
that with the shapes of image and weights; every count of outputs and taps follows from the
:class:`ConvGeometry`. All convolutions are cross-correlations, padded with zeros alike on both
sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
"""Of rows, of columns."""

Shape = tuple[int, ...]


class ConvFields(TypedDict):
    """The fields of :class:`ConvParameters`, to hand them on."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


@dataclass(frozen=True, kw_only=True)
class ConvParameters:
    """How a kernel moves over an image.

    Attributes:
        stride, padding, dilation: (rows, columns).
        groups: of channels; an output channel hears the input channels of its own group only.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def conv_fields(self) -> ConvFields:
        """The parameters by name."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }


@dataclass(frozen=True, kw_only=True)
class ConvGeometry(ConvParameters):
    """A kernel on its image; :func:`conv_geometry` checks that they fit.

    Attributes:
        input_shape: (channels, rows, columns) of the image.
        filters: output channels.
        kernel: its (rows, columns).
    """

    input_shape: tuple[int, int, int]
    filters: int
    kernel: Pair

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(filters, rows, columns)."""
        rows, columns = (
            (self.input_shape[axis + 1] + 2 * self.padding[axis] - self.reach[axis])
            // self.stride[axis]
            + 1
            for axis in (0, 1)
        )
        return self.filters, rows, columns

    @property
    def reach(self) -> Pair:
        """Rows and columns from the first tap to the last, both included."""
        rows, columns = (self.dilation[axis] * (self.kernel[axis] - 1) + 1 for axis in (0, 1))
        return rows, columns

    @property
    def filters_per_group(self) -> int:
        """Output channels of one group."""
        return self.filters // self.groups

    @property
    def channels_per_group(self) -> int:
        """Input channels of one group."""
        return self.input_shape[0] // self.groups

    def positions(self, axis: int) -> NDArray[np.int64]:
        """Where along one axis each output's taps fall.

        Args:
            axis: 0 for rows, 1 for columns.

        Returns:
            int64 (outputs, taps): the position in the image; outside of it in the padding.
        """
        outputs = np.arange(self.output_shape[axis + 1]) * self.stride[axis] - self.padding[axis]
        return outputs[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        """Each tap with the part of the padded image that it meets, one value an output.

        Yields:
            Row and column in the kernel, and the slices of rows and columns of the padded image.
        """
        _, rows, columns = self.output_shape
        step_y, step_x = self.stride
        for row, column in np.ndindex(*self.kernel):
            top, left = row * self.dilation[0], column * self.dilation[1]
            part = (
                slice(top, top + (rows - 1) * step_y + 1, step_y),
                slice(left, left + (columns - 1) * step_x + 1, step_x),
            )
            yield row, column, part

    def padded(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images (..., rows, columns) with zeros around them."""
        around = ((0, 0),) * (images.ndim - 2)
        return np.pad(images, (*around, *((pad, pad) for pad in self.padding)))

    def patches(self, images: NDArray[Any]) -> NDArray[Any]:
        """What every output's taps meet.

        Args:
            images: (..., rows, columns), without padding.

        Returns:
            A view (..., output rows, output columns, kernel rows, kernel columns).
        """
        views = np.lib.stride_tricks.sliding_window_view(
            self.padded(images), self.reach, axis=(-2, -1)
        )
        (step_y, step_x), (gap_y, gap_x) = self.stride, self.dilation
        return views[..., ::step_y, ::step_x, ::gap_y, ::gap_x]


def conv_geometry(parameters: ConvParameters, image: Shape, weights: Shape) -> ConvGeometry | None:
    """Join what a connection declares with its image and kernel.

    Args:
        parameters: how the kernel moves.
        image: shape (channels, rows, columns).
        weights: shape (output channels, input channels / groups, rows, columns).

    Returns:
        The geometry; None where these do not fit one another or leave no output.
    """
    if len(image) != 3 or len(weights) != 4 or parameters.groups < 1:
        return None
    if min(*parameters.stride, *parameters.dilation) < 1 or min(parameters.padding) < 0:
        return None
    filters, per_group, *kernel = weights
    if per_group * parameters.groups != image[0] or filters % parameters.groups:
        return None
    geometry = ConvGeometry(
        input_shape=(image[0], image[1], image[2]),
        filters=filters,
        kernel=(kernel[0], kernel[1]),
        **parameters.conv_fields,
    )
    return geometry if min(geometry.output_shape) > 0 else None

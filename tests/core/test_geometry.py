from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.geometry import ConvGeometry, ConvParameters, conv_geometry

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def geometries(draw: st.DrawFn) -> ConvGeometry:
    groups, per_group, share = (draw(st.integers(1, 2)) for _ in range(3))
    parameters = ConvParameters(
        stride=draw(PAIRS),
        padding=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        dilation=draw(PAIRS),
        groups=groups,
    )
    image = (groups * per_group, draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    weights = (groups * share, per_group, draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    geometry = conv_geometry(parameters, image, weights)
    if geometry is None:
        # Its last row or column of taps lies outside of the padded image.
        assert any(
            parameters.dilation[axis] * (weights[axis + 2] - 1)
            >= image[axis + 1] + 2 * parameters.padding[axis]
            for axis in (0, 1)
        )
        return ConvGeometry(input_shape=(1, 1, 1), filters=1, kernel=(1, 1))
    return geometry


def met(geometry: ConvGeometry, axis: int) -> list[tuple[int, int, int]]:
    """(output, tap, position in the image), for every output whose taps all lie in the padding."""
    length, pad = geometry.input_shape[axis + 1], geometry.padding[axis]
    found = []
    for output in range(length + 2 * pad):
        places = [
            output * geometry.stride[axis] - pad + tap * geometry.dilation[axis]
            for tap in range(geometry.kernel[axis])
        ]
        if places[-1] < length + pad:
            found += [(output, tap, place) for tap, place in enumerate(places)]
    return found


@given(geometry=geometries())
@settings(deadline=None)
def test_outputs_and_positions_are_those_whose_taps_lie_in_the_padded_image(
    geometry: ConvGeometry,
) -> None:
    for axis in (0, 1):
        found = met(geometry, axis)
        positions = geometry.positions(axis)
        assert positions.shape == (geometry.output_shape[axis + 1], geometry.kernel[axis])
        assert [(*at, positions[at]) for at in np.ndindex(positions.shape)] == found


@given(geometry=geometries())
@settings(deadline=None)
def test_patches_and_taps_meet_the_same_values(geometry: ConvGeometry) -> None:
    channels, rows, columns = geometry.input_shape
    images = np.arange(1, 2 * channels * rows * columns + 1).reshape(2, channels, rows, columns)
    patches, padded = geometry.patches(images), geometry.padded(images)
    assert patches.shape == (2, channels, *geometry.output_shape[1:], *geometry.kernel)
    taps = Counter()
    for row, column, part in geometry.taps():
        taps[row, column] += 1
        assert np.array_equal(patches[..., row, column], padded[(..., *part)])
    assert set(taps) == set(product(*map(range, geometry.kernel)))
    at = geometry.positions(0)[:, None, :, None], geometry.positions(1)[None, :, None, :]
    inside = (at[0] >= 0) & (at[0] < rows) & (at[1] >= 0) & (at[1] < columns)
    values = images[:, :, np.clip(at[0], 0, rows - 1), np.clip(at[1], 0, columns - 1)]
    assert np.array_equal(patches, np.where(inside, values, 0))


@pytest.mark.parametrize(
    ("image", "weights", "changes"),
    [
        ((2, 5), (4, 2, 3, 3), {}),
        ((2, 5, 5), (4, 2, 3), {}),
        ((3, 5, 5), (4, 2, 3, 3), {}),
        ((4, 5, 5), (3, 2, 3, 3), {"groups": 2}),
        ((2, 5, 5), (4, 2, 6, 3), {}),
        ((2, 5, 5), (4, 2, 3, 3), {"dilation": (1, 3)}),
        ((2, 5, 5), (4, 2, 3, 3), {"groups": 0}),
        ((2, 5, 5), (4, 2, 3, 3), {"stride": (0, 1)}),
        ((2, 5, 5), (4, 2, 3, 3), {"dilation": (1, -1)}),
        ((2, 5, 5), (4, 2, 3, 3), {"padding": (1, -1)}),
    ],
)
def test_what_does_not_fit_has_no_geometry(
    image: tuple[int, ...], weights: tuple[int, ...], changes: dict[str, object]
) -> None:
    assert conv_geometry(ConvParameters(), (2, 5, 5), (4, 2, 3, 3)) is not None
    assert conv_geometry(ConvParameters(**changes), image, weights) is None

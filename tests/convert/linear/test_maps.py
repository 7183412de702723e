"""Every map, and every map after another, against matrices made by plain loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtspark.convert.linear import materialise
from mtspark.convert.linear.composition import add, compose
from mtspark.convert.linear.fuse import fuse_convolutions
from mtspark.convert.linear.maps import (
    Conv,
    Dense,
    LinearMap,
    Scale,
    Select,
    convolution,
    identity,
    is_identity,
    same,
)
from mtspark.convert.linear.materialise import connection, matrix
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import FloatKind
from mtspark.core.float_network.simulator import deliver
from tests.convert.linear.strategies import (
    Case,
    all_selections,
    chains,
    convolutions,
    images,
    maps,
    scales,
)
from tests.support import linear_oracle


def check(linear: LinearMap, wanted: np.ndarray, seed: int = 0) -> None:
    """The matrix, both ways of applying it, and the connection that a network gets."""
    assert (linear.outputs, linear.inputs) == wanted.shape
    np.testing.assert_array_equal(matrix(linear), wanted)
    rng = np.random.default_rng(seed)
    rows, back = rng.integers(-5, 6, (3, linear.inputs)), rng.integers(-5, 6, (3, linear.outputs))
    np.testing.assert_array_equal(
        linear.apply(rows.astype(float)), linear_oracle.after(wanted, rows.T).T
    )
    np.testing.assert_array_equal(
        linear.transposed(back.astype(float)), linear_oracle.after(back, wanted)
    )
    link = connection(linear, "a->b", "a", "b")
    np.testing.assert_array_equal(deliver(link, np.eye(linear.inputs)[None])[0].T, wanted)


@given(st.data(), images)
def test_every_map_is_its_matrix(data: Any, image: Any) -> None:
    case = data.draw(maps(image))
    check(case.linear, case.matrix)


@given(chains(2))
def test_a_map_after_another_is_the_product(cases: list[Case]) -> None:
    first, second = cases
    product = linear_oracle.after(second.matrix, first.matrix)
    check(compose(second.linear, first.linear), product)
    np.testing.assert_array_equal(materialise.product(second.linear, first.linear), product)


@given(chains(3))
def test_three_maps_in_either_order_of_joining(cases: list[Case]) -> None:
    first, second, third = cases
    product = linear_oracle.after(third.matrix, linear_oracle.after(second.matrix, first.matrix))
    one = compose(compose(third.linear, second.linear), first.linear)
    other = compose(third.linear, compose(second.linear, first.linear))
    np.testing.assert_array_equal(matrix(one), product)
    np.testing.assert_array_equal(matrix(other), product)


def test_selections_in_a_row_are_one() -> None:
    for first in all_selections((2, 3, 2)):
        for second in all_selections(first.image):
            joined = compose(second.linear, first.linear)
            assert isinstance(joined, Select) or is_identity(joined)
            check(joined, linear_oracle.after(second.matrix, first.matrix))


@given(chains(2), st.integers(1, 40))
def test_blocks_of_any_size_give_the_same(cases: list[Case], block: int) -> None:
    first, second = cases
    wanted = linear_oracle.after(second.matrix, first.matrix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(materialise, "BLOCK_VALUES", block)
        patch.setattr("mtspark.convert.linear.maps.BLOCK_VALUES", block)
        np.testing.assert_array_equal(materialise.product(second.linear, first.linear), wanted)


@given(st.data(), images, st.booleans())
def test_two_convolutions_are_one_where_their_padding_allows_it(
    data: Any, image: Any, depthwise: bool
) -> None:
    """What is fused is exact; what is not, would have been wrong."""
    first = data.draw(convolutions(image, depthwise))
    second = data.draw(convolutions(first.image))
    wanted = linear_oracle.after(second.matrix, first.matrix)
    one, two = first.linear, second.linear
    assert isinstance(one, Conv)
    assert isinstance(two, Conv)
    fused = fuse_convolutions(two, one)
    if two.geometry.padding == (0, 0):
        assert fused is not None
    if fused is not None:
        assert fused.geometry.output_shape == two.geometry.output_shape
        assert fused.geometry.groups == (two.geometry.groups if _own_way(one) else 1)
        np.testing.assert_array_equal(matrix(fused), wanted)


def _own_way(conv: Conv) -> bool:
    """Whether each channel goes its own way."""
    return conv.geometry.groups == conv.geometry.input_shape[0] == conv.geometry.output_shape[0]


def test_along_one_axis_all_are_fused_that_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Along one axis, kernels of ones, so that no sum of taps is 0 by luck.

    The second kernel steps by 1, so that it meets all of its padding; the first has no gaps, so
    that a window that spans a value meets it.
    """
    fused, apart = 0, 0
    for size, taps, step, pad, *then in itertools.product(
        range(1, 7), (1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2, 3), (1, 2), (1, 2)
    ):
        first = _along(size, taps, step, pad, 1)
        second = None if first is None else _along(first.outputs, then[0], 1, then[1], then[2])
        if first is None or second is None:
            continue
        if then[2] * (then[0] - 1) - then[1] > first.outputs:
            continue  # No tap of the second reaches its nearest padding.
        wanted = linear_oracle.after(matrix(second), matrix(first))
        joined = fuse_convolutions(second, first)
        if joined is not None:
            fused += 1
            np.testing.assert_array_equal(matrix(joined), wanted)
            continue
        apart += 1
        with monkeypatch.context() as patch:
            patch.setattr("mtspark.convert.linear.fuse._padding_agrees", lambda *_: True)
            forced = fuse_convolutions(second, first)
        assert forced is not None
        assert not np.array_equal(matrix(forced), wanted), (size, taps, step, pad, then)
    assert min(fused, apart) > 100


def _along(size: int, taps: int, step: int, pad: int, gap: int) -> Conv | None:
    """A convolution of one row."""
    return convolution(np.ones((1, 1, 1, taps)), (1, 1, size), (1, step), (0, pad), (1, gap), 1)


@given(st.data(), images)
def test_a_sum_is_the_sum_of_matrices(data: Any, image: Any) -> None:
    one = data.draw(st.one_of(scales(image), convolutions(image)))
    other = data.draw(st.one_of(scales(image), convolutions(image)))
    assume(one.matrix.shape == other.matrix.shape)
    parts = [one.linear, other.linear]
    for which in data.draw(st.sampled_from([(), (0,), (1,), (0, 1)])):
        parts[which] = Dense(matrix(parts[which]))
    total = add(*parts)
    if total is None:
        assert any(isinstance(part, Conv) for part in parts)
    else:
        np.testing.assert_array_equal(matrix(total), one.matrix + other.matrix)


def test_convolutions_of_one_geometry_add_up_and_others_do_not() -> None:
    ones = np.ones((2, 1, 3, 1))
    one = convolution(ones, (2, 4, 5), (1, 2), (1, 0), (1, 1), 2)
    other = convolution(3 * ones, (2, 4, 5), (1, 2), (1, 0), (1, 1), 2)
    apart = convolution(ones, (2, 6, 5), (1, 2), (0, 0), (1, 1), 2)
    assert isinstance(one, Conv)
    assert isinstance(other, Conv)
    assert isinstance(apart, Conv)
    total = add(one, other)
    assert isinstance(total, Conv)
    assert (total.weights == 4).all()
    assert add(one, apart) is None


def test_what_stays_compact() -> None:
    conv = convolution(np.ones((4, 2, 3, 3)), (2, 8, 8), (1, 1), (1, 1), (1, 1), 1)
    pool = convolution(np.ones((2, 1, 2, 2)), (2, 16, 16), (2, 2), (0, 0), (1, 1), 2)
    assert isinstance(conv, Conv)
    assert isinstance(pool, Conv)
    assert isinstance(compose(conv, pool), Conv)
    by_channel = Scale(np.repeat([2.0, 3.0], 64))
    assert isinstance(compose(conv, by_channel), Conv)
    assert isinstance(compose(Scale(np.repeat(np.arange(4.0), 64)), conv), Conv)
    assert isinstance(compose(conv, Scale(np.arange(128.0))), Dense)
    turn = Select(np.arange(128)[::-1].copy(), 128)
    assert is_identity(compose(turn, turn))
    assert compose(identity(128), conv) is conv
    assert connection(turn, "", "a", "b").kind is FloatKind.DENSE


def test_a_reshaped_image_is_another_one() -> None:
    """(2, 2, 3) read as (2, 3, 2): two convolutions, not one."""
    first = convolution(np.ones((2, 1, 1, 2)), (1, 2, 4), (1, 1), (0, 0), (1, 1), 1)
    second = convolution(np.ones((1, 2, 2, 1)), (2, 3, 2), (1, 1), (0, 0), (1, 1), 1)
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    joined = compose(second, first)
    assert isinstance(joined, Dense)
    np.testing.assert_array_equal(
        joined.weights, linear_oracle.after(matrix(second), matrix(first))
    )


def test_sameness_is_of_numbers() -> None:
    assert same(Scale(np.ones(3)), identity(3))
    assert not same(Scale(np.ones(3)), Dense(np.eye(3)))
    assert not same(Scale(np.ones(3)), identity(4))


def test_a_matrix_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materialise, "MATRIX_VALUES", 100)
    flip = Select(np.arange(20)[::-1].copy(), 20)
    with pytest.raises(BadNetworkError, match="a matrix of 20 x 20, 100 values are the limit"):
        compose(flip, Scale(np.arange(20.0)))
    with pytest.raises(BadNetworkError, match="limit"):
        matrix(Scale(np.ones(20)))
    # One that is there already may stay as large as it is.
    wide = Dense(np.ones((20, 20)))
    assert matrix(compose(Scale(np.full(20, 2.0)), compose(flip, wide))).sum() == 800
    assert isinstance(add(wide, identity(20)), Dense)
    with pytest.raises(BadNetworkError, match="limit"):
        compose(Dense(np.ones((20, 2))), Dense(np.ones((2, 20))))

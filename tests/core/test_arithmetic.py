"""The chip's integer arithmetic, by hand and against Python's unbounded integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.arithmetic import (
    CURRENT_LIMIT,
    MEMBRANE_LIMIT,
    decay,
    saturate_membrane,
    shift,
    wrap_current,
)

states = st.integers(-(2**24), 2**24)
factors = st.integers(0, 4096)


def as_array(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("value", "factor", "expected"),
    [
        (100, 2048, 50),
        (101, 2048, 50),
        (-101, 2048, -50),  # toward zero; a plain shift would give -51
        (1, 1, 0),
        (-1, 1, 0),
        (-4096, 1, -4095),
        (7, 0, 7),
        (-7, 0, -7),
        (2**23 - 1, 4096, 0),
        (2**23 - 1, 1, 8386559),  # (2^23 - 1) * 4095 / 4096 = 8386559.0002
        (1000, 163, 960),  # 1000 * 3933 / 4096 = 960.2
    ],
)
def test_decay_by_hand(value: int, factor: int, expected: int) -> None:
    assert decay(as_array(value), factor).tolist() == [expected]


@given(states, factors)
def test_decay_rounds_toward_zero(value: int, factor: int) -> None:
    exact = abs(value) * (4096 - factor) // 4096
    assert decay(as_array(value), factor)[0] == (exact if value >= 0 else -exact)


@given(states, factors)
def test_decay_is_odd_and_never_grows(value: int, factor: int) -> None:
    up, down = decay(as_array(value, -value), factor)
    assert up == -down
    assert abs(up) <= abs(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (2**23, 2**23),  # the limit itself stays
        (2**23 + 1, -(2**23) + 1),
        (-(2**23), 2**23),  # the negative limit wraps
        (-(2**23) + 1, -(2**23) + 1),
        (-(2**23) - 1, 2**23 - 1),
        (2**24, 0),
        (-(2**24), 0),
    ],
)
def test_current_wraps_at_its_edges(value: int, expected: int) -> None:
    assert wrap_current(as_array(value)).tolist() == [expected]


def test_current_wraps_once_only() -> None:
    far = 3 * 2**24 + 5
    assert wrap_current(as_array(far, -far)).tolist() == [2**25 + 5, -(2**25) - 5]


@given(st.integers(-(2**26), 2**26))
def test_current_moves_by_nothing_or_one_turn(value: int) -> None:
    moved = int(wrap_current(as_array(value))[0]) - value
    if value > CURRENT_LIMIT:
        assert moved == -(2**24)
    elif value <= -CURRENT_LIMIT:
        assert moved == 2**24
    else:
        assert moved == 0


def test_membrane_saturates_at_plus_and_minus_the_same_value() -> None:
    values = as_array(2**23 - 1, 2**23, 2**40, -(2**23) + 1, -(2**23), -(2**40), 5)
    limit = 2**23 - 1
    expected = [limit, limit, limit, -limit, -limit, -limit, 5]
    assert limit == MEMBRANE_LIMIT
    assert saturate_membrane(values).tolist() == expected


@pytest.mark.parametrize(
    ("value", "exponent", "expected"),
    [(5, 3, 40), (-5, 3, -40), (5, 0, 5), (5, -1, 2), (-5, -1, -3), (-1, -8, -1), (255, -8, 0)],
)
def test_shift_by_hand(value: int, exponent: int, expected: int) -> None:
    assert shift(as_array(value), exponent).tolist() == [expected]


@given(st.integers(-(2**40), 2**40), st.integers(-8, 13))
def test_shift_rounds_down(value: int, exponent: int) -> None:
    expected = value * 2**exponent if exponent >= 0 else value // 2**-exponent
    assert shift(as_array(value), exponent)[0] == expected


def test_results_stay_int64_of_the_same_shape() -> None:
    values = np.arange(-3, 3, dtype=np.int64).reshape(2, 3)
    results = (decay(values, 9), wrap_current(values), saturate_membrane(values), shift(values, -2))
    assert {(result.shape, str(result.dtype)) for result in results} == {((2, 3), "int64")}

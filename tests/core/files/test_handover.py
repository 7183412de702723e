from __future__ import annotations

import contextlib
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mtspark.core.errors import BadFileError
from mtspark.core.files.handover import decode, encode

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec="utf-8")),
    hnp.arrays(
        st.sampled_from(["<i8", ">f4", "<f2", "u1", "bool"]),
        hnp.array_shapes(min_dims=0, min_side=0),
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(st.characters(codec="utf-8")), st.integers()), inner),
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, (np.ndarray, np.generic)):
        kind = one.dtype.newbyteorder("=")
        return (
            isinstance(other, np.ndarray) == isinstance(one, np.ndarray)
            and other.dtype == kind
            and np.array_equal(one, other, equal_nan=kind.kind == "f")
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and all(map(same, one, other)) and len(one) == len(other)
    return type(one) is type(other) and (one == other or (one != one and other != other))


@given(VALUES)
def test_plain_values_come_back_as_they_went(value: Any) -> None:
    assert same(value, decode(b"".join(encode(value))))


def test_a_numpy_number_stays_one() -> None:
    back = decode(b"".join(encode({"stride": np.int64(3)})))
    assert type(back["stride"]) is np.int64


@pytest.mark.parametrize("value", [object(), {(1,): 2}, np.array(["a"]), np.array([1j]), b"bytes"])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(BadFileError):
        encode(value)


@given(st.binary(max_size=64))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    with contextlib.suppress(BadFileError):
        decode(data)


def test_a_header_cannot_ask_for_more_than_was_sent() -> None:
    header = b'{"a": ["<f8", [1000000000], 0, 8]}'
    with pytest.raises(BadFileError):
        decode(len(header).to_bytes(8, "little") + header + bytes(8))


@pytest.mark.parametrize("part", [b'{"l": []},', b"[],", b"{},", b"1.5,"])
def test_a_header_cannot_make_more_objects_than_memory_holds(part: bytes) -> None:
    header = b'{"l": [' + 50_000 * part + b"1]}"
    message = len(header).to_bytes(8, "little") + header

    def peak(memory_bytes: int) -> int:
        tracemalloc.start()
        try:
            decode(message, memory_bytes)
        except BadFileError as error:
            refusals.append(str(error))
        finally:
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    refusals: list[str] = []
    assert peak(2_000_000) < 2 * len(header) + 100_000
    assert "memory_bytes" in refusals[0]
    needed = int(re.findall(r"about ([\d,]+)", refusals[0])[0].replace(",", ""))
    assert peak(needed) <= needed


@pytest.mark.parametrize("kind", [" b,f8", "<f16", "<c8", "f8", "<U1"])
def test_arrays_of_other_types_are_refused(kind: str) -> None:
    header = f'{{"a": ["{kind}", [1], 0, 16]}}'.encode()
    with pytest.raises(BadFileError):
        decode(len(header).to_bytes(8, "little") + header + bytes(16))

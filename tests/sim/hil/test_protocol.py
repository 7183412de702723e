from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.errors import MtsparkError
from mtspark.sim.hil.protocol import (
    ANSWERED,
    ASKED,
    BadPeerError,
    Change,
    Decide,
    Decided,
    Hello,
    Refused,
    Unknown,
    Welcome,
    decode,
    encode,
)

MESSAGES = [
    Hello(1),
    Decide(2, "pong", 3, 4, b"\x00\xff" * 50),
    Change(2, "pong", 3, 4, 2, b"\x00\x01\x00\x00", b"\x01\xff"),
    Unknown(2),
    Welcome(1, "ab" * 32, "engine", "", [4, 84, 84], 18, ["pong", "breakout"]),
    Decided(2, [0.5, -1e9, 3], 0.001),
    Refused(0, "no"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.kind)
def test_what_is_sent_is_what_arrives(message: Any) -> None:
    assert decode(encode(message), (*ASKED, *ANSWERED)) == message


def test_a_kind_comes_only_where_it_may() -> None:
    with pytest.raises(BadPeerError, match="hello, decide, change may come here"):
        decode(encode(Decided(1, [], 0.0)), ASKED)


def changed(**changes: Any) -> bytes:
    """A question for a decision with some fields replaced, or dropped where they are None."""
    fields = {
        **{"protocol": "mtspark-hil", "version": 2, "kind": "decide"},
        **{"id": 1, "task": "pong", "episode": 0, "decision": 0, "frame": b"xy"},
        **changes,
    }
    return bytes(msgpack.packb({key: value for key, value in fields.items() if value is not None}))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no MessagePack"),
        (b"GET / HTTP/1.1\r\n\r\n", "no MessagePack"),
        (b"\x91" * 5000, "no MessagePack"),
        (b"\xc6\xff\xff\xff\xff", "no MessagePack"),
        (b"\xdd\xff\xff\xff\xff", "no MessagePack"),
        (msgpack.packb([1, 2]), "no MessagePack"),
        (msgpack.packb({"protocol": "other"}), "not of mtspark-hil"),
        (msgpack.packb({1: 2}), "no MessagePack"),
        (changed(version=1), "version 1 of mtspark-hil, this side 2"),
        (changed(version=True), "version True"),
        (changed(version=None), "version None"),
        (changed(kind="run"), "kind 'run'"),
        (changed(kind=["decide"]), "no MessagePack"),
        (changed(values=3, kind="decided"), "no MessagePack"),
        (changed(values=[[1.0]]), "no MessagePack"),
        (changed(**{str(n): n for n in range(20)}), "28 fields; 16 is the limit"),
        (changed(tasks=["x"] * 4097), "4097 parts in tasks; 4096 is the limit"),
        (changed() + b"\xc0", "no MessagePack"),
        (b"\x82\xa2id\x01\xa2id\x02", "no MessagePack"),
        (changed(frame="text"), "whose frame is 'text', not bytes"),
        (changed(frame=None), "whose frame is None"),
        (changed(id=-1), "whose id is -1"),
        (changed(id=2**63), "whose id is"),
        (changed(decision=1.5), "whose decision is 1.5"),
        (changed(episode=True), "whose episode is True"),
        (changed(task="a\nb"), "whose task is"),
        (changed(task="x" * 1001), "no MessagePack"),
        (changed(more=1), "unknown fields"),
        (changed(kind="change"), "whose since is None"),
        (changed(frame=msgpack.ExtType(1, b"z")), "no MessagePack"),
    ],
)
def test_a_strange_message_is_one_clear_error(data: bytes, says: str) -> None:
    with pytest.raises(BadPeerError, match=says) as found:
        decode(data, ASKED)
    assert len(str(found.value)) < 300
    assert issubclass(BadPeerError, MtsparkError)
    assert isinstance(found.value.identity, int)


def row(items: int, item: bytes) -> bytes:
    return b"\xdd" + items.to_bytes(4, "big") + item * items


def head(fields: int) -> bytes:
    return b"\xdf" + fields.to_bytes(4, "big")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x81\xa6values" + row(2**12, row(2**11, b"\x80")), id="lists of maps"),
        pytest.param(b"\x81\xa6values" + row(2**23, b"\x80"), id="a list of maps"),
        pytest.param(b"\x81\xa4what" + row(2**23, b"\xc0"), id="an unknown list"),
        pytest.param(b"\x81\xa4what" + head(2**22) + b"\xa0\x80" * 2**22, id="a map"),
        pytest.param(head(2**22) + b"\xa0\x80" * 2**22, id="many fields"),
        pytest.param(b"\x81\xa4what" + b"\x91" * 2**23, id="depth"),
        pytest.param(b"\x80" * 2**23, id="many messages"),
    ],
)
def test_a_message_of_many_objects_is_refused_before_they_are_built(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadPeerError):
            decode(data, ASKED)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The reader copies what it is fed; objects of that many would take ten times as much.
    assert most < 2.5 * len(data)


@pytest.mark.parametrize(
    "values", [[float("nan")], [float("inf")], ["1"], 3, [0.0] * 5000, [1e300]]
)
def test_values_that_are_no_numbers_are_refused(values: Any) -> None:
    data = msgpack.packb(
        {
            **{"protocol": "mtspark-hil", "version": 2, "kind": "decided"},
            **{"id": 1, "values": values, "host_s": 0.0},
        }
    )
    with pytest.raises(BadPeerError):
        decode(data, ANSWERED)


@given(st.binary(max_size=200))
def test_bytes_of_a_stranger_never_do_more(data: bytes) -> None:
    with pytest.raises(BadPeerError):
        decode(data, ASKED)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(st.sampled_from(["id", "task", "episode", "decision", "frame", "version"]), json_like)
def test_a_field_of_any_value_is_checked(name: str, value: Any) -> None:
    try:
        message = decode(changed(**{name: value}), ASKED)
    except BadPeerError:
        return
    assert type(getattr(message, name, value)) in (int, str)

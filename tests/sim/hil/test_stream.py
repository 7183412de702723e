"""The stream between host and chip, without sockets."""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.errors import BadRequestError
from mtspark.sim.hil.protocol import BadPeerError
from mtspark.sim.hil.server import Complaints, Server
from mtspark.sim.hil.stream import (
    LENGTH_BYTES,
    MAGIC,
    NONCE_BYTES,
    PROOF_BYTES,
    TAG_BYTES,
    Channel,
    Role,
    StrangerError,
    key_bytes,
    new_key,
    write_to,
)

KEY = bytes(range(16))
LARGEST = 1000


def pair(host_key: bytes | None = KEY, chip_key: bytes | None = KEY) -> tuple[Channel, Channel]:
    return Channel(Role.HOST, host_key, LARGEST), Channel(Role.CHIP, chip_key, LARGEST)


def sent(channel: Channel) -> bytes:
    data = bytes(channel.unsent)
    channel.unsent.clear()
    return data


def fed(channel: Channel, data: bytes, piece: int = 10**6) -> list[bytes]:
    """Messages that come of bytes, fed as they are wanted and at most so many at once."""
    messages = []
    while data:
        part = data[: min(channel.wanted, piece)]
        data = data[len(part) :]
        message = channel.feed(part)
        if message is not None:
            messages.append(message)
    return messages


def met(host: Channel, chip: Channel) -> tuple[Channel, Channel]:
    fed(chip, sent(host))
    fed(host, sent(chip))
    fed(chip, sent(host))
    return host, chip


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 50), st.booleans())
def test_what_is_sent_is_what_arrives_in_any_pieces(
    messages: list[bytes], piece: int, keyed: bool
) -> None:
    host, chip = met(*(pair() if keyed else pair(None, None)))
    assert host.open
    assert chip.open
    for here, there in ((host, chip), (chip, host)):
        for message in messages:
            here.put(message)
        assert fed(there, sent(here), piece) == messages


@pytest.mark.parametrize("keys", [(KEY, KEY[::-1]), (KEY[::-1], KEY)])
def test_another_key_opens_nothing_on_either_side(keys: tuple[bytes, bytes]) -> None:
    host, chip = pair(*keys)
    fed(chip, sent(host))
    with pytest.raises(StrangerError, match="another key"):
        fed(host, sent(chip))
    # A host that does not care and sends some proof.
    with pytest.raises(StrangerError, match="another key"):
        fed(chip, bytes(PROOF_BYTES))
    assert not host.open
    assert not chip.open


def test_a_side_that_repeats_what_it_hears_proves_nothing() -> None:
    host, chip = pair()
    hello = sent(host)
    with pytest.raises(StrangerError):
        fed(host, hello + hello[len(MAGIC) :])
    # The proof of the chip is no proof of a host.
    answer = fed(chip, hello) or sent(chip)
    with pytest.raises(StrangerError):
        fed(chip, bytes(answer[len(MAGIC) + NONCE_BYTES :]))


def test_a_whole_talk_that_is_played_again_opens_nothing() -> None:
    host, chip = pair()
    talk = sent(host)
    fed(chip, talk)
    fed(host, sent(chip))
    host.put(b"press left")
    talk += sent(host)
    again = Channel(Role.CHIP, KEY, LARGEST)
    with pytest.raises(StrangerError):
        fed(again, talk)
    assert not again.open


def test_a_message_is_not_changed_repeated_or_swapped_on_its_way() -> None:
    first, second = b"one", b"two"

    def travel(change: str) -> list[bytes]:
        host, chip = met(*pair())
        host.put(first)
        length = len(host.unsent)
        host.put(second)
        data = sent(host)
        one, two = data[:length], data[length:]
        flipped = bytes([*one[:LENGTH_BYTES], one[LENGTH_BYTES] ^ 1, *one[LENGTH_BYTES + 1 :]])
        ways = {
            "none": one + two,
            "flipped": flipped,
            "repeated": one + one,
            "swapped": two + one,
            "without a tag": one[:-TAG_BYTES] + bytes(TAG_BYTES),
        }
        if change == "reflected":
            return fed(host, one)
        return fed(chip, ways[change])

    assert travel("none") == [first, second]
    for change in ("flipped", "repeated", "swapped", "without a tag", "reflected"):
        with pytest.raises(BadPeerError, match="changed on its way"):
            travel(change)


@given(st.binary(max_size=300), st.sampled_from(list(Role)))
def test_bytes_of_a_stranger_never_do_more(data: bytes, role: Role) -> None:
    channel = Channel(role, KEY, LARGEST)
    with contextlib.suppress(StrangerError):
        assert fed(channel, data) == []
    assert not channel.open
    # What a stranger makes either side hold.
    assert channel.wanted <= NONCE_BYTES
    assert len(channel._part) < NONCE_BYTES


@pytest.mark.parametrize("keyed", [True, False])
def test_a_length_is_refused_before_anything_is_read(keyed: bool) -> None:
    _, chip = met(*(pair() if keyed else pair(None, None)))
    with pytest.raises(BadPeerError, match="1,001 bytes; 1,000 is the limit"):
        chip.feed((LARGEST + 1).to_bytes(LENGTH_BYTES, "big"))


def test_keys_are_drawn_and_read_back() -> None:
    assert new_key() != new_key()
    assert len(key_bytes(f" {new_key()}\n")) == 16
    for wrong in ("", "x" * 32, "0" * 31, "0" * 34, "0" * 30 + "\u0660\u0660"):
        with pytest.raises(BadRequestError, match="32 hexadecimal digits"):
            key_bytes(wrong)


def test_complaints_become_rare_where_there_are_many() -> None:
    said: list[str] = []
    complaints = Complaints(said.append)
    for _ in range(12_345):
        complaints.add("refused", "refused: \x1b[2Jwhat?")
    complaints.add("stranger", "another one")
    assert len(said) < 50
    assert said[0] == "refused: ?[2Jwhat?"
    assert said[-2] == "refused: ?[2Jwhat? (10,000 of that kind so far)"
    assert said[-1] == "another one"


def test_who_reads_no_answer_is_asked_for_no_further_question() -> None:
    """What it makes the chip hold is one answer, however much it asks."""
    said: list[str] = []
    chip = cast(Any, SimpleNamespace(largest_question=LARGEST))
    asking = Channel(Role.HOST, None, LARGEST)
    here, there = socket.socketpair()
    with here, contextlib.closing(Server(chip, said.append)) as server:
        here.setblocking(False)
        server._add(there, None, "the host")
        (peer,) = server._peers
        held = []
        for _ in range(1500):
            if not asking.unsent:
                asking.put(b"what?")
            write_to(here, asking)
            for entry, _ in server._selector.select(0):
                server._attend(entry.data)
            held.append(len(peer.channel.unsent))
    assert said[0].startswith("refused: the host: ")
    assert 0 < held[-1] == max(held) < 1000

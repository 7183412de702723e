"""On the wire, with real processes: a chip or a host that stops, and changes that cannot be."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.hil import client, host, realtime
from mtspark.sim.hil.client import ChipGoneError
from mtspark.sim.hil.host import HostedChip
from mtspark.sim.hil.loop import Loop, play_hil
from mtspark.sim.hil.protocol import Change, Decide, Hello, encode
from mtspark.sim.hil.sender import Sender
from tests.sim.hil.test_process import FRAME, KEY, Peer, child, resident_bytes, served, soon
from tests.support.hil_agent import changes_network, order

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    network = replace(changes_network(), name="test")
    return write_bundle(tmp_path_factory.mktemp("wire") / "changes.deploy", network)


def wanted(bundle: Bundle, frame: np.ndarray) -> list[float]:
    values = ReferenceChip(bundle.network).decide(frame[None], 0).values[0]
    return [float(value) for value in values]


def number_of(chip: HostedChip) -> int:
    assert chip._process is not None
    return chip._process.pid


# A chip that stops


def test_a_chip_that_was_stopped_is_said_and_goes_on(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client, "SILENCE_S", 0.2)
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        assert chip.decide("pong", 0, 0, FRAME) is not None
        number = number_of(chip)
        said: list[float] = []

        def go_on(limit_s: float) -> None:
            said.append(limit_s)
            chip.say_silent(limit_s)
            os.kill(number, signal.SIGCONT)

        assert chip.link is not None
        chip.link.silent = go_on
        os.kill(number, signal.SIGSTOP)
        reply = chip.decide("pong", 0, 1, 255 - FRAME)
        assert reply is not None
        assert reply[0].tolist() == wanted(bundle, 255 - FRAME)
        assert said == [host.ANSWER_LIMIT_S]
        assert chip.lost == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"the chip has not answered for 5 s, and gets 120 s; its process {number} is stopped, "
        f"`kill -CONT {number}` lets it go on"
    )


def test_a_chip_that_stays_stopped_ends_the_game_with_its_reason_and_is_not_left(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client, "SILENCE_S", 0.2)
    monkeypatch.setattr(host, "ANSWER_LIMIT_S", 1.0)
    monkeypatch.setattr(client, "END_LIMIT_S", 30.0)
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        number = number_of(chip)
        process = chip._process
        assert process is not None
        os.kill(number, signal.SIGSTOP)
        reason = f"no answer from a chip within 1 s; its process {number} is stopped, `kill -CONT"
        with pytest.raises(ChipGoneError, match=reason):
            chip.decide("pong", 0, 0, FRAME)
        assert "has not answered" in caplog.text
    # It ended by itself, as one that goes on does; it did not have to be killed.
    assert process._process.returncode not in (None, -signal.SIGKILL)


def test_in_real_time_too(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(realtime, "GIVE_UP_S", 3.0)
    monkeypatch.setattr(realtime, "FAR_LIMIT_S", 0.5)
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        number = number_of(chip)
        os.kill(number, signal.SIGSTOP)
        with pytest.raises(ChipGoneError, match=f"of real time; its process {number} is stopped"):
            list(play_hil(chip, bundle.network, "pong", Loop(realtime=True), episodes=1, seed=0))
        os.kill(number, signal.SIGCONT)
    assert caplog.text.count("the chip has not answered") == 1


def test_a_served_chip_that_was_stopped_is_missed_and_comes_back(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host, "FAR_LIMIT_S", 0.5)
    sender = Sender(bundle.network.input.encoder)
    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        with HostedChip(bundle.network_hash, address=address, key=KEY) as chip:
            assert chip.ask("pong", 0, sender.send(0, FRAME)) is not None
            server.send_signal(signal.SIGSTOP)
            assert chip.ask("pong", 0, sender.send(1, 255 - FRAME)) is None
            assert chip.ask("pong", 0, sender.send(2, FRAME)) is None
            server.send_signal(signal.SIGCONT)
            sender.forget()
            assert soon(lambda: chip.ask("pong", 0, sender.send(3, FRAME)) is not None)
            # The chip took both questions of before, late; changes count from what it has.
            reply = chip.ask("pong", 0, sender.send(4, 255 - FRAME))
            assert reply is not None
            assert reply.values.tolist() == wanted(bundle, 255 - FRAME)
            assert chip.lost == 1
        said = [record.getMessage() for record in caplog.records]
        assert said[0].startswith(
            f"{address}: no answer from a chip within 0.5 s; the game goes on"
        )
        assert said[1:] == [f"{address}: answers again"]


# A host that vanishes

VANISHES = (
    "import sys, numpy as np\n"
    "from mtspark.core.chip_network import Encoder\n"
    "from mtspark.sim.hil.host import HostedChip\n"
    "from mtspark.sim.hil.sender import Sender\n"
    "chip = HostedChip(sys.argv[1], address=sys.argv[2], key=sys.argv[3])\n"
    "sender, decision = Sender(Encoder.CHANGES), 0\n"
    "while True:\n"
    "    frame = np.full((4, 84, 84), decision % 256, np.uint8)\n"
    "    chip.ask('pong', 0, sender.send(decision, frame))\n"
    "    decision += 1\n"
    "    print(decision, flush=True)\n"
)


def handles(number: int) -> int:
    return len(list(Path(f"/proc/{number}/fd").iterdir()))


def test_hosts_that_are_killed_in_an_episode_leave_nothing_to_the_next(bundle: Bundle) -> None:
    """The next host plays the same episode: it must not get what the dead ones told the chip."""
    sender = Sender(bundle.network.input.encoder)
    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        held = handles(server.pid)
        for _ in range(2):
            vanished = child(VANISHES, bundle.network_hash, address, KEY)
            assert vanished.stdout is not None
            while vanished.stdout.readline() != "5\n":
                pass
            vanished.kill()
            vanished.wait()
            vanished.stdout.close()
            peer = Peer(address)
            change = Change(3, "pong", 0, 5, 4, b"\0\0\0\0", b"\1\0")
            assert peer.ask(encode(change))["kind"] == "unknown"
            peer.socket.close()
            with HostedChip(bundle.network_hash, address=address, key=KEY) as chip:
                sender.forget()
                for decision, frame in enumerate((FRAME, 255 - FRAME)):
                    reply = chip.ask("pong", 0, sender.send(decision, frame))
                    assert reply is not None
                    assert reply.values.tolist() == wanted(bundle, frame)
        assert soon(lambda: handles(server.pid) == held), "a connection is left"


# Changes that cannot be


def message(**fields: Any) -> bytes:
    head = {"protocol": "mtspark-hil", "version": 2, "kind": "change"}
    usual = {"id": 7, "task": "pong", "episode": 0, "decision": 1, "since": 0}
    usual |= {"places": words("<u4", 5), "changes": words("<i2", 1)}
    return bytes(msgpack.packb({**head, **usual, **fields}))


def words(kind: str, *values: float) -> bytes:
    return np.array(values).astype(kind).tobytes()


SIZE = FRAME.size
NESTED: Any = {"a": {"b": {"c": [1, [2, [3]]]}}}
MALFORMED = [
    # Another type than that of the protocol.
    ({"places": words("<u2", 5)}, "changes of 2 bytes for places of 2"),
    ({"places": words("<f8", 5)}, "changes of 2 bytes for places of 8"),
    ({"changes": words("<i4", 1)}, "changes of 4 bytes for places of 4"),
    ({"changes": words("<i1", 1)}, "changes of 1 bytes for places of 4"),
    ({"places": [5]}, "no MessagePack map of flat fields"),
    ({"places": "0005"}, "whose places is '0005'"),
    ({"places": 5}, "whose places is 5"),
    ({"changes": None}, "whose changes is None"),
    ({"changes": 0.5}, "whose changes is 0.5"),
    # Places and changes that no frame has.
    ({"places": words("<u4", SIZE)}, f"do not ascend from 0 to {SIZE - 1}"),
    ({"places": words("<u4", 2**32 - 1)}, "do not ascend"),
    ({"places": words("<i4", -1)}, "do not ascend"),
    ({"places": words("<u4", 5, 5), "changes": words("<i2", 1, 1)}, "do not ascend"),
    ({"places": words("<u4", 6, 5), "changes": words("<i2", 1, 1)}, "do not ascend"),
    ({"places": words("<u4", *range(5, 0, -1)), "changes": words("<i2", *[1] * 5)}, "do not"),
    ({"changes": words("<i2", 256)}, "beyond 255"),
    ({"changes": words("<i2", -256)}, "beyond 255"),
    ({"changes": words("<i2", -(2**15))}, "beyond 255"),
    ({"changes": words("<i2", 0)}, "a change that is 0"),
    # Numbers of games and decisions.
    ({"episode": -1}, "whose episode is -1"),
    ({"since": True}, "whose since is True"),
    ({"decision": 1.5}, "whose decision is 1.5"),
    ({"since": 2**64 - 1}, "whose since is 1844674407"),
    ({"task": "chess"}, "unknown task 'chess'"),
    ({"task": "\x1b[31m"}, "not printable text"),
    # What is no flat map of these fields.
    ({"places": NESTED}, "no MessagePack map of flat fields"),
    ({"more": NESTED}, "no MessagePack map of flat fields"),
    ({"more": 1}, "unknown fields"),
    ({f"more {number}": 1 for number in range(20)}, "fields; 16 is the limit"),
]  # fmt: skip
UNKNOWN = [{"episode": 1}, {"since": 1}, {"since": 2**40}, {"episode": 2**40}]


@pytest.fixture(scope="module")
def chip(bundle: Bundle) -> Iterator[Any]:
    with served(bundle, "tcp://127.0.0.1:*") as found:
        yield found


def test_malformed_changes_get_one_clear_line_and_change_nothing(chip: Any, bundle: Bundle) -> None:
    server, address, _ = chip
    peer, other = Peer(address), Peer(address)
    assert peer.ask(message())["kind"] == "unknown", "before a whole frame"
    for one, frame in ((peer, FRAME), (other, 255 - FRAME)):
        answer = one.ask(encode(Decide(1, "pong", 0, 0, frame.tobytes())))
        assert answer["values"] == wanted(bundle, frame)
    before = resident_bytes(server.pid)
    for fields, says in MALFORMED * 20:
        answer = peer.ask(message(**fields))
        assert answer["kind"] == "refused", (fields, answer)
        assert says in answer["reason"], (fields, answer)
        assert answer["reason"].isprintable()
        assert len(answer["reason"]) < 300
    for fields in UNKNOWN * 20:
        assert peer.ask(message(**fields))["kind"] == "unknown"
    whole = message()
    for length in range(0, len(whole), 3):
        assert peer.ask(whole[:length])["kind"] == "refused", length
    assert peer.ask(whole + b"\0")["kind"] == "refused"
    # Nothing of all this has reached the frame of either host.
    changed = FRAME.copy().reshape(-1)
    changed[5] += 1
    assert peer.ask(whole)["values"] == wanted(bundle, changed.reshape(FRAME.shape))
    back = message(places=words("<u4", 0), changes=words("<i2", -5))
    moved = (255 - FRAME).reshape(-1).astype(int)
    moved[0] -= 5
    assert moved[0] >= 0
    assert other.ask(back)["values"] == wanted(bundle, moved.astype(np.uint8).reshape(FRAME.shape))
    assert resident_bytes(server.pid) < before + 2**24
    for one in (peer, other):
        one.socket.close()


def test_a_huge_count_is_refused_before_it_is_read_and_sums_stay_bounded(chip: Any) -> None:
    server, address, _ = chip
    before = resident_bytes(server.pid)
    for _ in range(5):
        huge = Peer(address)
        huge.socket.sendall((2**31).to_bytes(4, "big"))
        assert "is the limit" in huge.hear()["reason"]
        huge.socket.close()
        counted = Peer(address)
        # A map that says 2^32 - 1 fields, a text of as many bytes, bytes of as many.
        for head in (
            b"\xdf\xff\xff\xff\xff",
            b"\x81\xdb\xff\xff\xff\xff",
            b"\x81\xa1a\xc6" + b"\xff" * 4,
        ):
            assert counted.ask(head)["kind"] == "refused"
        counted.socket.close()
    # As many changes as there are values, all of them 255, again and again.
    peer = Peer(address)
    assert peer.ask(encode(Decide(1, "pong", 0, 0, bytes(SIZE))))["kind"] == "decided"
    everywhere = {"places": words("<u4", *range(SIZE)), "changes": words("<i2", *[255] * SIZE)}
    for decision in range(5):
        answer = peer.ask(message(**everywhere, since=decision, decision=decision + 1))
        assert answer["kind"] == "decided", answer
    peer.socket.close()
    again = Peer(address)
    assert again.ask(encode(Hello(1)))["kind"] == "welcome"
    again.socket.close()
    assert server.poll() is None
    assert resident_bytes(server.pid) < before + 2**25


def test_what_is_said_is_bounded_however_much_is_refused(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        peer = Peer(address)
        for _ in range(500):
            assert peer.ask(message(task="\x1b[31m"))["kind"] == "refused"
        peer.socket.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 130
        assert server.stdout is not None
        said = server.stdout.read()
    assert "\x1b" not in said
    assert said.count("\n") < 40

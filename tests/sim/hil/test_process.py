"""Two processes: who dies, who goes on, and that nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import socket as plain
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from mtspark.core.chip_network import Encoder
from mtspark.core.errors import BackendFailedError, BadRequestError
from mtspark.deploy.bundle import Bundle, write_bundle
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.hil.client import ChipGoneError, ChipLink, Dialled
from mtspark.sim.hil.faults import FaultKind, Faults, FaultyChip, break_network
from mtspark.sim.hil.host import HostedChip
from mtspark.sim.hil.loop import Loop, play_hil
from mtspark.sim.hil.options import KEY_VARIABLE
from mtspark.sim.hil.protocol import LARGEST_ANSWER, Decide, Hello, encode
from mtspark.sim.hil.sender import Sender
from mtspark.sim.hil.server import MOST_HOSTS, MOST_STRANGERS
from mtspark.sim.hil.stream import MAGIC, Channel, Role, key_bytes
from mtspark.sim.hil.timing import FaultSchedule, Reply, Timing
from mtspark.sim.play import play
from tests.support.hil_agent import order, pong_bundle, pong_network
from tests.support.leftovers import left_behind, names

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")

FRAME = np.random.default_rng(0).integers(0, 256, (4, 84, 84)).astype(np.uint8)
LIMIT_S = 60
"""No test waits longer for a message."""
Served = tuple["subprocess.Popen[str]", str, str]
KEY = "00112233445566778899aabbccddeeff"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return pong_bundle(tmp_path_factory.mktemp("hil"))


def processes_about(text: str) -> list[int]:
    """Processes whose command line holds a text, but for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in command and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def soon(check: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return check()


def handles() -> int:
    # What earlier tests dropped must not be closed between two counts.
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def child(code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def reserved(address: str) -> plain.socket:
    """Hold the port of a server that is gone; one that shares it, as ours does, may return."""
    host, port = address.removeprefix("tcp://").split(":")
    held = plain.socket()
    held.setsockopt(plain.SOL_SOCKET, plain.SO_REUSEADDR, 1)
    held.bind((host, int(port)))
    return held


@contextmanager
def served(bundle: Bundle, address: str, key: str | None = KEY) -> Iterator[Served]:
    """`mtspark hil --serve` as a process of its own, its address, and what it said."""
    code = "import sys; from mtspark.cli.main import main; main()"
    command = ["hil", str(bundle.folder), "--serve", address, "--backend", "reference"]
    process = child(code, *command, **({} if key is None else {KEY_VARIABLE: key}))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving test at tcp://127.0.0.1:"), line
        assert str(key) not in line
        yield process, line.split(" at ")[1].split(";")[0], line
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# A chip of our own


def test_the_chip_in_another_process_answers_what_the_reference_answers(bundle: Bundle) -> None:
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        assert (chip.welcome.backend, chip.welcome.faults) == ("reference", "")
        answer = chip.decide("pong", 0, 0, FRAME)
    assert answer is not None
    wanted = ReferenceChip(bundle.network).decide(FRAME[None], 0).values[0]
    np.testing.assert_array_equal(answer[0], wanted)
    assert answer[1] > 0


def test_a_whole_game_over_the_wire_is_that_of_the_agent_loop(bundle: Bundle) -> None:
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        loop = Loop(max_decisions=60)
        (ours,) = play_hil(chip, bundle.network, "pong", loop, episodes=1, seed=2)
    backend = ReferenceChip(bundle.network)
    theirs = play(backend, bundle.network, "pong", episodes=1, seed=2, max_decisions=60)
    assert ours.score == theirs.episodes[0].score
    assert ours.decisions == 60


def test_ordered_faults_happen_on_the_chip_and_differ_by_episode(bundle: Bundle) -> None:
    faults = Faults({FaultKind.WEIGHT_BITS: 0.01, FaultKind.SPURIOUS_SPIKES: 0.05}, seed=4)
    with HostedChip(bundle.network_hash, order=order(bundle, faults)) as chip:
        assert "weight-bits=0.01, spurious-spikes=0.05, seed 4" in chip.welcome.faults
        asked = [(3, 0), (3, 1), (4, 1), (3, 1)]
        answers = [chip.decide("pong", *place, FRAME) for place in asked]
    for (episode, decision), answer in zip(asked, answers, strict=True):
        broken = FaultyChip(break_network(bundle.network, faults, episode), faults, episode)
        broken.begin(decision)
        assert answer is not None
        np.testing.assert_array_equal(answer[0], broken.decide(FRAME[None], 0).values[0])
    assert len({answer[0].tobytes() for answer in answers if answer}) == 3


def test_nothing_is_left_behind_by_a_chip_that_closed_died_or_was_killed(bundle: Bundle) -> None:
    before = names()
    open_before = handles()
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        assert len(processes_about(str(bundle.folder))) == 1
        # As ordered: the next question finds a new chip.
        first = processes_about(str(bundle.folder))
        chip.die()
        assert processes_about(str(bundle.folder)) == []
        assert chip.decide("pong", 0, 0, FRAME) is not None
        assert processes_about(str(bundle.folder)) != first
        assert chip.lost == 0
        # Not as ordered: the decision is missing, the next one is not.
        os.kill(processes_about(str(bundle.folder))[0], signal.SIGKILL)
        assert chip.decide("pong", 0, 1, FRAME) is None
        assert chip.decide("pong", 0, 2, FRAME) is not None
        assert chip.lost == 1
    assert processes_about(str(bundle.folder)) == []
    assert handles() == open_before
    assert left_behind(before) == set()


@pytest.mark.slow
def test_a_chip_that_dies_in_a_game_is_missed_and_comes_back(bundle: Bundle) -> None:
    faults = Faults({FaultKind.CHIP_DEATH: 0.05}, seed=1)
    loop = Loop(timing=Timing(chip_ms=1), faults=faults, away_ms=200, max_decisions=30)
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        one, two = (
            next(play_hil(chip, bundle.network, "pong", loop, episodes=1, seed=0)) for _ in range(2)
        )
        assert chip.lost == 0
    assert one.tally.deaths >= 1
    assert one.tally.missing == 3 * one.tally.deaths
    assert one.trajectory == two.trajectory
    assert processes_about(str(bundle.folder)) == []


def test_a_chip_that_cannot_start_says_why(bundle: Bundle) -> None:
    with pytest.raises(BackendFailedError, match="did not start: unknown task 'chess'"):
        HostedChip(bundle.network_hash, order=order(bundle, task="chess"))
    with pytest.raises(BackendFailedError, match="changed since it was read"):
        HostedChip("0" * 64, order=order(bundle, network="0" * 64))
    assert processes_about(str(bundle.folder)) == []


def test_a_host_that_is_killed_takes_its_own_chip_along(bundle: Bundle) -> None:
    before = names()
    code = (
        "import sys, time\n"
        "from mtspark.sim.hil.host import HostedChip\n"
        "from mtspark.sim.hil.order import ChipOrder\n"
        "order = ChipOrder.from_text(sys.argv[1])\n"
        "chip = HostedChip(order.network, order=order)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    host = child(code, order(bundle).to_text())
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    assert len(processes_about(str(bundle.folder))) == 2
    host.kill()
    host.wait()
    host.stdout.close()
    assert soon(lambda: processes_about(str(bundle.folder)) == [])
    assert left_behind(before) == set()


@pytest.mark.slow
def test_in_real_time_frames_take_real_time(bundle: Bundle) -> None:
    timing = Timing(chip_ms=20)
    quiet = Loop(timing=timing, realtime=True, max_decisions=15)
    seed = next(n for n in range(100) if FaultSchedule(deadly(n), 0).chip_dies(0))
    shaken = replace(quiet, faults=deadly(seed), away_ms=10)
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        games = []
        for loop in (quiet, shaken, quiet):
            started = time.perf_counter()
            games += play_hil(chip, bundle.network, "pong", loop, episodes=1, seed=0)
            assert time.perf_counter() - started >= 59 / 60
        # Whether it was back within its second or not: it is there for the next question.
        assert chip.decide("pong", 0, 0, FRAME) is not None
        assert chip.lost == 0
        assert len(processes_about(str(bundle.folder))) == 1
    assert processes_about(str(bundle.folder)) == []
    for episode in games:
        tally = episode.tally
        fates = tally.in_time + tally.late + tally.skipped + tally.missing + tally.pending
        assert (fates, episode.decisions, episode.frames) == (15, 15, 60)
        assert min(tally.response_ms, default=20) >= 20 - 1e-6
        assert episode.overrun_ms is not None
    assert (games[0].tally.missing, games[0].tally.deaths) == (0, 0)
    assert games[1].tally.deaths == 1
    assert games[1].tally.missing >= 1


def deadly(seed: int) -> Faults:
    return Faults({FaultKind.CHIP_DEATH: 0.05}, seed)


# A chip that is served


def test_a_served_chip_outlives_its_hosts_and_a_host_its_chip(bundle: Bundle) -> None:
    code = (
        "import sys, time, numpy as np\n"
        "from mtspark.sim.hil.host import HostedChip\n"
        "chip = HostedChip(sys.argv[1], address=sys.argv[2], key=sys.argv[3])\n"
        "frame = np.zeros((4, 84, 84), np.uint8)\n"
        "print('ready', chip.decide('pong', 0, 0, frame) is not None, flush=True)\n"
        "while True: chip.decide('pong', 0, 0, frame)\n"
    )
    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        host = child(code, bundle.network_hash, address, KEY)
        assert host.stdout is not None
        assert host.stdout.readline() == "ready True\n"
        host.kill()
        host.wait()
        host.stdout.close()
        chip = HostedChip(bundle.network_hash, address=address, key=KEY)
        assert chip.decide("pong", 0, 0, FRAME) is not None
        assert server.poll() is None
        with pytest.raises(BadRequestError, match="only a chip that mtspark hil started"):
            chip.die()
        server.kill()
        server.wait()
        taken = reserved(address)
        assert chip.decide("pong", 0, 1, FRAME) is None
        assert chip.decide("pong", 0, 2, FRAME) is None
    with taken, served(bundle, address) as (server, _, _):
        assert soon(lambda: chip.decide("pong", 0, 3, FRAME) is not None)
        assert chip.lost == 1
        chip.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 130


def test_a_served_chip_heeds_a_signal_that_does_not_end_its_wait() -> None:
    # Taken by another thread the signal leaves the wait alone, as one does that comes a moment
    # before the wait begins.
    code = (
        "import signal, threading\n"
        "from types import SimpleNamespace\n"
        "from mtspark.sim.hil.server import end_on_sigterm, serve\n"
        "threading.Thread(target=signal.pause, daemon=True).start()\n"
        "end_on_sigterm()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "say = lambda line: print(line, flush=True)\n"
        "chip = SimpleNamespace(largest_question=100)\n"
        "serve(chip, 'tcp://127.0.0.1:*', bytes(16), announce=say, complain=say)\n"
    )
    server = child(code)
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("tcp://127.0.0.1:")
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == -signal.SIGINT
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_host_refuses_a_chip_that_runs_another_network(bundle: Bundle) -> None:
    with (
        served(bundle, "tcp://127.0.0.1:*") as (_, address, _),
        pytest.raises(BackendFailedError, match="runs another network"),
    ):
        HostedChip("f" * 64, address=address, key=KEY)


def connected_to(address: str) -> plain.socket:
    host, port = address.removeprefix("tcp://").split(":")
    return plain.create_connection((host, int(port)), timeout=LIMIT_S)


class Peer:
    """A host that has the key and says what it likes, over a socket that blocks."""

    def __init__(self, address: str, key: str = KEY) -> None:
        self.socket = connected_to(address)
        self.channel = Channel(Role.HOST, key_bytes(key), 2**20)
        while not self.channel.open:
            self.flush()
            piece = self.socket.recv(self.channel.wanted)
            assert piece, "hung up"
            self.channel.feed(piece)
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.channel.unsent)
        self.channel.unsent.clear()

    def ask(self, data: bytes) -> Any:
        self.channel.put(data)
        self.flush()
        return self.hear()

    def hear(self) -> Any:
        while True:
            piece = self.socket.recv(self.channel.wanted)
            assert piece, "hung up"
            if (answer := self.channel.feed(piece)) is not None:
                return msgpack.unpackb(answer)


def test_a_served_chip_keeps_a_frame_for_each_host_and_asks_for_it_when_it_is_new(
    tmp_path: Path,
) -> None:
    plain = pong_network()
    net = replace(plain, input=replace(plain.input, encoder=Encoder.CHANGES))
    net = replace(net, connections=(replace(net.connections[0], exponent=-6), net.connections[1]))
    bundle = write_bundle(tmp_path / "changes.deploy", net)
    every = replace(net, input=replace(net.input, encoder=Encoder.EVERY_STEP))
    reference = ReferenceChip(every)
    frames = [FRAME.copy(), 255 - FRAME]
    senders = [Sender(Encoder.CHANGES), Sender(Encoder.CHANGES)]

    def ask_both(decision: int, chips: list[HostedChip]) -> list[Reply | None]:
        replies = []
        for chip, sender, frame in zip(chips, senders, frames, strict=True):
            frame[decision % 4, decision] ^= 255
            reply = chip.ask("pong", 0, sender.send(decision, frame.copy()))
            if reply is not None:
                wanted = reference.decide(frame[None], 0).values[0]
                np.testing.assert_array_equal(reply.values, wanted)
            replies.append(reply)
        return replies

    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        chips = [HostedChip(bundle.network_hash, address=address, key=KEY) for _ in range(2)]
        for decision in range(3):
            replies = ask_both(decision, chips)
            messages = [np.count_nonzero(frame) for frame in frames]
            wanted = [(84, False)] * 2 if decision else [(one, False) for one in messages]
            assert [reply and reply[2:] for reply in replies] == wanted
        peer = Peer(address)
        old = peer.ask(encode(Hello(3), version=1))
        assert (old["kind"], old["id"], old["version"]) == ("refused", 3, 2)
        assert old["reason"] == (
            "the peer speaks version 1 of mtspark-hil, this side 2 and 3; use the same "
            "mtspark on both"
        )
        peer.socket.close()
        server.kill()
        server.wait()
        taken = reserved(address)
    with taken, served(bundle, address):
        # Nobody told the hosts: the new chip itself asks for whole frames.
        for decision in range(3, 6):
            replies = ask_both(decision, chips)
            if decision == 5:
                assert [reply and reply[2:] for reply in replies] == [(84, False)] * 2
        for chip in chips:
            chip.close()


def test_a_hostile_peer_gets_one_clear_error_and_the_chip_goes_on(bundle: Bundle) -> None:
    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        noise = connected_to(address)
        noise.sendall(b"GET / HTTP/1.1\r\nHost: chip\r\n\r\n" + bytes(range(256)) * 40)
        silent = connected_to(address)
        peer = Peer(address)
        more = msgpack.packb({"protocol": "mtspark-hil", "more": bytes(10_000)})
        many = msgpack.packb({"id": 9, "values": [{}] * 4000, "more": [[{}] * 4000] * 10})
        refusals = [
            (b"\xff" * 100, 0, "no MessagePack"),
            (more, 0, "version None"),
            (many, 9, "no MessagePack"),
            (b"\x91" * 40_000, 0, "no MessagePack"),
            (encode(Hello(3)).replace(b"version\x02", b"version\x07"), 3, "version 7"),
            (encode(Decide(4, "pong", 0, 0, b"xyz")), 4, "a frame of 3 bytes"),
            (encode(Decide(5, "chess", 0, 0, FRAME.tobytes())), 5, "unknown task 'chess'"),
        ]
        for data, number, says in refusals:
            answer = peer.ask(data)
            assert (answer["kind"], answer["id"]) == ("refused", number)
            assert says in answer["reason"]
        # More than the limit: said so and hung up on, before any of it is read.
        huge = Peer(address)
        huge.socket.sendall((2**24).to_bytes(4, "big"))
        limit = LARGEST_ANSWER + FRAME.size
        assert f"16,777,216 bytes; {limit:,} is the limit" in huge.hear()["reason"]
        # A tag that is not that of the message.
        changed = Peer(address)
        changed.channel.put(encode(Hello(1)))
        changed.channel.unsent[-1] ^= 1
        changed.flush()
        assert "changed on its way" in changed.hear()["reason"]
        assert peer.ask(encode(Hello(6)))["kind"] == "welcome"
        with HostedChip(bundle.network_hash, address=address, key=KEY) as chip:
            assert chip.decide("pong", 0, 0, FRAME) is not None
        for one in (noise, silent, peer.socket, huge.socket, changed.socket):
            one.close()
        assert server.poll() is None


def resident_bytes(number: int) -> int:
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pushed(connected: plain.socket, head: bytes, piece: bytes, most: int = 2**28) -> int:
    """Bytes that were sent until the other side hung up, or took no more for a while."""
    sent = 0
    with suppress(OSError):
        connected.sendall(head)
        connected.settimeout(0.5)
        while sent < most:
            sent += connected.send(piece)
    return sent


def test_unfinished_messages_of_any_kind_fill_no_memory(bundle: Bundle) -> None:
    part = b"\x03" + (2**16).to_bytes(8, "big") + bytes(2**16)
    zeromq = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    zeromq += b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        before = resident_bytes(server.pid)
        strangers = [connected_to(address) for _ in range(3)]
        # A message of parts without end, to whoever speaks ZeroMQ; noise; a hello that never ends.
        pushed(strangers[0], zeromq, part)
        pushed(strangers[1], b"", bytes(2**16))
        pushed(strangers[2], MAGIC + bytes(32), bytes(2**16))
        # With the key: one that is too long, and one that is not finished by any of many hosts.
        peers = [Peer(address) for _ in range(5)]
        pushed(peers[0].socket, (2**32 - 1).to_bytes(4, "big"), bytes(2**16))
        for peer in peers[1:]:
            pushed(peer.socket, (80_000).to_bytes(4, "big"), bytes(2**16), 2**16)
        # And one who repeats a question, with a tag that is none then, and reads no answer.
        peers[-1] = Peer(address)
        peers[-1].channel.put(b"what?")
        pushed(peers[-1].socket, b"", bytes(peers[-1].channel.unsent), 2**26)
        assert resident_bytes(server.pid) < before + 2**23
        with HostedChip(bundle.network_hash, address=address, key=KEY) as chip:
            assert chip.decide("pong", 0, 0, FRAME) is not None
        for one in (*strangers, *(peer.socket for peer in peers)):
            one.close()


def test_a_chip_of_our_own_listens_to_nobody_else(bundle: Bundle) -> None:
    with HostedChip(bundle.network_hash, order=order(bundle)):
        (number,) = processes_about(str(bundle.folder))
        sockets = {
            str(handle.readlink()).removeprefix("socket:[").removesuffix("]")
            for handle in Path(f"/proc/{number}/fd").iterdir()
        }
        found = [
            line
            for table in ("tcp", "tcp6", "udp", "udp6")
            if (path := Path(f"/proc/{number}/net/{table}")).exists()
            for line in path.read_text().splitlines()[1:]
            if line.split()[9] in sockets
        ]
        assert found == []
        variables = Path(f"/proc/{number}/environ").read_bytes()
        assert b"MTSPARK_HIL_KEY" not in variables


@pytest.mark.slow
def test_many_strangers_and_many_hosts_leave_room_for_one_more(bundle: Bundle) -> None:
    with served(bundle, "tcp://127.0.0.1:*") as (server, address, _):
        first = Peer(address)
        strangers = [connected_to(address) for _ in range(2 * MOST_STRANGERS)]
        peers = [Peer(address) for _ in range(MOST_HOSTS + 1)]
        handles_there = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
        assert handles_there < MOST_STRANGERS + MOST_HOSTS + 30
        # The host that was silent longest made room for the others.
        assert first.socket.recv(1) == b""
        assert peers[-1].ask(encode(Hello(1)))["kind"] == "welcome"
        for one in (first.socket, *strangers, *(peer.socket for peer in peers)):
            one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is this machine on Linux")
def test_strangers_of_one_address_do_not_push_out_a_slow_host_of_another(bundle: Bundle) -> None:
    with served(bundle, "tcp://127.0.0.1:*") as (_, address, _):
        host, port = address.removeprefix("tcp://").split(":")
        place, here = (host, int(port)), ("127.0.0.2", 0)
        slow = plain.create_connection(place, timeout=LIMIT_S, source_address=here)
        strangers = [connected_to(address) for _ in range(2 * MOST_STRANGERS)]
        # Accepted one after another: when the last is answered to, the others were there.
        assert Peer(address).ask(encode(Hello(1)))["kind"] == "welcome"
        slow.sendall(MAGIC + bytes(32))
        assert slow.recv(1) == MAGIC[:1]
        for one in (slow, *strangers):
            one.close()


def test_a_wrong_key_is_one_clear_error_and_no_key_too(bundle: Bundle) -> None:
    with served(bundle, "tcp://127.0.0.1:*") as (_, address, _):
        other = KEY[::-1]
        with pytest.raises(BackendFailedError, match="has another key; give the one") as found:
            HostedChip(bundle.network_hash, address=address, key=other)
        assert other not in str(found.value)
        for none in ("", "secret", KEY[1:], KEY + "00"):
            with pytest.raises(BadRequestError, match="has 32 hexadecimal digits"):
                HostedChip(bundle.network_hash, address=address, key=none)
        with HostedChip(bundle.network_hash, address=address, key=KEY) as chip:
            assert chip.decide("pong", 0, 0, FRAME) is not None


def test_each_server_draws_and_prints_a_key_of_its_own(bundle: Bundle) -> None:
    keys = []
    for _ in range(2):
        with served(bundle, "tcp://127.0.0.1:*", key=None) as (_, address, said):
            keys.append(said.split("--key ")[1].split(";")[0])
            with HostedChip(bundle.network_hash, address=address, key=keys[-1]) as chip:
                assert chip.decide("pong", 0, 0, FRAME) is not None
    assert keys[0] != keys[1]


def test_a_host_of_before_the_key_hears_why_it_gets_no_answer(bundle: Bundle) -> None:
    zmq = pytest.importorskip("zmq")
    with (
        served(bundle, "tcp://127.0.0.1:*") as (_, address, _),
        zmq.Context() as context,
        context.socket(zmq.DEALER) as host,
    ):
        host.linger = 0
        host.rcvtimeo = 1000 * LIMIT_S
        host.connect(address)
        host.send(encode(Hello(1)))
        answer = msgpack.unpackb(host.recv())
    assert (answer["kind"], answer["version"]) == ("refused", 1)
    assert answer["reason"].startswith("this chip asks for a key")


def test_a_chip_of_before_the_key_is_one_clear_error() -> None:
    zmq = pytest.importorskip("zmq")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as chip:
        chip.bind("tcp://127.0.0.1:*")
        with pytest.raises(BackendFailedError, match="an older mtspark"):
            HostedChip("f" * 64, address=chip.last_endpoint.decode(), key=KEY)


@contextmanager
def false_chip(said: Callable[[plain.socket], None]) -> Iterator[str]:
    """Something that listens, says what it likes to the first who comes, and its address."""
    with plain.create_server(("127.0.0.1", 0)) as listener:

        def meet() -> None:
            with suppress(OSError):
                visitor, _ = listener.accept()
                with visitor:
                    said(visitor)

        thread = threading.Thread(target=meet)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):
                listener.shutdown(plain.SHUT_RDWR)
            thread.join()


def as_chip(visitor: plain.socket) -> Channel:
    """Meet a host as one that knows the key."""
    channel = Channel(Role.CHIP, key_bytes(KEY), 2**20)
    while not channel.open:
        piece = visitor.recv(channel.wanted)
        if not piece:
            raise ConnectionError
        channel.feed(piece)
        visitor.sendall(channel.unsent)
        channel.unsent.clear()
    return channel


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"garbage", "no MessagePack"),
        ({"kind": "decided", "values": [], "host_s": 0.0}, "'decided' in answer to a hello"),
        ({"kind": "refused", "reason": "not today"}, "the chip refused: not today"),
        ({"kind": "welcome"}, "whose network is None"),
        ({"kind": "shell"}, "kind 'shell'"),
        ({"kind": "decided", "values": [[[]] * 9], "host_s": 0.0}, "no MessagePack"),
    ],
)
def test_a_hostile_chip_is_one_clear_error(answer: bytes | dict[str, object], says: str) -> None:
    def said(visitor: plain.socket) -> None:
        channel = as_chip(visitor)
        protocol = {"protocol": "mtspark-hil", "version": 2}
        # The first is for a question that nobody asked, and must be passed over.
        stale = {**protocol, "id": 99, "kind": "decided", "values": [], "host_s": 0.0}
        channel.put(msgpack.packb(stale))
        true = (
            answer if isinstance(answer, bytes) else msgpack.packb({**protocol, "id": 1, **answer})
        )
        channel.put(true)
        visitor.sendall(channel.unsent)
        visitor.recv(2**16)

    with false_chip(said) as address:
        link = ChipLink(Dialled(address, key_bytes(KEY)))
        with pytest.raises(BackendFailedError, match=says) as found:
            link.greet(LIMIT_S)
        assert str(found.value).startswith("tcp://127.0.0.1:")
        link.close()


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"", "its chip has another key"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no chip of this mtspark"),
    ],
)
def test_a_false_chip_fills_no_memory(head: bytes, says: str) -> None:
    def said(visitor: plain.socket) -> None:
        pushed(visitor, head or MAGIC + bytes(64), bytes(2**16))

    with false_chip(said) as address:
        before = resident_bytes(os.getpid())
        with pytest.raises(BackendFailedError, match=says):
            HostedChip("f" * 64, address=address, key=KEY)
        assert resident_bytes(os.getpid()) < before + 2**23


def test_a_chip_with_the_key_fills_no_memory_either() -> None:
    def said(visitor: plain.socket) -> None:
        as_chip(visitor)
        pushed(visitor, (2**31).to_bytes(4, "big"), bytes(2**16))

    with (
        false_chip(said) as address,
        pytest.raises(BackendFailedError, match="2,147,483,648 bytes; 65,536 is the limit"),
    ):
        HostedChip("f" * 64, address=address, key=KEY)


def test_too_few_values_are_refused(bundle: Bundle) -> None:
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        object.__setattr__(chip.welcome, "actions", 17)
        with pytest.raises(BackendFailedError, match="18 values; 17 were announced"):
            chip.decide("pong", 0, 0, FRAME)


def test_nobody_at_the_address() -> None:
    key = key_bytes(KEY)
    with plain.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound and not served: nobody else gets the port meanwhile.
        link = ChipLink(Dialled(f"tcp://127.0.0.1:{free.getsockname()[1]}", key))
        with pytest.raises(ChipGoneError, match=r"no answer from a chip within 0\.3 s"):
            link.greet(0.3)
        link.close()
    for wrong in ("ipc:///x", "tcp://host", "5555", "tcp://a:b"):
        with pytest.raises(BadRequestError, match="write tcp://HOST:PORT"):
            Dialled(wrong, key)
    with pytest.raises(BadRequestError, match="no such host"):
        Dialled("tcp://no-such-host.invalid:5555", key)
    with pytest.raises(BadRequestError, match=r"\* can only be served"):
        Dialled("tcp://*:5555", key)

"""Two processes: who dies, who goes on, and that nothing is left behind."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket as plain
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

from mtspark.core.errors import BackendFailedError, BadRequestError
from mtspark.deploy.bundle import Bundle
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.hil.client import ChipGoneError, ChipLink
from mtspark.sim.hil.faults import FaultKind, Faults, FaultyChip, break_network
from mtspark.sim.hil.host import HostedChip
from mtspark.sim.hil.loop import Loop, play_hil
from mtspark.sim.hil.protocol import Decide, Hello, encode
from mtspark.sim.hil.timing import FaultSchedule, Timing
from mtspark.sim.play import play
from tests.support.hil_agent import order, pong_bundle
from tests.support.leftovers import left_behind, names

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")

FRAME = np.random.default_rng(0).integers(0, 256, (4, 84, 84)).astype(np.uint8)
ANSWER_MS = 60_000
"""No test waits longer for a message."""


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


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )


def reserved(address: str) -> plain.socket:
    """Hold the port of a server that is gone; one that shares it, as ZeroMQ does, may return."""
    host, port = address.removeprefix("tcp://").split(":")
    held = plain.socket()
    held.setsockopt(plain.SOL_SOCKET, plain.SO_REUSEADDR, 1)
    held.bind((host, int(port)))
    return held


@contextmanager
def served(bundle: Bundle, address: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mtspark hil --serve` as a process of its own, and its address."""
    code = "import sys; from mtspark.cli.main import main; main()"
    command = ["hil", str(bundle.folder), "--serve", address, "--backend", "reference"]
    process = child(code, *command)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving test at tcp://127.0.0.1:"), line
        yield process, line.split(" at ")[1].split(";")[0]
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
        "import json, sys, time\n"
        "from mtspark.sim.hil.host import HostedChip\n"
        "order = json.loads(sys.argv[1])\n"
        "chip = HostedChip(order['network'], order=order)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    host = child(code, json.dumps(order(bundle)))
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    assert len(processes_about(str(bundle.folder))) == 2
    host.kill()
    host.wait()
    host.stdout.close()
    assert soon(lambda: processes_about(str(bundle.folder)) == [])
    assert left_behind(before) == set()


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
        "chip = HostedChip(sys.argv[1], address=sys.argv[2])\n"
        "frame = np.zeros((4, 84, 84), np.uint8)\n"
        "print('ready', chip.decide('pong', 0, 0, frame) is not None, flush=True)\n"
        "while True: chip.decide('pong', 0, 0, frame)\n"
    )
    with served(bundle, "tcp://127.0.0.1:*") as (server, address):
        host = child(code, bundle.network_hash, address)
        assert host.stdout is not None
        assert host.stdout.readline() == "ready True\n"
        host.kill()
        host.wait()
        host.stdout.close()
        chip = HostedChip(bundle.network_hash, address=address)
        assert chip.decide("pong", 0, 0, FRAME) is not None
        assert server.poll() is None
        with pytest.raises(BadRequestError, match="only a chip that mtspark hil started"):
            chip.die()
        server.kill()
        server.wait()
        taken = reserved(address)
        assert chip.decide("pong", 0, 1, FRAME) is None
        assert chip.decide("pong", 0, 2, FRAME) is None
    with taken, served(bundle, address) as (server, _):
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
        "from mtspark.sim.hil.server import end_on_sigterm, serve\n"
        "threading.Thread(target=signal.pause, daemon=True).start()\n"
        "end_on_sigterm()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "say = lambda line: print(line, flush=True)\n"
        "serve(None, 'tcp://127.0.0.1:*', announce=say, complain=say)\n"
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
        served(bundle, "tcp://127.0.0.1:*") as (_, address),
        pytest.raises(BackendFailedError, match="runs another network"),
    ):
        HostedChip("f" * 64, address=address)


def test_a_hostile_peer_gets_one_clear_error_and_the_chip_goes_on(bundle: Bundle) -> None:
    with served(bundle, "tcp://127.0.0.1:*") as (server, address):
        host, port = address.removeprefix("tcp://").split(":")
        # Not even ZeroMQ: noise, and a connection that is never finished.
        noise = plain.create_connection((host, int(port)))
        noise.sendall(b"GET / HTTP/1.1\r\nHost: chip\r\n\r\n" + bytes(range(256)) * 40)
        silent = plain.create_connection((host, int(port)))
        with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
            peer.linger = 0
            peer.rcvtimeo = ANSWER_MS
            peer.connect(address)
            huge = msgpack.packb({"protocol": "mtspark-hil", "more": bytes(10_000)})
            refusals = [
                (b"\xff" * 100, 0, "no MessagePack"),
                (huge, 0, "version None"),
                (encode(Hello(3)).replace(b"version\x01", b"version\x07"), 3, "version 7"),
                (encode(Decide(4, "pong", 0, 0, b"xyz")), 4, "a frame of 3 bytes"),
                (encode(Decide(5, "chess", 0, 0, FRAME.tobytes())), 5, "unknown task 'chess'"),
            ]
            for data, number, says in refusals:
                peer.send(data)
                answer = msgpack.unpackb(peer.recv())
                assert (answer["kind"], answer["id"]) == ("refused", number)
                assert says in answer["reason"]
            peer.send_multipart([b"a", b"b"])
            assert "2 parts" in msgpack.unpackb(peer.recv())["reason"]
            # More than the limit: ZeroMQ hangs up, and the chip never sees it.
            peer.send(bytes(2**24 + 2**15))
            assert not peer.poll(300)
        with HostedChip(bundle.network_hash, address=address) as chip:
            assert chip.decide("pong", 0, 0, FRAME) is not None
        noise.close()
        silent.close()
        assert server.poll() is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"garbage", "no MessagePack"),
        ({"kind": "decided", "values": [], "host_s": 0.0}, "'decided' in answer to a hello"),
        ({"kind": "refused", "reason": "not today"}, "the chip refused: not today"),
        ({"kind": "welcome"}, "whose network is None"),
        ({"kind": "shell"}, "kind 'shell'"),
    ],
)
def test_a_hostile_chip_is_one_clear_error(answer: bytes | dict[str, object], says: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as chip:
        chip.linger = 0
        chip.rcvtimeo = ANSWER_MS
        chip.bind("tcp://127.0.0.1:*")
        link = ChipLink(chip.last_endpoint.decode())
        question = Hello(link.next_id())
        assert soon(lambda: link.send(question))
        host, _ = chip.recv_multipart()
        if isinstance(answer, dict):
            protocol = {"protocol": "mtspark-hil", "version": 1, "id": 1}
            answer = bytes(msgpack.packb({**protocol, **answer}))
        # The first is for a question that nobody asked, and must be passed over.
        stale = {"protocol": "mtspark-hil", "version": 1, "id": 99, "kind": "decided"}
        chip.send_multipart([host, msgpack.packb({**stale, "values": [], "host_s": 0.0})])
        chip.send_multipart([host, answer])
        # greet() asks again, as number 2; the answer to number 1 tells what is refused.
        with pytest.raises(BackendFailedError, match=says) as found:
            greet_as(link, 1)
        assert str(found.value).startswith("tcp://127.0.0.1:")
        link.close()


def greet_as(link: ChipLink, number: int) -> None:
    link._asked = number - 1
    link.greet(60)


def test_too_few_values_are_refused(bundle: Bundle) -> None:
    with HostedChip(bundle.network_hash, order=order(bundle)) as chip:
        object.__setattr__(chip.welcome, "actions", 17)
        with pytest.raises(BackendFailedError, match="18 values; 17 were announced"):
            chip.decide("pong", 0, 0, FRAME)


def test_nobody_at_the_address() -> None:
    with plain.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Bound and not served: nobody else gets the port meanwhile.
        link = ChipLink(f"tcp://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(ChipGoneError, match=r"no answer from a chip within 0\.3 s"):
            link.greet(0.3)
        link.close()
    for wrong in ("ipc:///x", "tcp://host", "5555", "tcp://a:b"):
        with pytest.raises(BadRequestError, match="write tcp://HOST:PORT"):
            ChipLink(wrong)

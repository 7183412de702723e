"""Lava is gone when it should be: a killed caller, a dead part, a time limit, a failure."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtspark.core.chip_network.network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    SignMode,
)
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.core.errors import BackendFailedError
from mtspark.deploy.lava.shim import installed_lava
from mtspark.sim.backends.lava import backend as lava_runner
from mtspark.sim.backends.lava.backend import LavaBackend

pytestmark = [
    pytest.mark.third_party,
    pytest.mark.skipif(
        installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
    ),
]

FRAME = np.full((1, 4), 200, np.uint8)


def two_layers() -> ChipNetwork:
    populations, links = [], []
    for name, source, inputs, outputs in (("hidden", INPUT, 4, 6), ("out", "hidden", 6, 3)):
        thresholds = np.full((1, outputs), 50)
        zeros = np.zeros(outputs, np.int64)
        populations.append(Population(name, (outputs,), 4095, 1024, thresholds, zeros))
        weights = np.full((outputs, inputs), 2)
        links.append(
            Connection(f"to-{name}", source, name, ConnectionKind.DENSE, weights, SignMode.MIXED)
        )
    return ChipNetwork(
        "two-layers",
        FrameInput((4,), 8),
        tuple(populations),
        tuple(links),
        Readout("out", np.ones(3)),
        (Task("pong", "pong", (0,)),),
        2,
        GameProtocol(),
    )


def playing_backend() -> LavaBackend:
    backend = LavaBackend(two_layers(), time_limit_s=300)
    backend.decide(FRAME, 0)
    return backend


def session_members(leader: int) -> dict[int, str]:
    """Living processes of a session (zombies left out) by id, with their command lines."""
    members = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            members[int(folder.name)] = command
    return members


def shared_segments(processes: dict[int, str]) -> set[Path]:
    """Files in /dev/shm that any of the processes has mapped."""
    found = set()
    for number in processes:
        try:
            lines = Path(f"/proc/{number}/maps").read_text().splitlines()
        except OSError:
            continue
        found |= {Path(line.split()[5]) for line in lines if " /dev/shm/" in line}
    return {path for path in found if path.exists()}


def assert_all_gone(leader: int, segments: set[Path], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not session_members(leader) and not any(path.exists() for path in segments):
            return
        time.sleep(0.05)
    left = [str(path) for path in segments if path.exists()]
    pytest.fail(f"left behind: {session_members(leader)}, {left}")


PLAYER = """
import signal, sys
# A shell that starts this in the background may have left signals ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
sys.path.insert(0, sys.argv[1])
from test_guard import FRAME, LavaBackend, two_layers
backend = LavaBackend(two_layers())
print(backend._guard.pid, flush=True)
while True:
    backend.decide(FRAME, 0)
    print("played", flush=True)
"""


@pytest.mark.parametrize("playing", [True, False], ids=["playing", "compiling"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_caller_leaves_no_process_and_no_shared_memory(number, playing):
    command = [sys.executable, "-c", PLAYER, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as caller:
        assert caller.stdout is not None
        leader = int(caller.stdout.readline())
        deadline = time.monotonic() + 300
        if playing:
            assert caller.stdout.readline() == b"played\n"
        members, segments = session_members(leader), set()
        # Lava begins with shared memory and its manager, in one order or the other.
        while not segments or len(members) <= (8 if playing else 2):
            assert time.monotonic() < deadline
            assert caller.poll() is None
            members = session_members(leader)
            segments = shared_segments(members)
        caller.send_signal(number)
        # Not after its pipe is closed: a write that meets the signal would fail.
        caller.wait(60)
    assert caller.returncode == -number
    assert_all_gone(leader, segments)


def find(leader: int, parent: int) -> list[int]:
    """Children of a process within the session, in the order in which they were started."""
    stat = "/proc/{}/stat"
    found = []
    for number in session_members(leader):
        # One that ends while it is looked at is none.
        with contextlib.suppress(OSError):
            fields = Path(stat.format(number)).read_text().rpartition(")")[2].split()
            if fields[1] == str(parent):
                found.append((int(fields[19]), number))
    return [number for _, number in sorted(found)]


@pytest.mark.parametrize("which", ["worker", "worker without a status", "part", "guard's group"])
def test_a_dead_part_of_lava_is_one_line_and_nothing_is_left(which):
    before = signal.getsignal(signal.SIGCHLD)
    if which == "worker without a status":
        # The guard inherits it; where it is ignored, the system keeps no status of the dead.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        backend = playing_backend()
    finally:
        signal.signal(signal.SIGCHLD, before)
    leader = backend._guard.pid
    members = session_members(leader)
    segments = shared_segments(members)
    assert segments
    (worker,) = find(leader, leader)
    backend._time_limit_s = 2
    if which.startswith("worker"):
        os.kill(worker, signal.SIGKILL)
    elif which == "part":
        # The last child that was forked is a runtime service or a process of Lava's.
        os.kill(find(leader, worker)[-1], signal.SIGKILL)
    else:
        os.killpg(leader, signal.SIGTERM)
    with pytest.raises(BackendFailedError) as caught:
        backend.decide(FRAME, 0)
    assert "\n" not in str(caught.value)
    assert_all_gone(leader, segments)


def test_a_stopped_lava_runs_into_the_time_limit():
    backend = playing_backend()
    leader = backend._guard.pid
    segments = shared_segments(session_members(leader))
    (worker,) = find(leader, leader)
    os.kill(worker, signal.SIGSTOP)
    backend._time_limit_s = 0.5
    with pytest.raises(BackendFailedError, match=r"no answer within 0\.5 s"):
        backend.decide(FRAME, 0)
    assert_all_gone(leader, segments)


def test_a_failure_while_building_is_one_line(monkeypatch):
    network = two_layers()
    broken = replace(network, connections=network.connections[1:])
    monkeypatch.setattr(lava_runner, "check_fits_lava", lambda *_, **__: None)
    backend = LavaBackend(broken, time_limit_s=120)
    leader = backend._guard.pid
    with pytest.raises(BackendFailedError, match="population 'hidden' has no input") as caught:
        backend.decide(FRAME, 0)
    assert "\n" not in str(caught.value)
    assert_all_gone(leader, set())


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_a_process_that_cannot_start_is_one_line(program, monkeypatch):
    network = two_layers()
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(BackendFailedError, match="lava: ") as caught:
        LavaBackend(network, time_limit_s=120).decide(FRAME, 0)
    assert "\n" not in str(caught.value)

"""A chip that says nothing at its start: the command connects first, and gives up in one line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.errors import BackendFailedError, BadRequestError
from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import client, server
from mtspark.sim.hil.host import HostedChip
from mtspark.sim.hil.idle import Idle
from mtspark.sim.hil.loop import Loop
from mtspark.workflows.hil import elsewhere
from mtspark.workflows.hil import sweep as sweep_workflow
from mtspark.workflows.hil.request import HilRequest
from tests.sim.hil.test_command import hil, play
from tests.sim.hil.test_process import KEY, processes_about, soon
from tests.support.hil_agent import order, pong_bundle

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")

LONG_S = 1000.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return pong_bundle(tmp_path_factory.mktemp("hil"))


@pytest.fixture
def no_game(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is priced before a chip has answered."""

    def priced(*_: Any, **__: Any) -> None:
        raise AssertionError("priced before the chip answered")

    monkeypatch.setattr(sweep_workflow, "waiting_game", priced)
    monkeypatch.setattr(sweep_workflow, "modelled_times", priced)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chip of our own is stopped as soon as it is started."""
    make = client.ChipProcess.__init__

    def started(self: client.ChipProcess, *arguments: Any) -> None:
        make(self, *arguments)
        os.kill(self.pid, signal.SIGSTOP)

    monkeypatch.setattr(client.ChipProcess, "__init__", started)


@contextmanager
def listening() -> Iterator[str]:
    """An address that takes connections, as the kernel does for a stopped chip, and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        yield f"tcp://127.0.0.1:{port.getsockname()[1]}"


@contextmanager
def closed() -> Iterator[str]:
    """An address at which nothing listens, and that nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("no_game", "stopped")
@pytest.mark.parametrize("prices", [(), ("--chip", "loihi2")])
def test_an_own_chip_that_is_stopped_is_one_line(
    bundle: Bundle, prices: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(bundle, *prices, "--silence-s", 0.2) == 2
    progress, line = capsys.readouterr().err.splitlines()
    assert progress.startswith("pong, waiting for the chip: ")
    assert re.fullmatch(
        r"error: the chip did not start: its process \d+ was stopped; start it again, or wait "
        r"longer with --silence-s N \(now 0\.2\)",
        line,
    )
    assert processes_about(str(bundle.folder)) == []


@pytest.mark.usefixtures("no_game")
@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        (listening, "what listens there is stopped (`kill -CONT` of its process lets it go on)"),
        (closed, "nothing listens there; serve a chip with `mtspark hil DIR --serve`"),
    ],
)
def test_a_served_chip_that_is_silent_is_one_line(
    bundle: Bundle, place: Any, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with place() as address:
        served = ("--connect", address, "--key", KEY, "--silence-s", 0.2)
        assert hil(bundle, "--task", "pong", *served) == 2
    progress, line = capsys.readouterr().err.splitlines()
    assert progress.startswith(f"pong, waiting for the chip at {address}: ")
    assert line.startswith(f"error: {address}: no answer from a chip within 0.2 s; {remedy}")
    assert line.endswith("or wait longer with --silence-s N (now 0.2)")


@pytest.mark.slow
def test_a_chip_that_is_stopped_before_its_greeting_is_given_up(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = client.ChipProcess.ready

    def stop(self: client.ChipProcess, *limits: float) -> bool:
        assert ready(self, 60.0, 60.0)
        os.kill(self.pid, signal.SIGSTOP)
        assert soon(lambda: self.stopped)
        return True

    monkeypatch.setattr(client.ChipProcess, "ready", stop)
    says = r"no answer from a chip within 0\.2 s: its process \d+ was stopped"
    with pytest.raises(BackendFailedError, match=says):
        HostedChip(bundle.network_hash, order=order(bundle), silence_s=0.2)


@pytest.mark.slow
def test_a_chip_that_dies_before_its_greeting_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = client.ChipProcess.ready

    def kill(self: client.ChipProcess, *limits: float) -> bool:
        assert ready(self, 60.0, 60.0)
        self._process.kill()
        self._process.wait()
        return True

    monkeypatch.setattr(client.ChipProcess, "ready", kill)
    with pytest.raises(BackendFailedError, match=r"\(no message\)"):
        HostedChip(bundle.network_hash, order=order(bundle), silence_s=60)


def test_a_process_that_computes_is_not_idle_and_one_that_is_stopped_is() -> None:
    """The clock is set back instead of waiting, so that a busy machine changes nothing."""
    with child("while True: pass") as process:
        idle = Idle(process.pid)
        idle.seconds()
        for _ in range(5):
            idle._since_s -= LONG_S
            assert idle.seconds() < LONG_S / 2
        process.send_signal(signal.SIGSTOP)
        assert soon(lambda: idle.stopped)
        idle.seconds()
        idle._since_s -= LONG_S
        assert idle.seconds() >= LONG_S
        idle.heard()
        assert idle.seconds() < LONG_S / 2


def test_a_process_that_waits_for_another_says_that_it_still_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one does that waits for Lava's: it computes nothing, and is not given up."""
    monkeypatch.setattr(server, "BEAT_S", 0.01)
    reading, writing = os.pipe()
    with os.fdopen(reading) as heard:
        beat = server._Beat(os.fdopen(writing, "w"))
        assert [heard.readline() for _ in range(2)] == ['{"starting": ""}\n'] * 2
        beat.end(ready="")
        beat.end(error="too late")
        lines = set(heard)
    assert lines - {'{"starting": ""}\n'} == {'{"ready": ""}\n'}


def test_without_proc_only_a_process_that_was_heard_can_be_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Idle, "_words", lambda _: [])
    idle = Idle(1)
    idle._since_s -= LONG_S
    assert idle.seconds() == 0
    idle.heard()
    idle._since_s -= LONG_S
    assert idle.seconds() >= LONG_S


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_to_be_silent_is_checked(wrong: float) -> None:
    with pytest.raises(BadRequestError, match="must be above 0 and at most 3,600"):
        HilRequest("pong", silence_s=wrong)


def test_workers_wait_as_long(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from mtspark.sim.hil import Setting

    setting = Setting(None, Loop())
    plain = elsewhere.point_job(HilRequest("pong"), setting, None)  # type: ignore[arg-type]
    assert "silence_s" not in plain.arguments
    asked = HilRequest("pong", silence_s=7)
    longer = elsewhere.point_job(asked, setting, None)  # type: ignore[arg-type]
    seen = []

    def points(_chips: Any, _bundle: Any, request: HilRequest, *_: Any) -> Iterator[Any]:
        seen.append(request.silence_s)
        raise BackendFailedError("seen")

    monkeypatch.setattr(elsewhere, "play_points", points)
    with pytest.raises(BackendFailedError, match="seen"):
        elsewhere.play_point(bundle.folder, **longer.arguments)
    assert seen == [7]

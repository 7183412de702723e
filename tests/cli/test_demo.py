"""The demo as a process of its own: it does the main job, and killed it leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtspark.deploy.lava.shim import installed_lava
from tests.support.leftovers import left_behind, names

pytestmark = [
    pytest.mark.third_party,
    pytest.mark.skipif(
        installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
    ),
]


PATIENCE_S = 1800


def start(checkpoint: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    # Started in the background of a script, the tests ignore Ctrl-C, and so would their children.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGTERM, signal.SIG_DFL); "
        "from mtspark.cli.main import main; main()"
    )
    arguments = ["demo", str(checkpoint), "-o", str(output), *options]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes() -> dict[int, tuple[int, int]]:
    """Living processes: id to (parent, session)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(folder.name)] = (int(fields[1]), int(fields[3]))
    return found


def lava_of(demo: int) -> set[int]:
    """Everything in the sessions that children of the demo lead: the guard and all of Lava."""
    alive = processes()
    leaders = {pid for pid, (parent, session) in alive.items() if parent == demo and session == pid}
    return {pid for pid, (_, session) in alive.items() if session in leaders}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_killed_demo_leaves_no_process_and_no_shared_memory(
    number: signal.Signals, checkpoint: Path, tmp_path: Path
) -> None:
    before = names()
    demo = start(checkpoint, tmp_path / "out", "--lava-decisions", "3000")
    try:
        # It plays before it begins with Lava: minutes, on a busy machine.
        deadline = time.monotonic() + PATIENCE_S
        lava: set[int] = set()
        # A guard, a worker and Lava's own processes: one for each part of the network.
        while len(lava) < 8 and time.monotonic() < deadline and demo.poll() is None:
            time.sleep(0.05)
            lava = lava_of(demo.pid)
        if len(lava) < 8:
            demo.kill()
            pytest.fail(f"{len(lava)} processes of Lava: {demo.communicate()}")
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=PATIENCE_S)
    finally:
        demo.kill()
    if number is signal.SIGINT:
        assert demo.returncode == 130
        assert errors.strip().splitlines()[-1] == "interrupted"
    else:
        assert demo.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 60
    left = lava
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = lava & set(processes())
    assert not left
    assert left_behind(before) == set()


@pytest.mark.slow
def test_the_demo_does_the_main_job(checkpoint: Path, tmp_path: Path) -> None:
    demo = start(checkpoint, tmp_path / "out", "--lava-decisions", "4", "--stock-decisions", "1")
    try:
        output, errors = demo.communicate(timeout=PATIENCE_S)
    finally:
        demo.kill()
    assert demo.returncode == 0, errors
    assert " ".join(output.split()).count("spikes and membranes are equal") == 3
    (run,) = (tmp_path / "out" / "tiny.deploy" / "runs").glob("*.json")
    assert json.loads(run.read_text())["episodes"][0]["finished"]
    assert (tmp_path / "out" / "pong.gif").read_bytes()[:6] == b"GIF89a"
    assert (tmp_path / "out" / "pong.png").read_bytes()[:4] == b"\x89PNG"

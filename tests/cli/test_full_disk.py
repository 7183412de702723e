"""Disks and temporary folders that are full."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests.support.full_disk import NO_MOUNT


@pytest.mark.slow
def test_an_export_needs_no_temporary_folder(
    checkpoint: Path,
    call: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")

    for name in ("mkdtemp", "mkstemp"):
        monkeypatch.setattr(tempfile, name, full)
    folder = tmp_path / "a.deploy"
    assert call("export", checkpoint, "-o", folder, "--formats", "nir,onnx") == 0
    assert call("export", folder / "graph.pong.nir", "-o", tmp_path / "b.deploy") == 0


def test_no_temporary_folder_at_all_is_one_line(
    played: Path,
    call: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What Python's tempfile raises where every folder that it tries is full."""

    def none(*_: Any, **__: Any) -> NoReturn:
        raise FileNotFoundError(
            errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"
        )

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    capsys.readouterr()
    assert call("diff", played, "--against", "onnx", "--decisions", 1) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no usable temporary directory found" in line
    assert "TMPDIR" in line


SCRIPT = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 99
head -c 65536 /dev/zero > "$1/fill" 2>/dev/null
TMPDIR="$1" "$2" -m mtspark.cli export "$3" -o "$4" --formats nir,onnx >/dev/null || exit 1
rm "$1/fill"
"$2" -m mtspark.cli export "$3" -o "$1/a.deploy" && exit 3
ls -A "$1" > "$5"
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
def test_an_export_to_a_full_disk_is_one_line_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path
) -> None:
    """A real disk of 64 kB: full as the temporary folder, then too small for the bundle."""
    disk, left = tmp_path / "disk", tmp_path / "left.txt"
    disk.mkdir()
    command = "-c 'from mtspark.cli.main import main; main()'"
    script = SCRIPT.replace("-m mtspark.cli", command)
    names = map(str, (disk, sys.executable, checkpoint, tmp_path / "b.deploy", left))
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.deploy" / "manifest.json").is_file()
    assert done.stderr.splitlines()[-1].startswith(f"error: {disk}/a.deploy: cannot be written")
    assert "no space left on device" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert left.read_text() == ""


CUT = ("--max-decisions", 3)
ROOT = Path(__file__).parents[2]
CARTPOLE = ROOT / "examples" / "agents" / "cartpole"
MODULE = """
import snntorch as snn
import torch
from torch import nn

def make():
    options = {"beta": 0.5, "reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
    net = nn.Sequential(nn.Linear(2, 2, bias=False), snn.Leaky(**options))
    with torch.no_grad():
        net[0].weight[:] = 2 * torch.eye(2)
    return net
"""
FILES = ("old.json", "old.png", "old.gif", "old.npz", "old.html")
OLD = "{}"
"""What they hold: a result, too, as --json replaces no other file."""

CASES: dict[str, tuple[object, ...]] = {
    # {d} is the disk, {w} what lies elsewhere.
    "run json": ("run", "{w}/cart.deploy", *CUT, "--json", "{d}/old.json"),
    "run video": ("run", "{w}/cart.deploy", *CUT, "--video", "{d}/old.gif"),
    "run archive": ("run", "{w}/plain.deploy", "--input", "{w}/x.npy", "-o", "{d}/old.npz"),
    "run record": ("run", "{d}/cart.deploy", *CUT),
    "eval json": ("eval", "{w}/cart.deploy", *CUT, "--episodes", 2, "--json", "{d}/old.json"),
    "explain json": ("explain", "{w}/cart.deploy", "--decisions", 3, "--json", "{d}/old.json"),
    "hil json": (
        *("hil", "{w}/cart.deploy", *CUT, "--backend", "reference", "--json", "{d}/old.json"),
    ),
    "hil picture": (
        *("hil", "{w}/cart.deploy", *CUT, "--backend", "reference"),
        *("--latency-sweep", "0,50", "--picture", "{d}/old.png"),
    ),
    "map picture": ("map", "{w}/cart.deploy", "-o", "{d}/old.png"),
    "map json": ("map", "{w}/cart.deploy", "--json", "{d}/old.json"),
    "report page": (
        *("report", "{w}/cart.deploy", *CUT, "-o", "{d}/old.html", "--card", "loihi2_pilotnet"),
    ),
    "report pair": ("report", "{w}/cart.deploy", "{w}/other.deploy", "-o", "{d}/old.html"),
    "report json": ("report", "{w}/cart.deploy", "--json", "{d}/old.json"),
    "diff json": (
        *("diff", "{w}/cart.deploy", "--against", "reference", "--decisions", 3),
        *("--json", "{d}/old.json"),
    ),
    "export force": ("export", CARTPOLE / "cartpole.pt", "-o", "{d}/cart.deploy", "--force"),
    "plasticity": (
        *("plasticity", CARTPOLE / "cartpole.pt", "--decisions", 8, "--json", "{d}/old.json"),
    ),
    "train": ("train", "cartpole", "-o", "{d}/run", "--steps", 4096),
    "agents push": (
        *("agents", "push", CARTPOLE, "file://{d}/zoo", "--games", 0, "--name", "cart"),
    ),
    "agents pull": ("agents", "pull", "cart", "file://{w}/zoo", "-o", "{d}/cart"),
    "record": ("record", CARTPOLE / "cartpole.pt", "-o", "{d}/data", *CUT, "--episodes", 2),
    "record json": (
        *("record", CARTPOLE / "cartpole.pt", "-o", "{w}/data", *CUT, "--episodes", 2),
        *("--json", "{d}/old.json"),
    ),
    "watch json": ("watch", "{w}/cart.deploy", "--no-browser", "--json", "{d}/old.json"),
    "agents list": ("agents", "list", "--json", "{d}/old.json"),
}
SEEN = ("run json", "run record", "plasticity", "hil picture", "diff json", "map json")
"""What was found is printed before it is written."""


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory, call: Callable[..., int]
) -> dict[str, dict[str, Any]]:
    """What each command did on a disk that was filled to the last page."""
    place = tmp_path_factory.mktemp("full")
    disk, work = place / "disk", place / "work"
    disk.mkdir()
    work.mkdir()
    (work / "net.py").write_text(MODULE)
    np.save(work / "x.npy", np.repeat(np.eye(2, dtype=np.float32)[:, None], 4, 1))
    np.save(work / "y.npy", np.array([0, 1]))
    assert call("export", CARTPOLE / "cartpole.pt", "-o", work / "cart.deploy") == 0
    assert call("run", work / "cart.deploy", *CUT) == 0
    shutil.copytree(work / "cart.deploy", work / "other.deploy")
    shape = ("--input-shape", 2, "--time-steps", 4)
    assert call("export", f"{work}/net.py:make", "-o", work / "plain.deploy", *shape) == 0
    push = ("agents", "push", CARTPOLE, f"file://{work}/zoo")
    assert call(*push, "--games", 0, "--name", "cart") == 0

    def words(arguments: tuple[object, ...]) -> list[str]:
        return [str(word).format(d=disk, w=work) for word in arguments]

    before = {
        "texts": dict.fromkeys(FILES, OLD),
        "copied": {name: str(work / name) for name in ("cart.deploy", "plain.deploy")},
    }
    cases: dict[str, Any] = {name: {**before, "words": words(case)} for name, case in CASES.items()}
    # Enough room to be taken for a folder of temporary files, and too little for an agent.
    temporary = {"variables": {"TMPDIR": str(disk)}, "room": 4096}
    work_of_others = ("eval", "{w}/cart.deploy", *CUT, "--episodes", 2, "--executor", "processes:1")
    cases["executor"] = {**before, **temporary, "words": words(work_of_others)}
    cases["record more"] = {
        **before,
        # Room for the metadata, and not for the episodes.
        "room": 2**18,
        "words": words(CASES["record"]),
    }
    data = ("--data", "{w}/x.npy", "--labels", "{w}/y.npy")
    cases["eval record"] = {**before, "words": words(("eval", "{d}/plain.deploy", *data))}
    # There is room for a checkpoint, and not for the log and TensorBoard's file beside it.
    often = ("--set", "checkpoint_every_steps=1024")
    cases["train log"] = {"words": words((*CASES["train"], *often)), "room": 40 * 1024}
    cases["train again"] = {
        "first": [words(("train", "cartpole", "-o", "{d}/run", "--steps", 2048))],
        "words": words(("train", "cartpole", "-o", "{d}/run", "--steps", 8192)),
    }
    order, answer = place / "order.json", place / "answer.json"
    order.write_text(json.dumps({"disk": str(disk), "size": "4m", "cases": cases}))
    module = (sys.executable, "-m", "tests.support.full_disk", str(order), str(answer))
    done = subprocess.run(
        ["unshare", "-rm", *module], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode == NO_MOUNT or done.stderr.startswith("unshare"):
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(answer.read_text())
    return found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
@pytest.mark.parametrize("name", [*CASES, "train again", "record more", "executor"])
def test_a_command_on_a_full_disk_is_one_line_and_what_was_there_is_whole(
    name: str, answers: dict[str, dict[str, Any]]
) -> None:
    answer = answers[name]
    lines = answer["err"].splitlines()
    assert answer["code"] == 2, answer["err"]
    assert [line for line in lines if "Traceback" in line] == []
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "/disk/" in lines[-1]
    assert re.search(r"[\d.]+ kB (are )?free", lines[-1])
    assert answer["after"] == answer["before"]
    if name == "executor":
        assert lines[-1].endswith("; name a folder with room for temporary files in TMPDIR")
    elif name not in ("train", "run record", "record more"):
        assert "no space left on device" in lines[-1]
        assert re.search(
            r"; (the (file|folder) of before is unchanged|no part of it is)", lines[-1]
        )
    if name in SEEN:
        assert " µJ" in answer["out"] or "dormant" in answer["out"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
def test_an_evaluation_that_cannot_be_kept_is_printed(answers: dict[str, dict[str, Any]]) -> None:
    answer = answers["eval record"]
    assert answer["code"] == 0
    assert answer["out"].startswith("The chip names 100.0% of 2 samples of x.npy rightly")
    assert re.search(
        r"keeps no record of this evaluation: .*/disk/plain.deploy/runs/default.data.npz "
        r"\(no space left on device, [\d.]+ kB free\)$",
        answer["err"].strip(),
    )
    assert answer["after"] == answer["before"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
def test_a_training_that_fills_the_disk_says_what_is_safe(
    answers: dict[str, dict[str, Any]],
) -> None:
    answer = answers["train log"]
    assert answer["code"] == 2
    (line,) = [one for one in answer["err"].splitlines() if one.startswith("error: ")]
    assert re.search(
        r"/disk/run: cannot be written \(no space left on device, [\d.]+ kB free\); (resume.pt is "
        r"as before; free some space, and the same command goes on from|nothing was saved yet; "
        r"free some space and run the same command again)",
        line,
    )
    assert not any(name.endswith(".tmp") for name in answer["after"])

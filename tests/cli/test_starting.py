"""What cannot work is refused before large libraries are imported; what can says that it begins.

Imported modules are asserted, no wall clock: a busy machine takes any time it likes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("torch", "numba", "snntorch", "onnxruntime", "sklearn", "matplotlib", "ale_py", "lava")
HEAVY += ("starlette", "uvicorn")
"""Each takes a large part of a second, or several, to import."""

CALLS = f"""
import json, os, sys, time
import numpy, pydantic, mtspark.core.files, mtspark.deploy.bundle, mtspark.workflows.export
from mtspark.cli import _progress, main as cli
only_first, calls = json.load(sys.stdin)

def finish(*result):
    with open("result.json", "w") as file:
        json.dump(result, file)
    os._exit(0)

def large():
    return [name for name in {HEAVY!r} if name in sys.modules]

def first(lines, report):
    finish(report.done, large(), report.stage)

def run(words):
    sys.argv = ["mtspark", *words]
    os.dup2(os.open("stderr", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
    os.dup2(os.open("stdout", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
    if only_first:
        _progress._Lines.__call__ = first
    code, before = None, time.process_time()
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    sys.stderr.flush()
    finish(code, large(), open("stderr").read(), time.process_time() - before)

assert not large()
for words in calls:
    child = os.fork()
    if child == 0:
        run(words)
    assert os.waitpid(child, 0)[1] == 0, words
    print(open("result.json").read(), flush=True)
"""
"""Runs commands, each in a fork of a process that has imported small libraries alone. Of each it
tells exit code, large libraries, stderr and processor time; or what its first report of progress
says, what had been imported by then, and no more."""

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"

REFUSED: dict[str, str] = {
    "export missing.pt": "no such file; give the path of a checkpoint",
    "export text.pt": "no zip archive",
    "export empty.pt": "an empty file",
    "export pointer.pt": "a Git LFS pointer",
    "export graph.pt": "an HDF5 file",
    "export pointer.nir": "a Git LFS pointer",
    "export pointer.net": "a Git LFS pointer",
    "export missing.nir": "no such file",
    "export text.nir": "no HDF5 file",
    "export text.net": "no HDF5 file",
    "export agent.onnx": "folders and ONNX graphs are what an export makes",
    "export missing.py:make --input-shape 2": "no such file; give file.py:factory",
    "export net.py": "name the function",
    "export net.py:make": "give some of its inputs, --input x.npy, or the shape of one step's",
    "export net.py:make --input-shape 2,x": "numbers with commas",
    "export net.py:make --input-shape 2 --input no.npy": "no such file; give a .npy file",
    "export net.py:make --input-shape 2 --weights no.pt": "no such file",
    "export net.py:make --input-shape 2 --weights text.pt": "no zip archive",
    "export agent.pt -o taken": "no mtspark bundle; choose another folder",
    "export agent.pt -o bundle": "--force",
    "export agent.pt --weight-bits 9": "2 to 8",
    "eval missing": "no such file; expected a bundle's manifest",
    "eval missing.pt": "no such file; give the path of a checkpoint",
    "eval text.pt": "no zip archive",
    "eval pointer.pt": "a Git LFS pointer",
    "eval bundle --task chess": "unknown task 'chess'",
    "eval bundle --into text.pt": "no zip archive",
    "explain missing": "no such file; expected a bundle's manifest",
    "explain bundle --task chess": "unknown task 'chess'",
    "explain bundle --weight-bits 99": "numbers from 2 to 8",
    "run missing": "no such file",
    "run bundle --task chess": "unknown task 'chess'",
    "run bundle --input no.npy": "no such file",
    "hil bundle --task chess": "unknown task 'chess'",
    "hil bundle --task pong --chip loihi9": "'loihi9' is unknown",
    "map bundle --task chess": "unknown task 'chess'",
    "map bundle -o picture.txt": "pictures end in",
    "report bundle -o page.txt": "a page ends in .html",
    "report bundle -o page.html --task chess": "unknown task 'chess'",
    "report bundle -o page.html --card nope": "price card 'nope' does not exist",
    "diff bundle --against nothing": "neither a backend",
    "validate missing": "no such file",
}
FIFTH = list(REFUSED)[::5]


def commands(folder: Path, calls: list[list[str]], *, only_first: bool = False) -> list[list[Any]]:
    """Run commands in a folder; see :data:`CALLS`."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        input=json.dumps([only_first, calls]),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "300"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def folder(checkpoint: Path, played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starting")
    shutil.copyfile(checkpoint, folder / "agent.pt")
    shutil.copytree(played, folder / "bundle")
    for name in ("text.pt", "text.nir", "text.net"):
        (folder / name).write_text("hello, this is a text of some length\n")
    for name in ("pointer.pt", "pointer.nir", "pointer.net"):
        (folder / name).write_bytes(LFS)
    (folder / "empty.pt").touch()
    (folder / "graph.pt").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "net.py").write_text("import torch\n\ndef make():\n    return torch.nn.ReLU()\n")
    (folder / "taken").mkdir()
    (folder / "taken" / "letter.txt").touch()
    return folder


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(FIFTH, id="each-fifth"),
        pytest.param(
            [line for line in REFUSED if line not in FIFTH], id="others", marks=pytest.mark.slow
        ),
    ],
)
def test_what_cannot_work_is_refused_before_large_imports(folder: Path, lines: list[str]) -> None:
    before = {path.name for path in folder.iterdir()}
    found = commands(folder, [line.split() for line in lines])
    for line, (code, loaded, error, spent) in zip(lines, found, strict=True):
        says = REFUSED[line]
        assert code == 2, (line, error)
        assert says in error, line
        assert len(error.splitlines()) == 1, (line, error)
        assert loaded == [], (line, loaded)
        # Of this process, whatever others do: far below the second that is promised.
        assert spent < 1.0, (line, spent)
    left = {path.name for path in folder.iterdir()}
    # The last are those of the helper.
    assert left - before <= {"result.json", "stderr", "stdout"}
    assert before <= left


BEGINS = (
    "export agent.pt -o new",
    "eval agent.pt --episodes 2",
    "eval bundle --episodes 2 --into agent.pt",
    "explain bundle --decisions 2",
    "run bundle --task pong --max-decisions 1",
    "report bundle -o page.html --task pong",
    "map bundle --task pong --decisions 1",
    "hil bundle --task pong --chip loihi2 --max-decisions 1",
    "doctor --json",
)


def test_a_command_says_what_begins_before_large_imports(folder: Path) -> None:
    found = commands(folder, [line.split() for line in BEGINS], only_first=True)
    for line, (done, loaded, stage, *more) in zip(BEGINS, found, strict=True):
        # A result of four: the command has ended without a report.
        assert more == [], (line, stage)
        assert stage, line
        assert done == 0, line
        assert loaded == [], (line, loaded)


START = "from mtspark.cli.main import main; main()"


def test_a_command_is_refused_in_less_than_a_second_of_processor_time(folder: Path) -> None:
    """The whole process, from its start: what a user waits for on an idle machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", START, "export", "text.pt"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: text.pt: ")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.errors import BackendFailedError
from mtspark.core.process import (
    ANY_LINE,
    NAMES_AN_ERROR,
    PIP_ERROR,
    PYTHON_ERROR,
    THREAD_VARIABLES,
    finished,
    foreign_environment,
    give_back_memory,
    install_packages,
    last_words,
    one_thread_each,
    output_of,
    own_environment,
    own_module,
)

TRACEBACK = """INFO: starting
Traceback (most recent call last):
  File "x.py", line 1, in <module>
ValueError: too large
Exception ignored in: nothing
  at the end
"""
PIP = "WARNING: x\nERROR: Could not find a version\nERROR: No matching distribution\n\nnote"


@pytest.mark.parametrize(
    ("text", "kinds", "words"),
    [
        (TRACEBACK, (), "at the end"),
        (TRACEBACK, (PYTHON_ERROR,), "Exception ignored in: nothing"),
        (TRACEBACK, (NAMES_AN_ERROR, ANY_LINE), "ValueError: too large"),
        ("one\ntwo\n\n", (NAMES_AN_ERROR, ANY_LINE), "two"),
        ("one\ntwo", (PYTHON_ERROR,), "no message"),
        ("a.b.OddError: x\nnote", (PYTHON_ERROR,), "a.b.OddError: x"),
        (PIP, (PIP_ERROR, ANY_LINE), "ERROR: No matching distribution"),
        ("", (), "no message"),
        (" \n\t\n", (), "no message"),
    ],
)
def test_the_telling_line_is_taken(text: str, kinds: tuple[Any, ...], words: str) -> None:
    assert last_words(text, *kinds) == words


def test_a_child_of_ours_has_our_packages_and_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    packages, here = tmp_path / "packages", tmp_path / "here"
    packages.mkdir()
    here.mkdir()
    (packages / "shows.py").write_text(
        "import json, os, sys, mtspark.core\n"
        f"print(json.dumps([*(os.environ[name] for name in {THREAD_VARIABLES}), *sys.argv[1:]]))\n"
    )
    monkeypatch.syspath_prepend(packages)
    # What lies in the folder of the child is not taken for a package of ours, nor for Python's.
    for name in ("mtspark", "json", "runpy"):
        (here / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(here)
    text = output_of(own_module("shows", "a b"), "a child", 60, environment=own_environment())
    assert json.loads(text) == ["1", "1", "1", "a b"]
    assert own_environment()["PYTHONHASHSEED"] == "5"


def test_another_python_gets_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("OTHER", "1")
    variables = foreign_environment()
    assert not any(name.startswith("PYTHON") for name in variables)
    assert variables["OTHER"] == "1"
    assert set(variables) <= set(os.environ)


def test_the_users_number_of_threads_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    one_thread_each()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ["MKL_NUM_THREADS"] == "1"


def test_what_goes_wrong_is_one_line() -> None:
    fail = [sys.executable, "-c", "import sys; print('a\\nERROR: b', file=sys.stderr); sys.exit(3)"]
    assert finished(fail, "work", 60).returncode == 3
    wait = [sys.executable, "-c", "import time; time.sleep(60)"]
    for command, limit, text in (
        (fail, 60, "work failed: b"),
        (wait, 0.2, "work did not finish within 0 s; wait longer"),
        (["/nowhere/at/all"], 60, "work: [Errno 2] No such file or directory: '/nowhere/at/all'"),
    ):
        with pytest.raises(BackendFailedError) as caught:
            output_of(command, "work", limit, remedy="wait longer")
        assert str(caught.value) == text


def test_pip_keeps_what_it_must_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        pins = Path(command[command.index("--constraint") + 1]).read_text()
        asked.append((command, pins))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    install_packages("python3", ["a>=1"], "work", 9, options=["--pre"], keep=["b==2", "c==3"])
    ((command, pins),) = asked
    assert command[:4] == ["python3", "-m", "pip", "install"]
    assert command[-2:] == ["--pre", "a>=1"]
    assert pins == "b==2\nc==3\n"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_freed_memory_goes_back_to_the_system() -> None:
    """glibc keeps what lies below something that is still used."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        pytest.skip("another allocator gives memory back by itself")
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    size, count = 64 * 1024, 512
    blocks = [library.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    # The last one stays, so that the others are not at the end of the heap.
    for block in blocks[:-1]:
        library.free(block)
    before = resident_bytes()
    assert give_back_memory()
    assert before - resident_bytes() > size * count // 2
    library.free(blocks[-1])


def test_a_system_without_that_allocator_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (AttributeError, OSError, TypeError):

        def load(_: object, error: type[Exception] = error) -> object:
            raise error("no such library")

        monkeypatch.setattr(ctypes, "CDLL", load)
        assert not give_back_memory()

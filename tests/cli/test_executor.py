"""An executor that cannot be, or not beside another option, is one line before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mtspark.core.executor import address

COMMANDS = {"run": ("--task", "pong"), "eval": (), "hil": ("--task", "pong")}
OPTIONS = ("--input", "--video", "--serve", "--data")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_executor_that_cannot_be_is_one_line(
    command: str,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address, "find_spec", lambda _: None)
    said = {
        "threads": "processes, processes:N, ray",
        "processes:0": "1 to 1024 workers",
        "ray://head:10001": 'Ray is not installed; pip install "mtspark[ray]"',
        "slurm": 'submitit is not installed; pip install "mtspark[slurm]"',
    }
    for executor, words in said.items():
        assert call(command, "no.deploy", *COMMANDS[command], "--executor", executor) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert words in " ".join(told.err.split())
        assert told.err.startswith(("error: --executor", "--executor"))


@pytest.mark.parametrize(
    "given",
    [
        ("run", "--input", "x.npy"),
        ("run", "--task", "pong", "--video", "x.gif"),
        ("hil", "--serve", "tcp://127.0.0.1:0"),
        ("eval", "--data", "x.npy", "--labels", "y.npy"),
    ],
    ids=lambda given: given[-2],
)
def test_what_no_worker_does_is_refused(
    given: tuple[str, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *options = given
    assert call(command, "no.deploy", *options, "--executor", "processes:2") == 2
    error = capsys.readouterr().err
    assert error.count("\n") <= 3
    option = next(word for word in options if word in OPTIONS)
    assert f"play games, and {option}" in " ".join(error.split())
    assert list(tmp_path.iterdir()) == []

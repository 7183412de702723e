"""Callbacks are called in order, whatever happens in a run, and progress reaches the caller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.progress import Progress
from mtspark.train.config.games import TrainConfig
from mtspark.train.runs.callbacks import (
    LogFile,
    ProgressReports,
    Run,
    RunCallback,
    Update,
    running,
)

UPDATE = Update({"steps": 8}, {"loss": 1.0}, "pong 3")


class Named(RunCallback):
    """Records its calls in a common list."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def on_start(self, run: Run) -> None:
        self.calls.append(f"{self.name} starts")

    def on_end(self, run: Run) -> None:
        self.calls.append(f"{self.name} ends")

    def on_checkpoint(self, run: Run) -> None:
        self.calls.append(f"{self.name} saves at {run.reached}")

    def close(self) -> None:
        self.calls.append(f"{self.name} closes")


class Idle:
    """A trainer that is not asked for anything."""

    config = TrainConfig()

    def agent(self) -> Any:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        raise NotImplementedError


def run_in(folder: Path, reached: int = 0) -> Run:
    return Run(folder, Idle(), "a format", "decisions", 16, reached)


def test_callbacks_take_turns(tmp_path: Path) -> None:
    calls: list[str] = []
    run = run_in(tmp_path)
    with running(run, [Named("one", calls), Named("two", calls)]) as notify:
        run.reached = 8
        notify.on_checkpoint(run)
    assert calls == [
        *("one starts", "two starts", "one saves at 8", "two saves at 8"),
        *("one ends", "two ends", "one closes", "two closes"),
    ]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_run_that_fails_closes_its_callbacks_and_does_not_end(
    error: BaseException, tmp_path: Path
) -> None:
    calls: list[str] = []
    with pytest.raises(type(error)), running(run_in(tmp_path), [Named("one", calls)]):
        raise error
    assert calls == ["one starts", "one closes"]


@pytest.mark.parametrize(
    ("saved", "place"),
    [
        (None, "the start, without a checkpoint"),
        (1600, "decision 1,600"),
        (0.25, r"decision 0\.25"),
    ],
)
def test_ctrl_c_says_where_the_run_resumes(saved: float | None, place: str, tmp_path: Path) -> None:
    run = run_in(tmp_path)
    run.saved = saved
    with pytest.raises(KeyboardInterrupt, match=f"goes on from {place}"), running(run, []):
        raise KeyboardInterrupt


def test_progress_starts_where_the_run_resumes_and_keeps_the_last_scores(tmp_path: Path) -> None:
    reports: list[Progress] = []
    run = run_in(tmp_path, 4)
    with running(run, [ProgressReports(reports.append, "training")]) as notify:
        run.reached = 8
        notify.on_update(run, UPDATE)
        notify.on_part(run, 10.5)
    assert reports == [
        Progress("training", 4, 16, "decisions"),
        Progress("training", 8, 16, "decisions", "pong 3"),
        Progress("training", 10.5, 16, "decisions", "pong 3"),
    ]


def test_the_log_of_a_resumed_run_grows(tmp_path: Path) -> None:
    for _ in range(2):
        run = run_in(tmp_path)
        with running(run, [LogFile()]) as notify:
            notify.on_update(run, UPDATE)
            # On disk at once, for whoever follows the run.
            last = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
            assert json.loads(last) == {"steps": 8}
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2

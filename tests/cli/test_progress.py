"""The progress bar, and its counts of episodes that are played side by side."""

from __future__ import annotations

import numpy as np
import pytest
from rich.progress import Progress as RichProgress

from mtspark.cli import _progress
from mtspark.core.backend import Activity, Decision, Moment
from mtspark.core.progress import Progress
from mtspark.workflows.run.progress import episode_reports


@pytest.mark.parametrize("ended", [0, 2])
def test_a_game_that_ended_counts_also_where_it_was_the_last(
    ended: int,
) -> None:
    reports: list[Progress] = []
    observe = episode_reports(reports.append, "pong on engine", 3)
    for running in ([0, 1, 2], [i for i in range(3) if i != ended], [1]):
        points = np.zeros(len(running))
        decision = Decision(points, Activity({}, {}))
        frames = points.astype(np.uint8)
        observe(Moment(frames, np.array(running), np.array(running), points, decision))
    assert [report.done for report in reports] == [0, 0, 1, 2]
    assert {(report.stage, report.total, report.unit) for report in reports} == {
        ("pong on engine", 3, "episodes")
    }


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_plain_line_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with _progress.progress_bar() as progress:
        for second in range(25):
            clock[0] = 100.0 + second
            progress(Progress("po[/red]ng\n", second, 24, "episodes", f"points {second}"))
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "po[/red]ng\\n: 0/24 episodes, points 0, 0 s",
        "po[/red]ng\\n: 10/24 episodes, points 10, 10 s",
        "po[/red]ng\\n: 20/24 episodes, points 20, 20 s",
        "po[/red]ng\\n: 24/24 episodes, points 24, 24 s",
    ]


def test_work_without_reports_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with _progress.progress_bar():
        pass
    assert capsys.readouterr() == ("", "")


def test_the_end_of_a_stage_is_shown(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with _progress.progress_bar() as progress:
        progress(Progress("one", 0, None, "samples"))
        progress(Progress("one", 1500, None, "samples"))
        progress(Progress("two", 0, 2, "samples"))
    assert capsys.readouterr().err.splitlines() == [
        "one: 0 s",
        "one: 1,500 samples, 0 s",
        "two: 0/2 samples, 0 s",
    ]


def test_a_terminal_gets_a_bar_ten_times_a_second(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, str]] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        RichProgress, "update", lambda *_, completed, count, **__: drawn.append((completed, count))
    )
    monkeypatch.setattr(RichProgress, "start", lambda *_: None)
    with _progress.progress_bar() as progress:
        for tick in range(101):
            clock[0] = 100.0 + tick / 100
            progress(Progress("po[/red]ng", tick, 100, "episodes"))
    assert 10 <= len(drawn) <= 12
    assert drawn[0] == (0, "0/100 episodes")
    assert drawn[-1] == (100, "100/100 episodes")

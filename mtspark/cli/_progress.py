"""The one progress bar, on stderr; where that is no terminal, a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from mtspark.cli._console import printable
from mtspark.core.progress import Progress, ProgressCallback, no_progress

BAR_S = 0.1
"""Least time between two drawings of the bar; a fast simulation reports far more often."""
LINE_S = 10.0
"""Least time between two plain lines."""


class _Display(Protocol):
    def __call__(self, report: Progress) -> None: ...

    def end(self) -> None: ...


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Show the progress of the work in the block; yields the callback to hand to it.

    A terminal gets one bar with the stage, how much is done, the detail and the time; it
    disappears at the end. Anything else gets a plain line at the start of each stage, then at
    most one in ten seconds, and one at the end. Nothing goes to stdout.
    """
    display: _Display = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        yield display
    finally:
        display.end()


def as_one_stage(progress: ProgressCallback, stage: str, library: str) -> ProgressCallback:
    """Show all stages of some work as one, so that a file gets a line now and then, not each.

    Args:
        progress: shows the reports.
        stage: what the whole work is; what its stages are called becomes the detail.
        library: where this is loaded already, the work is short and nothing is shown.
    """
    if library in sys.modules:
        return no_progress

    def report(part: Progress) -> None:
        progress(replace(part, stage=stage, detail=part.stage))

    return report


class _Bar:
    """A bar of rich, begun with the first report."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True, markup=False, emoji=False),
            transient=True,
            # Output that goes to a file or a pipe must not turn up on the terminal instead.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._entry = self._rich.add_task("", total=None, count="", detail="")
        self._stage: str | None = None
        self._drawn = 0.0

    def __call__(self, report: Progress) -> None:
        fresh = report.stage != self._stage
        now = time.monotonic()
        if not fresh and now - self._drawn < BAR_S and report.done != report.total:
            return
        if self._stage is None:
            self._rich.start()
        if fresh:
            self._rich.reset(self._entry, description=printable(report.stage))
        self._stage, self._drawn = report.stage, now
        self._rich.update(
            self._entry,
            completed=report.done,
            total=report.total,
            count=_count(report),
            detail=printable(report.detail),
        )

    def end(self) -> None:
        if self._stage is not None:
            self._rich.stop()


class _Lines:
    """Plain lines on stderr."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._written = 0.0
        self._last: Progress | None = None
        self._pending = False

    def __call__(self, report: Progress) -> None:
        fresh = self._last is None or report.stage != self._last.stage
        if fresh and self._pending:
            self._write()
        self._last = report
        self._pending = True
        if fresh or time.monotonic() - self._written >= LINE_S:
            self._write()

    def end(self) -> None:
        if self._pending:
            self._write()

    def _write(self) -> None:
        assert self._last is not None
        self._written, self._pending = time.monotonic(), False
        facts = [text for text in (_count(self._last), self._last.detail) if text]
        seconds = f"{self._written - self._begun:.0f} s"
        # A name may hold line breaks or terminal codes: the line shows them, escaped.
        line = f"{self._last.stage}: {', '.join([*facts, seconds])}"
        print(printable(line).replace("\n", "\\n"), file=sys.stderr)


def _count(report: Progress) -> str:
    if report.total is None:
        return f"{report.done:,.0f} {report.unit}" if report.done else ""
    done, total = (f"{value:,.0f}" for value in (report.done, report.total))
    return f"{done}/{total} {report.unit}"

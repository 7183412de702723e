"""How far long work has come, told to a callback; library code draws no bars and prints nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One report of long work.

    Attributes:
        stage: what is being done, as a phrase: ``comparing with Lava``.
        done: units done so far.
        total: units in all; None where nobody knows.
        unit: what is counted, in the plural: ``decisions``, ``episodes``, ``samples``.
        detail: what else is worth showing, in a few words.
    """

    stage: str
    done: float
    total: float | None
    unit: str
    detail: str = ""


ProgressCallback = Callable[[Progress], None]
"""Called often; it must be cheap and must not raise. A first call with `done` 0 comes within half
a second of the start of work that takes longer."""


def begin(progress: ProgressCallback, stage: str, library: str) -> None:
    """Say what begins, before a library is imported that takes seconds to load.

    Args:
        progress: called, where the library has not been loaded yet.
        stage: what is being done.
        library: that comes next.
    """
    if library not in sys.modules:
        progress(Progress(stage, 0, None, "steps"))


def no_progress(report: Progress) -> None:
    """The callback that shows nothing."""

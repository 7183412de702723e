"""Progress of games that are played side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mtspark.core.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from mtspark.core.backend import Moment


def episode_reports(
    progress: ProgressCallback, stage: str, episodes: int
) -> Callable[[Moment], None]:
    """Return an observer of the agent loop that reports episodes, decisions and points.

    Args:
        progress: called at once, and at every decision.
        stage: what is being done, for example ``pong on engine``.
        episodes: how many are played in all.
    """
    decisions, score, begun = 0, 0.0, 0
    progress(Progress(stage, 0, episodes, "episodes"))

    def observe(moment: Moment) -> None:
        nonlocal decisions, score, begun
        decisions += len(moment.episodes)
        score += float(moment.rewards.sum())
        # The last game may end before others do: those that have begun never grow fewer.
        begun = max(begun, int(moment.episodes[-1]) + 1)
        detail = f"{decisions} decisions, points {score:+.0f}"
        progress(Progress(stage, begun - len(moment.episodes), episodes, "episodes", detail))

    return observe

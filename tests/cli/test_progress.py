"""The bar over episodes that are played side by side."""

from __future__ import annotations

import numpy as np
import pytest
from rich.progress import Progress

from mtspark.cli import common
from mtspark.core.backend import Activity, Decision, Moment


@pytest.mark.parametrize("ended", [0, 2])
def test_a_game_that_ended_counts_also_where_it_was_the_last(
    ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(common, "BAR_S", 0)
    monkeypatch.setattr(Progress, "update", lambda *_, completed, **__: shown.append(completed))
    with common.play_progress("pong on engine", 3) as observe:
        for running in ([0, 1, 2], [i for i in range(3) if i != ended], [1]):
            points = np.zeros(len(running))
            decision = Decision(points, Activity({}, {}))
            frames = points.astype(np.uint8)
            observe(Moment(frames, np.array(running), np.array(running), points, decision))
    assert shown == [0, 1, 2]

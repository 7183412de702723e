"""One sentence on what time did to an agent's games."""

from __future__ import annotations

from typing import Any

import pytest

from mtspark.workflows.hil.verdict import verdict


def point(place: float | None, stale: float, score: float, **changes: Any) -> dict[str, Any]:
    episode = {"return": score - 1, "response_ms": {"mean": 54.0}}
    content = {"place": place, "stale_frames_share": stale, "mean_return": score}
    return {**content, "episodes": [episode], "faults": {}, "pixel_bits": 8, **changes}


@pytest.mark.parametrize(
    ("points", "words", "says"),
    [
        (
            [point(None, 0.9, -20)],
            {"decision_delay": 0, "waiting_return": 20.0},
            "The agent has no decision delay: it learned in a game that waits for each answer; "
            "90% of the frames passed under an action that was chosen on an older frame "
            "(answers took 54.0 ms on average), which it has not learned to expect; "
            "`protocol.decision_delay = 1` in a recipe teaches it (-21.0 points, 20.0 where the "
            "same game waits).",
        ),
        (
            [point(None, 0.0, 14)],
            {"decision_delay": 1, "waiting_return": 13.0},
            "The agent learned with a decision delay of 1 (what it chooses on a frame acts 66.7 ms "
            "later); every answer was there before its action was due, so the games are those of "
            "`mtspark run`, which waits.",
        ),
        (
            [point(0.0, 0.0, 14), point(66.0, 0.0, 14), point(100.0, 0.5, 3)],
            {"decision_delay": 1, "varied": "latency"},
            "The agent learned with a decision delay of 1 (what it chooses on a frame acts 66.7 ms "
            "later); at 0, 66 ms every answer was there before its action was due, so the games "
            "are those of `mtspark run`, which waits; at 100 ms 50% of the frames began "
            "before the answer that was due (answers took 54.0 ms on average), and the action "
            "before it stayed pressed (3.0 points, 14.0 where the same game waits).",
        ),
        # A broken chip plays other games, and time has no part in it; a better score is no loss.
        (
            [point(0.1, 0.0, 2, faults={"stuck-0": 0.1})],
            {"decision_delay": 0, "varied": "stuck-0"},
            "The agent has no decision delay: it learned in a game that waits for each answer; "
            "every answer was there when the next frame began, so waiting for answers costs it "
            "nothing.",
        ),
        # The delay of an environment stands in its own table of a recipe.
        (
            [point(None, 0.9, -20)],
            {"decision_delay": None},
            "The agent has no decision delay: it learned in a game that waits for each answer; "
            "90% of the frames passed under an action that was chosen on an older frame (answers "
            "took 54.0 ms on average), which it has not learned to expect; `decision_delay = 1` of "
            "an environment in a recipe teaches it.",
        ),
        ([], {"decision_delay": 0}, ""),
    ],
)
def test_what_time_did(points: list[dict[str, Any]], words: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"deadline_ms": 200 / 3, "varied": None, **words}
    assert verdict(points, **given) == says


def test_a_score_that_is_no_lower_is_no_loss() -> None:
    both = [point(0.0, 0.0, 2), point(50.0, 0.9, 2)]
    text = verdict(both, decision_delay=0, deadline_ms=66.7, varied="latency")
    assert "points" not in text

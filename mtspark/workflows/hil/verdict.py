"""Why an agent keeps or loses its score when the game does not wait, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtspark.core.digits import decimals, percent
from mtspark.sim.hil import SAMPLING

DELAY_OF_GAMES = "protocol.decision_delay = 1`"


def verdict(
    points: Sequence[dict[str, Any]],
    *,
    decision_delay: int | None,
    deadline_ms: float,
    varied: str | None,
    waiting_return: float | None = None,
) -> str:
    """Say what time did to the games of a result.

    Args:
        points: as of :meth:`mtspark.sim.hil.Point.to_json`.
        decision_delay: with which the agent learned, in decisions; None: none, in an environment.
        deadline_ms: a decision of the game.
        varied: what differs between the points.
        waiting_return: of the first of the same games, where it waited for its decisions.

    Returns:
        One sentence; empty where there is no point.
    """
    if not points:
        return ""
    kept = [point for point in points if not point["stale_frames_share"]]
    late = [point for point in points if point["stale_frames_share"]]
    several = varied is not None and bool(kept) and bool(late)
    unit = " ms" if varied == "latency" else f" of {varied}"
    parts = []
    if kept:
        where = f"at {_places(kept)}{unit} " if several else ""
        due = "before its action was due" if decision_delay else "when the next frame began"
        command = " ".join(["mtspark run", *_drawing(kept[0])])
        plays = f"the games are those of `{command}`, which waits"
        if any(map(_is_broken, kept)):
            plays = "waiting for answers costs it nothing"
        parts.append(f"{where}every answer was there {due}, so {plays}")
    if late:
        worst = max(late, key=lambda point: float(point["stale_frames_share"]))
        where = f"at {_places([worst])}{unit} " if several else ""
        reference = kept[0]["mean_return"] if kept else waiting_return
        parts.append(where + _late(worst, decision_delay) + _lost(worst, reference, bool(kept)))
    learned = (
        f"the agent learned with a decision delay of {decision_delay} (what it chooses on a frame "
        f"acts {decision_delay * deadline_ms:.1f} ms later)"
        if decision_delay
        else "the agent has no decision delay: it learned in a game that waits for each answer"
    )
    text = f"{learned}; {'; '.join(parts)}."
    return text[0].upper() + text[1:]


def _late(point: dict[str, Any], decision_delay: int | None) -> str:
    share = f"{percent(point['stale_frames_share'], 0)} of the frames"
    means = [one["response_ms"]["mean"] for one in point["episodes"] if one["response_ms"]]
    took = f" (answers took {decimals(sum(means) / len(means), 1)} ms on average)" if means else ""
    if decision_delay:
        return (
            f"{share} began before the answer that was due{took}, and the action before it stayed "
            "pressed"
        )
    where = "decision_delay = 1` of an environment" if decision_delay is None else DELAY_OF_GAMES
    return (
        f"{share} passed under an action that was chosen on an older frame{took}, which it has "
        f"not learned to expect; `{where} in a recipe teaches it"
    )


def _lost(point: dict[str, Any], waiting: float | None, same_games: bool) -> str:
    """Return the score of the same games with and without waiting, where that is known and lower.

    Args:
        point: whose answers came late.
        waiting: score where none did; of all games, or of the first alone.
        same_games: whether it is that of all.
    """
    score = point["mean_return"] if same_games else point["episodes"][0]["return"]
    if waiting is None or score >= waiting:
        return ""
    return f" ({score:.1f} points, {waiting:.1f} where the same game waits)"


def _drawing(point: dict[str, Any]) -> list[str]:
    """Return the options of `mtspark run` that draw the same actions; none where the best acts."""
    drawn = point.get(SAMPLING)
    if drawn is None:
        return []
    heat = drawn["temperature"]
    return [f"--sample {drawn['seed']}", *([f"--temperature {heat:g}"] if heat != 1 else [])]


def _places(points: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{place:g}" for place in sorted({float(one["place"]) for one in points}))


def _is_broken(point: dict[str, Any]) -> bool:
    return any(point["faults"].values()) or point["pixel_bits"] < 8

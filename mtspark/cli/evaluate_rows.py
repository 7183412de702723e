"""Rows of ``mtspark eval``: made of episodes, stored, shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.core.files.atomic import write_json

if TYPE_CHECKING:
    from mtspark.sim.play import Episode

FORMAT = "mtspark-eval"


def row_of(
    episodes: tuple[Episode, ...], task: str, backend: str, sticky: float, seed: int, sha256: str
) -> dict[str, Any]:
    """Scores of a player's episodes of one task; `sha256` names the weights."""
    from mtspark.sim.play import distinct

    scores = [episode.score for episode in episodes]
    low, high = confidence_interval(scores)
    return {
        "task": task,
        "backend": backend,
        "network_sha256": sha256,
        "sticky_action_probability": sticky,
        "seed": seed,
        "episodes": len(scores),
        "distinct_episodes": distinct(episodes),
        "unfinished_episodes": sum(not episode.finished for episode in episodes),
        "mean_return": sum(scores) / len(scores),
        "interval_95": [low, high],
        "returns": scores,
        "decisions": sum(episode.decisions for episode in episodes),
        "action_agreement": None,
        "decisions_compared": None,
    }


def asked_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row answers: task, sticky actions, first seed, number of episodes."""
    keys = ("task", "sticky_action_probability", "seed", "episodes")
    return tuple(row.get(key) for key in keys)


def store_rows(path: Path, agent: str, sha256: str, rows: list[dict[str, Any]]) -> None:
    """Write a result; one that was there is whole until this one is."""
    head = {"format": FORMAT, "version": 1, "agent": agent, "network_sha256": sha256}
    write_json(path, {**head, "rows": rows})


def stored_rows(path: Path | None, sha256: str) -> list[dict[str, Any]]:
    """Rows of games that an earlier run of the same network has written; none of another."""
    from mtspark.core.files.results import (
        EvaluationFile,
        EvaluationRow,
        first_problem,
        stored_result,
    )

    stored = stored_result(path, EvaluationFile)
    if stored is None or stored["network_sha256"] != sha256:
        return []
    return [row for row in stored["rows"] if first_problem(EvaluationRow, row) is None]


def confidence_interval(scores: list[float], resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, seeded.

    Greedy episodes repeat: with few distinct ones the interval is too narrow, so the number of
    distinct ones stands beside it.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    picks = generator.integers(0, len(scores), size=(resamples, len(scores)))
    low, high = np.percentile(np.asarray(scores)[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)

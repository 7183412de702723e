"""Rows that `mtspark eval --json` reads back from a file that anybody may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtspark.cli.show import evaluation as shown
from mtspark.workflows.evaluate.rows import Evaluation, store, stored_games

ROW: dict[str, Any] = {
    "task": "pong",
    "backend": "engine",
    "network_sha256": "ab",
    "sticky_action_probability": 0.25,
    "seed": 0,
    "episodes": 2,
    "distinct_episodes": 1,
    "unfinished_episodes": 0,
    "mean_return": 1.0,
    "interval_95": [1.0, 1.0],
    "returns": [1.0, 1.0],
    "decisions": 5,
    "action_agreement": 0.5,
    "decisions_compared": 5,
    "weight_bits": "8",
    "weight_scale": None,
    "rounding": "nearest",
}
HOSTILE = (
    *("\x1b[2J", "\ud800", "[/x]", [], {}, {"\x1b": 1}, None, True, [[[]]], [None], [1, 2, 3]),
    *(-1, 10**19, 10**300, 1e300, 1e-300, [1e308] * 3, [True, False], [2.0, 1.0]),
)


def read_back(folder: Path, row: dict[str, Any]) -> list[Any]:
    path = folder / "eval.json"
    content = {"format": "mtspark-eval", "version": 1, "network_sha256": "ab", "rows": [row]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return stored_games(path, "ab")


def test_a_row_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (row,) = read_back(tmp_path, ROW)
    assert row.to_json() == ROW


@pytest.mark.parametrize("field", ROW)
def test_a_hostile_row_is_played_again_or_shown_whole(tmp_path: Path, field: str) -> None:
    for value in HOSTILE:
        games = tuple(read_back(tmp_path, {**ROW, field: value}))
        evaluation = Evaluation("agent", "ab", games, ())
        with shown.console.capture() as captured:
            shown.print_evaluation(evaluation, details=True)
        store(tmp_path / "again.json", evaluation)
        written = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
        for text in (captured.get().replace("\n", ""), *map(str, written["rows"])):
            assert text.isprintable(), (field, value)
        for row in written["rows"]:
            assert {type(row[key]) for key in ("weight_bits", "rounding")} <= {str, type(None)}


@pytest.mark.parametrize(
    "change",
    [
        {"weight_bits": {"a": 1}},
        {"rounding": "\x1b[2J"},
        {"weight_scale": [[[]]]},
        {"seed": -1},
        {"seed": 10**19},
        {"episodes": 3},
        {"distinct_episodes": 3},
        {"unfinished_episodes": 3},
        {"interval_95": [2.0, 1.0]},
        {"action_agreement": 1e9},
        {"sticky_action_probability": 7.0},
        {"decisions_compared": None},
    ],
)
def test_numbers_that_cannot_be_are_no_row(tmp_path: Path, change: dict[str, Any]) -> None:
    assert not read_back(tmp_path, {**ROW, **change})

"""Rows of an explanation as JSON and back; the file from which a stopped run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtspark.workflows.explain.result import EffectRow, EffectTable, Explanation, stored_rows

ROW = EffectRow("weights", 0.875, {"conv1": 0.25, "hidden": 0.0})
PLAYED = replace(ROW, effect="biases", mean_return=-3.5, played_decisions=80)
NO_GAME = replace(ROW, effect="decays", mean_return=None, played_decisions=0)
RESULT = Explanation("a.deploy", "12", "34", "pong", 40, 2, 0, (EffectTable(8, (PLAYED, NO_GAME)),))


@pytest.mark.parametrize("row", [ROW, PLAYED, NO_GAME])
def test_a_row_survives_json(row: EffectRow) -> None:
    assert EffectRow.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_fields_of_episodes_are_there_where_some_were_asked_for() -> None:
    assert set(ROW.to_json()) == {"effect", "action_agreement", "layers"}
    assert NO_GAME.to_json()["mean_return"] is None
    assert NO_GAME.to_json()["played_decisions"] == 0


def test_rows_of_the_same_question_are_taken_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(RESULT.to_json()))
    again = replace(RESULT, tables=(), complete=True, folder="moved.deploy")
    assert stored_rows(path, again) == {8: {"biases": PLAYED, "decays": NO_GAME}}
    for other in ({"task": "breakout"}, {"frames_sha256": "35"}, {"episodes": 3}):
        assert stored_rows(path, replace(again, **other)) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damage",
    [
        [],
        None,
        {"tables": 3},
        {"tables": [{"weight_bits": 8, "rows": [{"effect": "weights"}]}]},
        {"tables": [{"weight_bits": 8, "rows": ["weights"]}]},
        {"tables": [{"weight_bits": "eight", "rows": []}]},
        {"version": 2},
    ],
)
def test_a_damaged_file_has_no_rows(damage: Any, tmp_path: Path) -> None:
    content = {**RESULT.to_json(), **damage} if isinstance(damage, dict) else damage
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(content))
    assert stored_rows(path, RESULT) == {}

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mtspark.core.errors import BadFileError
from mtspark.core.files.results import (
    LARGEST,
    Bytes,
    Count,
    Entry,
    EvaluationFile,
    EvaluationRow,
    Flag,
    Number,
    Positive,
    Problem,
    Text,
    VersionOne,
    first_problem,
    read_result,
    stored_result,
)

BAD: dict[Any, list[Any]] = {
    Count: [-1, LARGEST, 10**400, 1.0, True, "1", None, [1]],
    Positive: [0, True, 1.0],
    VersionOne: [0, 2, True, 1.0, "1", None],
    Number: [float("nan"), float("inf"), LARGEST, 10**400, -(10**400), True, "1", None],
    Text: ["a\nb", "\x1b[0m", "\ud800", b"a", 1, None],
    Flag: [0, 1, "true", None],
    Bytes: ["a", [1], None],
}
GOOD: dict[Any, list[Any]] = {
    Count: [0, LARGEST - 1],
    Positive: [1],
    VersionOne: [1],
    Number: [0, -1.5, 1e18, -7],
    Text: ["", "pong é"],
    Flag: [True, False],
    Bytes: [b"", b"\xff"],
}


@pytest.mark.parametrize("kind", list(BAD), ids=lambda kind: str(kind)[:40])
def test_nothing_is_converted(kind: Any) -> None:
    for value in GOOD[kind]:
        assert first_problem(kind, value) is None
    for value in BAD[kind]:
        problem = first_problem(kind, value)
        assert problem is not None, value
        assert problem.value is value
        assert problem.wanted


class Inner(Entry):
    size: Positive


class Outer(Entry):
    version: VersionOne
    parts: list[Inner]


@dataclass(frozen=True)
class Plain:
    kind: ClassVar[str] = "plain"
    count: int
    share: float = 0.5


def test_a_problem_says_where_and_what() -> None:
    good = {"version": 1, "parts": [{"size": 1}, {"size": 2}], "more": object()}
    assert first_problem(Outer, good) is None
    wanted = "a whole number from 1"
    assert first_problem(Outer, {**good, "parts": [{"size": 1}, {"size": 0}]}) == Problem(
        "parts[1].size", 0, "described", wanted
    )
    assert first_problem(Outer, {"version": 1}) == Problem(
        "parts", None, "missing", "Field required"
    )
    assert first_problem(Outer, []) == Problem("", [], "model_type", "an object of named fields")


def test_a_dataclass_is_a_schema_whose_fields_are_strict() -> None:
    assert first_problem(Plain, {"count": 1}) is None
    assert first_problem(Plain, {"count": 1, "share": 0}) is None
    assert first_problem(Plain, {"count": True}) == Problem("count", True, "int_type", "int")
    assert first_problem(Plain, {"count": 1, "share": "1"}) == Problem(
        "share", "1", "float_type", "float"
    )
    missing = first_problem(Plain, {})
    assert missing is not None
    assert missing.kind == "missing"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "the file is no object of named fields"),
        ('{"version": 1}', "parts is missing"),
        ('{"version": 2, "parts": []}', "version cannot be 2"),
        ('{"version": 1, "parts": {}}', "parts is no list"),
        ('{"version": 1, "parts": [{"size": "many"}]}', r"parts\[0\].size cannot be 'many'"),
        ('{"version": 1, "parts": [], "unread": NaN}', "NaN is no finite number"),
        ('{"version": 1, "parts": [], "unread": 1e999}', "1e999 is no finite number"),
        ("a poem", "Expecting value"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BadFileError, match=rf"a\.json: no result: {reason}") as caught:
        read_result(path, Outer, "no result: {}; delete it")
    assert "\n" not in str(caught.value)
    assert stored_result(path, Outer) is None


def test_what_was_stored_is_read_and_nothing_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert stored_result(None, Outer) is None
    assert stored_result(path, Outer) is None
    path.write_text('{"version": 1, "parts": [{"size": 3, "more": 0.1}]}')
    assert stored_result(path, Outer) == {"version": 1, "parts": [{"size": 3, "more": 0.1}]}


def test_rows_of_an_evaluation() -> None:
    row = {
        **{"task": "pong", "backend": "engine", "network_sha256": "ab", "seed": 0},
        **{"sticky_action_probability": 0, "episodes": 2, "distinct_episodes": 1},
        **{"unfinished_episodes": 0, "mean_return": 1.5, "interval_95": [1, 2.0]},
        **{"returns": [1.0, 2.0], "decisions": 9},
        **{"action_agreement": None, "decisions_compared": None},
    }
    assert first_problem(EvaluationRow, json.loads(json.dumps(row))) is None
    for name, value in {"returns": [], "interval_95": [1], "task": "\x1b", "seed": "0"}.items():
        problem = first_problem(EvaluationRow, {**row, name: value})
        assert problem is not None
        assert problem.place.startswith(name)
    file = {"format": "mtspark-eval", "version": 1, "network_sha256": "ab", "rows": [row]}
    assert first_problem(EvaluationFile, file) is None
    assert first_problem(EvaluationFile, {**file, "format": "mtspark-run"}) is not None

"""The report on damaged runs: one line that names the file, never a traceback."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from mtspark.cli._console import console
from mtspark.cli.show.runs import print_run
from mtspark.core.errors import BadFileError
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.results import RunFile, read_run
from mtspark.workflows.report import run_sentences

Keys = tuple[str | int, ...]
MISSING = object()
HUGE, NAN = 10**400, float("nan")
WRONG = (MISSING, None, "text", [], [[]], {}, -1, 0, True, 0.5, 1e300, HUGE, NAN)


def paths(content: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Every place in nested objects; of lists the first item."""
    if keys:
        yield keys
    if isinstance(content, dict):
        for key, inner in content.items():
            yield from paths(inner, (*keys, key))
    elif isinstance(content, list) and content:
        yield from paths(content[0], (*keys, 0))


def schema_paths(schema: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Every place that the reader checks; of lists the first item."""
    if keys:
        yield keys
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        for name, field in schema.model_fields.items():
            yield from schema_paths(field.annotation, (*keys, field.alias or name))
    elif get_origin(schema) is list:
        yield from schema_paths(get_args(schema)[0], (*keys, 0))
    elif get_origin(schema) is UnionType:
        for one in get_args(schema):
            yield from schema_paths(one, keys)


def damaged(run: dict[str, Any], keys: Keys, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(run)
    place: Any = result
    for key in keys[:-1]:
        place = place[key]
    if value is MISSING:
        place.pop(keys[-1], None)
    else:
        place[keys[-1]] = value
    return result


def first_run(bundle: Path) -> Path:
    """The run that the bundle came with; other tests may have added some since."""
    return min((bundle / "runs").glob("*.json"))


@pytest.fixture(scope="module")
def run(played: Path) -> dict[str, Any]:
    content = dict(read_run(first_run(played)))
    # All bills have the same fields: two stand for the rest. The chip's limits hold; say of each
    # that one is broken, so that this field has an item, too.
    why = {"hypothetical_because": ["a limit"]}
    bills = {
        key: [{**bill, "hypothetical": True, **why} for bill in content[key][:2]]
        for key in ("energy", "energy_on_chip")
    }
    return {**content, **bills, "cost": {**content["cost"], **why}}


@pytest.fixture
def folder(played: Path, tmp_path: Path) -> Path:
    shutil.copytree(played, tmp_path / "b")
    first = first_run(tmp_path / "b")
    for path in (tmp_path / "b" / "runs").iterdir():
        if path != first:
            path.unlink()
    return tmp_path / "b"


@pytest.mark.slow
def test_what_the_reader_lets_through_can_be_shown(
    run: dict[str, Any], played: Path, tmp_path: Path, read_here: None
) -> None:
    bundle = load_bundle(played)
    path, shown = tmp_path / "r.json", 0
    refusals: list[str] = []
    # Of the run itself, not of what the reader checks: a field that it forgot is found.
    for keys in paths(run):
        for value in WRONG:
            if value is MISSING and isinstance(keys[-1], int):
                continue
            path.write_text(json.dumps(damaged(run, keys, value)))
            try:
                result = read_run(path)
            except BadFileError as error:
                refusals.append(str(error))
                continue
            with console.capture():
                sentences = run_sentences(bundle, result)
                print_run(result, sentences, bundle.network, details=True)
            json.dumps(result, allow_nan=False)
            shown += 1
    assert shown > 100
    assert all(text.startswith(f"{path}: not a run of mtspark: ") for text in refusals)


@pytest.mark.parametrize("keys", sorted(set(schema_paths(RunFile)), key=str), ids=str)
def test_every_field_is_checked(
    run: dict[str, Any], keys: Keys, tmp_path: Path, read_here: None
) -> None:
    path, refused = tmp_path / "r.json", []
    for value in WRONG:
        if value is not MISSING or not isinstance(keys[-1], int):
            path.write_text(json.dumps(damaged(run, keys, value)))
            try:
                read_run(path)
            except BadFileError:
                refused.append(value)
    always = [HUGE, NAN, [[]]]
    # Runs of earlier versions had no bill on a chip and no cost in short, nor has a float network;
    # games that end say nothing of a limit, and only environments show numbers that may be clipped.
    # Only some worlds say when a task is solved; a cost names what is unusual alone.
    optional = (("energy_on_chip",), ("cost",), ("clipped_values",), ("success_rate",))
    younger = keys in optional or keys[-1] in ("truncated", "success", "place", "late_because")
    if not isinstance(keys[-1], int) and not younger:
        always.append(MISSING)
    assert all(any(value is bad or value == bad for bad in refused) for value in always)
    # Other types than the field's are most of these values.
    assert len(refused) >= 6


def test_a_damaged_run_is_one_line_and_code_2(
    run: dict[str, Any],
    folder: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = folder / "runs" / "z.json"
    path.write_text(json.dumps(damaged(run, ("layers", 0, "neurons"), "many")))
    capsys.readouterr()
    assert call("report", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: {path}: not a run of mtspark: layers[0].neurons cannot be 'many'; delete it"
    )


@pytest.mark.parametrize("key", ["decisions", "distinct_episodes", "steps_per_decision"])
def test_nothing_is_divided_by_zero(run: dict[str, Any], key: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(damaged(run, (key,), 0)))
    with pytest.raises(BadFileError, match=rf"r\.json: not a run of mtspark: {key} cannot be 0"):
        read_run(tmp_path / "r.json")


@pytest.mark.parametrize("key", ["episodes", "layers"])
def test_a_run_has_episodes_and_layers(run: dict[str, Any], key: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(damaged(run, (key,), [])))
    with pytest.raises(BadFileError, match=f"{key} is empty"):
        read_run(tmp_path / "r.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a poem",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format": "mtspark-run", "version": 2}',
        b"1" * 5000,
    ],
    ids=lambda content: str(content[:12]),
)
def test_what_is_no_run_at_all(
    content: bytes, folder: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "runs" / "z.json"
    path.write_bytes(content)
    capsys.readouterr()
    assert call("report", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: not a run of mtspark: ")
    assert line.endswith("; delete it")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_refused_even_where_nobody_reads_it(
    run: dict[str, Any], text: str, tmp_path: Path
) -> None:
    line = json.dumps({**run, "unread": "PLACE"}).replace('"PLACE"', text)
    (tmp_path / "r.json").write_text(line)
    with pytest.raises(BadFileError, match="is no finite number"):
        read_run(tmp_path / "r.json")


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\ud800"])
def test_a_text_that_the_terminal_would_obey_is_refused(
    run: dict[str, Any], text: str, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**run, "backend": text}))
    with pytest.raises(BadFileError, match="backend cannot be"):
        read_run(tmp_path / "r.json")


def test_a_folder_among_the_runs_is_one_line(
    folder: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "runs" / "x.json").mkdir()
    capsys.readouterr()
    assert call("report", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "x.json" in line

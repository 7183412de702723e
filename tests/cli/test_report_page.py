"""`mtspark report -o`: a page and its data, whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHORT = ("--task", "pong", "--max-decisions", 3, "--seconds", 1)
CARDS = ("--card", "loihi2_pilotnet", "--card", "ops45nm_int8")


@pytest.fixture(scope="module")
def folder(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the one run that it came with."""
    copy = tmp_path_factory.mktemp("r") / "b.deploy"
    shutil.copytree(played, copy)
    _, *others = sorted((copy / "runs").iterdir())
    for path in others:
        path.unlink()
    return copy


def test_two_tasks_share_a_page(folder: Path, tmp_path: Path, call: Callable[..., int]) -> None:
    page = tmp_path / "report.html"
    options = ("--max-decisions", 2, "--seconds", 1, "--card", "ops45nm_int8")
    assert call("report", folder, "-o", page, *options, "--encoder", "changes") == 0
    data = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert [task["task"] for task in data["tasks"]] == ["pong", "breakout"]
    for task in data["tasks"]:
        rows = {row["encoder"]: row for row in task["encoders"]}
        assert rows["changes"]["messages_per_decision"] < rows["held"]["messages_per_decision"]
        billed = task["energy"][0]["dynamic_j_per_decision"]
        assert billed == rows["changes"]["dynamic_j_by_card"]["ops45nm_int8"]
    text = page.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert {"task-1", "task-2"} <= set(ids)
    for target in re.findall(r'(?:href="#|url\(#)([^")]*)', text):
        assert target in ids


def test_a_page_and_its_data(
    folder: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "report.html"
    assert call("report", folder, "-o", page, *SHORT, *CARDS) == 0
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    data = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert (data["format"], data["version"]) == ("mtspark-report-page", 1)
    (task,) = data["tasks"]
    assert (task["task"], task["decisions"]) == ("pong", 3)
    assert [bill["card_key"] for bill in task["energy"]] == ["loihi2_pilotnet", "ops45nm_int8"]
    assert [chip["chip"] for chip in task["chips"]] == ["loihi2"]
    checks = {check["name"]: check["text"] for check in data["made"]["checks"]}
    assert "1 of 1 episodes took every action" in checks["Replay, pong"]
    assert "RAPL" in "".join(checks)
    repeat = {entry["name"]: entry["text"] for entry in data["made"]["repeat"]}
    assert repeat["network sha256"] == data["made"]["network_sha256"]
    assert repeat["command"].startswith("mtspark report ")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert repeat["network sha256"] in text
    # Names of folders may look like markup.
    assert "wrote" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--task", "pong"), "add -o"),
        (("--neurobench", 3), "add -o"),
        (("-o", "page.txt"), "ends in .html"),
        (("-o", "made.html"), "is a folder"),
        (("-o", "p.html", "--json", "x.json"), "leave --json out"),
        (("-o", "p.html", "--task", "chess"), "unknown task 'chess'"),
        (("-o", "p.html", "--task", "pong", "--task", "pong"), "named twice"),
        (("-o", "p.html", "--card", "loihi9"), "known cards"),
        (("-o", "p.html", *SHORT, "--neurobench", 50), "ask for fewer"),
        (("-o", "p.html", *SHORT, *CARDS, "--times", "sundial"), "no times 'sundial'"),
        (("-o", "p.html", *SHORT, "--pilotnet", "."), "network.net: no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    folder: Path,
    arguments: tuple[Any, ...],
    complaint: str,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.html").mkdir()
    capsys.readouterr()
    assert call("report", folder, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert [path.name for path in tmp_path.iterdir()] == ["made.html"]

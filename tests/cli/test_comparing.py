"""`mtspark compare` on logs of training runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.logs import write_runs


def test_the_command_prints_and_writes_the_same(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    dense = write_runs(tmp_path / "dense", {1: (0, 1), 2: (2, 9)})
    sparse = write_runs(tmp_path / "sparse", {1: (1, 1), 2: (4, 9)})
    outputs = ("-o", tmp_path / "page.md", "--json", tmp_path / "found.json")
    assert call("compare", dense, sparse, "--range", "a=0:2", "--range", "b=0:9", *outputs) == 0
    shown = capsys.readouterr().out
    assert "2 of 2" in shown
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["format"], found["differences"][0]["better"]) == ("mtspark-run-comparison", 2)
    assert found["ranges"] == {"a": [0.0, 2.0], "b": [0.0, 9.0]}
    assert (tmp_path / "page.png").exists()
    assert call("compare", dense, "--range", "a=0") == 2
    assert "--range a=0: must be TASK=LOW:HIGH" in capsys.readouterr().err
    assert call("compare", dense, "--range", "a=0:1", "--range", "a=0:2") == 2
    assert "--range a=0:2: a has a range already; give it one" in capsys.readouterr().err
    assert call("compare", dense, "-o", tmp_path / "page.txt") == 2

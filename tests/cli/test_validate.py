from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_pilotnet_is_compared_with_what_intel_measured(
    golden: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.json"
    assert call("validate", golden / "pilotnet_lif", "--json", out) == 0
    shown = capsys.readouterr().out
    assert "48,267,067 synaptic operations" in shown
    rows = json.loads(out.read_text())["comparisons"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["predicted"] / row["measured"])
    energy = {row["how"]: row for row in rows if row["quantity"].startswith("dynamic")}
    assert energy["Loihi 1 (Davies 2018)"]["measured"] == pytest.approx(1.09)
    assert 1.1 < energy["Loihi 1 (Davies 2018)"]["ratio"] < 1.4
    assert {row["how"] for row in rows if row["fitted"]} >= {"Loihi 2 (fitted to PilotNet)"}
    cores = [row["predicted"] for row in rows if row["quantity"] == "cores"]
    assert cores[0] == 74
    assert any(row["quantity"].startswith("time of a step") for row in rows)


def test_a_folder_without_pilotnet_is_one_line(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("validate", tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "network.net: no such file" in line

"""`mtspark plasticity` on an agent's own games."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_an_agent_is_measured_on_its_games(
    checkpoint: Path, call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint.read_bytes()
    words = ("plasticity", checkpoint, "--decisions", 8, "--json", tmp_path / "p.json")
    assert call(*words) == 0
    assert checkpoint.read_bytes() == before
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["samples"] == 16
    assert set(found["dormant"]) == {"conv1", "conv2", "hidden"}
    assert set(found["gradient_norm"]) == {"pong", "breakout"}
    assert found["fisher_trace"] > 0
    assert "effective rank" in capsys.readouterr().out


def test_numbers_that_cannot_be(
    checkpoint: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("plasticity", checkpoint, "--delta", 1.5) == 2
    assert "delta 1.5" in capsys.readouterr().err


def test_the_agent_that_is_measured_is_not_written_over(
    checkpoint: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = checkpoint.read_bytes()
    assert call("plasticity", checkpoint, "--json", checkpoint) == 2
    assert "is there already and holds no JSON of a result; choose" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before

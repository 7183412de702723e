"""Runs that are asked for on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import mtspark.train.rl.run as runs
from mtspark.train.config.games import TrainConfig


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, Path]]:
    """The runs that were started; none really is."""
    started: list[tuple[TrainConfig, Path]] = []

    def train(config: TrainConfig, folder: Path) -> Path:
        started.append((config, folder))
        return folder / "agent.pt"

    monkeypatch.setattr(runs, "train", train)
    return started

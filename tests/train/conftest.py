"""Runs that are asked for on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtspark.train import training
from mtspark.train.config.games import TrainConfig
from mtspark.train.rl.run import TrainingResult


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, Path]]:
    """The runs that were started; none really is."""
    started: list[tuple[TrainConfig, Path]] = []

    def train(config: TrainConfig, folder: Path, **_: object) -> TrainingResult:
        started.append((config, folder))
        return TrainingResult(folder / "agent.pt", config.total_steps, 0, {}, ())

    monkeypatch.setattr(training, "train", train)
    return started

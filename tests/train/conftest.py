"""Runs that are asked for on the command line, and files read in this process.

What confines the reading has tests of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtspark.core.files import FileLimits, Policy, set_policy
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


@pytest.fixture(autouse=True)
def trusted_files() -> Iterator[None]:
    """A process for each of thousands of files takes long."""
    set_policy(Policy(FileLimits(), trust=True))
    yield
    set_policy(None)

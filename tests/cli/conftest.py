from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtspark.cli import main as cli
from mtspark.core.environments.atari import task_for_game
from mtspark.core.environments.protocol import GameProtocol
from mtspark.train.checkpoint.agent import Agent, save_agent
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    config = NetworkConfig(
        convolutions=(ConvSize(3, 12, 8), ConvSize(4, 3, 2)), hidden=12, tasks=2, time_steps=3
    )
    network = MTSparkNetwork(config).eval()
    with torch.no_grad():
        network.advantage.weight.normal_()
    tasks = (task_for_game("pong"), task_for_game("breakout"))
    path = tmp_path_factory.mktemp("agent") / "tiny.pt"
    save_agent(Agent(network, tasks, GameProtocol()), path)
    return path


@pytest.fixture(scope="session")
def call() -> Callable[..., int]:
    """Run `mtspark` with these arguments in this process; its exit code."""

    def run(*arguments: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["mtspark", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                cli.main()
        return int(end.value.code or 0)

    return run


@pytest.fixture(scope="session")
def played(
    checkpoint: Path, call: Callable[..., int], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle with one run in it, in a folder whose name looks like markup; copy it to change."""
    folder = tmp_path_factory.mktemp("c") / "br[/red].deploy"
    assert call("export", checkpoint, "-o", folder) == 0
    assert call("run", folder, "--task", "pong", "--max-decisions", 3) == 0
    return folder

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtspark.core.games import task_for_game
from mtspark.core.protocol import GameProtocol
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.network import ConvSize, MTSparkNetwork, NetworkConfig


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

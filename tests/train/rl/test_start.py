"""The network that a run begins with: which action it prefers untrained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mtspark.core.environments.atari import task_for_game
from mtspark.core.errors import BadRequestError
from mtspark.train.config import TrainConfig
from mtspark.train.networks import NetworkConfig
from mtspark.train.rl.start import start_network

ENDURO = TrainConfig(games=("enduro",), favoured_action=1)


def test_an_untrained_network_prefers_its_action() -> None:
    task = task_for_game("enduro")
    frames = torch.randint(0, 256, (20, 4, 84, 84), dtype=torch.uint8)
    for seed in range(3):
        torch.manual_seed(seed)
        network = start_network(ENDURO, (task,)).eval()
        torch.manual_seed(seed)
        plain = start_network(replace(ENDURO, favoured_action=None), (task,)).eval()
        with torch.no_grad():
            values, others = (one(frames, torch.zeros(20).long()) for one in (network, plain))
        assert (values.argmax(1) == 1).all()
        # Its value alone is raised, by 0.2 less the mean of that over 18 actions.
        torch.testing.assert_close((values - others)[:, 1], torch.full((20,), 0.2 * 17 / 18))
        assert (others.argmax(1) != 1).any()


def test_actions_that_cannot_be_preferred() -> None:
    with pytest.raises(BadRequestError, match="favoured_action 2: breakout has"):
        start_network(
            replace(ENDURO, games=("breakout",), favoured_action=2), (task_for_game("breakout"),)
        )
    with pytest.raises(ValueError, match="has 2 games, whose actions share a head"):
        replace(ENDURO, games=("enduro", "pong"), network=NetworkConfig(tasks=2))
    with pytest.raises(ValueError, match="starts from a trained network"):
        replace(ENDURO, start_from="agent.pt")
    with pytest.raises(ValueError, match="favoured_action is 18, must be from 0 to 17"):
        replace(ENDURO, favoured_action=18)

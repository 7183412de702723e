"""The network that a run begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtspark.core.environments.atari import task_for_game
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint import save_agent, single_task
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks import NetworkConfig
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.start import start_network

ENDURO = TrainConfig(games=("enduro",), favoured_action=1)
SMALL: dict[str, Any] = {
    **{"games_per_task": [1], "rollout_steps": 2, "minibatches": 1, "bfloat16": False},
    "reward_clipping": False,
    "network": {"hidden": 6, "time_steps": 2},
}


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


def test_a_task_that_had_a_place_in_a_frame_does_not_go_on_alone(tmp_path: Path) -> None:
    """Its weights know the places of the others, too."""
    both = to_config({**SMALL, "games": ["CartPole-v1", "Acrobot-v1"]}, "recipe")
    assert isinstance(both, TrainConfig)
    agent = PqnTrainer(both).agent()
    for task in ("CartPole-v1", "Acrobot-v1"):
        save_agent(single_task(agent, task), tmp_path / "one.pt")
        start = {"games": [task], "start_from": str(tmp_path / "one.pt")}
        alone = to_config({**SMALL, **start}, "recipe")
        assert isinstance(alone, TrainConfig)
        with pytest.raises(BadRequestError, match="beside other tasks, in a frame of 10 values"):
            PqnTrainer(alone)
    save_agent(agent, tmp_path / "both.pt")
    PqnTrainer(replace(both, start_from=str(tmp_path / "both.pt")))

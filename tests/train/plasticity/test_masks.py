"""What is measured of an agent whose environment allows some of its actions at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
import torch

from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.plasticity import Transitions, play_transitions
from mtspark.train.rl.start import run_tasks
from tests.support.worlds import register_door


@pytest.fixture(autouse=True)
def door() -> Iterator[None]:
    """It fails at an action that it has not allowed."""
    register_door()
    yield
    gymnasium.registry.pop("Door-v0")


@pytest.mark.parametrize("training", [{}, {"config": {"algorithm": "ppo"}}])
def test_only_allowed_actions_are_played_and_have_a_chance(training: dict[str, Any]) -> None:
    config = to_config(
        {"games": ["Door-v0"], "network": {"hidden": 6, "time_steps": 2, "dendrite_segments": 0}},
        "recipe",
    )
    assert isinstance(config, TrainConfig)
    torch.manual_seed(1)
    network = MTSparkNetwork(config.network).eval()
    played = play_transitions(Agent(network, run_tasks(config), None, training), 60, seed=2)
    assert isinstance(played, Transitions)
    assert played.of_policy == bool(training)
    assert played.allowed is not None
    # As Door has it: of three actions, that of the place of its state, counted back, is shut.
    state = played.frames[:, 0, :, 0].argmax(1)
    shut = (torch.arange(3) + state[:, None]) % 3 == 0
    assert torch.equal(played.allowed, ~shut)
    assert played.allowed.gather(1, played.actions[:, None]).all()
    assert [len(chances) for chances, _ in played.policies(network)] == (~shut).sum(1).tolist()
    if training:
        values = network(played.frames, played.task)
        logs = values.masked_fill(shut, -torch.inf).log_softmax(1)
        taken = logs.gather(1, played.actions[:, None]).squeeze(1)
        assert torch.isclose(played.loss(network), -(played.goals * taken).mean())

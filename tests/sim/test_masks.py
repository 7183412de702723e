"""Action masks of environments: in the agent loop and in hardware in the loop."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest

import mtspark
from mtspark.core.backend import greedy_actions
from mtspark.core.environments import Environment, world_task
from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks import MTSparkNetwork
from tests.support.worlds import register_door


@pytest.fixture
def agent() -> Iterator[Agent]:
    register_door()
    fields = {"games": ["Door-v0"], "network": {"hidden": 8, "time_steps": 2}}
    config = to_config(fields, "recipe")
    assert isinstance(config, TrainConfig)
    yield Agent(MTSparkNetwork(config.network).eval(), (world_task(Environment("Door-v0")),), None)
    gymnasium.registry.pop("Door-v0")


def test_the_best_action_is_one_that_is_allowed() -> None:
    values = np.array([[1.0, 9.0, 3.0, 2.0], [1.0, 9.0, 3.0, 3.0]])
    assert greedy_actions(values, (0, 2, 3)).tolist() == [2, 2]
    masks = np.array([[True, False, True], [False, True, True]])
    assert greedy_actions(values, (0, 2, 3), masks).tolist() == [3, 2]


@pytest.mark.slow
def test_an_agent_takes_actions_that_are_allowed(agent: Agent) -> None:
    """The environment fails at any other; the same game on a chip in the loop."""
    chip = mtspark.export(agent)
    played = chip.play("Door-v0", episodes=6, seed=2)
    assert all(episode.finished for episode in played.run.episodes)
    actions = {action for episode in played.run.episodes for action in episode.actions}
    assert len(actions) > 1
    looped = chip.hil("Door-v0", seed=2).to_json()["points"][0]["episodes"][0]
    assert looped["return"] == played.run.episodes[0].score
    late = chip.hil("Door-v0", seed=2, latency_ms=80.0).to_json()["points"][0]["episodes"][0]
    # How long an episode lasts does not depend on what is done.
    assert (late["frames"], late["finished"]) == (looped["frames"], True)

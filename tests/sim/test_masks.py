"""Action masks of environments: in the agent loop and in hardware in the loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

import mtspark
from mtspark.core.backend import greedy_actions
from mtspark.core.environments import Environment, world_task
from mtspark.sim.compare import Comparison
from mtspark.train.checkpoint import Agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks import MTSparkNetwork
from mtspark.workflows.diff.frames import task_frames
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


def test_only_actions_that_are_allowed_are_compared() -> None:
    one, other = np.array([[9.0, 1.0, 0.0], [9.0, 1.0, 0.0]]), np.array([[0.0, 9.0, 1.0]] * 2)
    comparison = Comparison()
    comparison.add_values(one, other, (0, 1, 2))
    assert comparison.result().action_agreement == 0
    comparison.add_values(one, other, (0, 1, 2), masks=np.array([[0, 1, 1], [1, 0, 1]], bool))
    # In the third decision both take 1; in the fourth 0 and 2.
    assert comparison.result().action_agreement == 0.25


@pytest.mark.slow
def test_comparisons_are_of_actions_that_are_allowed(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `diff` and `explain`, whose frames are of games in which the masks were given."""
    chip = mtspark.export(agent)
    given: list[Any] = []
    add = Comparison.add_values

    def spy(self: Comparison, *values: Any, **named: Any) -> None:
        given.append(named.get("masks", values[-1]))
        add(self, *values, **named)

    monkeypatch.setattr(Comparison, "add_values", spy)
    frames = task_frames(chip.bundle.network, "Door-v0", 30, 0)
    states = frames.reshape(30, 4).argmax(1)
    expected = (states[:, None] + np.arange(3)) % 3 != 0
    chip.diff("torch", decisions=30)
    assert np.array_equal(np.concatenate(given), expected)
    given.clear()
    rows = chip.explain(decisions=30).tables[0].rows
    assert np.array_equal(np.concatenate(given), np.concatenate([expected] * len(rows)))

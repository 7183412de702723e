"""Agents of Gymnasium's environments that come with mtspark, on the chip."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import mtspark
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, config_of

AGENTS = Path(__file__).parents[2] / "examples" / "agents"
# Agent and recipe, task, package, mean return of 30 episodes on the chip that is promised.
SHIPPED = [
    ("lunarlander", "LunarLander-v3", "Box2D", 200.0),
    ("doorkey", "MiniGrid-DoorKey-5x5-v0", "minigrid", 0.9),
    ("halfcheetah", "HalfCheetah-v5", "mujoco", 3000.0),
]
shipped = pytest.mark.parametrize(("name", "task", "package", "promised"), SHIPPED)


def _agent(name: str, package: str) -> Path:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return AGENTS / name / f"{name}.pt"


@shipped
def test_an_agent_is_small_and_of_its_recipe(
    name: str, task: str, package: str, promised: float
) -> None:
    path = _agent(name, package)
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 2**20
    agent, config = load_agent(path), config_of(name)
    assert isinstance(config, TrainConfig)
    assert config.games == (task,)
    assert agent.network.config == config.network
    (known,) = agent.tasks
    assert known.environment is not None
    assert known.game == task


@pytest.mark.slow
@shipped
def test_its_episodes_are_the_same_on_reference_and_engine(
    name: str, task: str, package: str, promised: float
) -> None:
    network, seen = mtspark.export(_agent(name, package)).network, []
    options = {"episodes": 2, "seed": 5, "max_decisions": 40}
    first = play(EngineChip(network), network, task, **options, trace=True, observe=seen.append)
    assert first.episodes == play(ReferenceChip(network), network, task, **options).episodes
    chip = ReferenceChip(network)
    chip.start(2)
    for moment in seen:
        expected = chip.decide(moment.frames, 0, trace=True).trace
        assert expected is not None
        assert moment.decision.trace is not None
        for layer, membranes in expected.membranes.items():
            assert np.array_equal(moment.decision.trace.membranes[layer], membranes)
            assert np.array_equal(moment.decision.trace.spikes[layer], expected.spikes[layer])


@pytest.mark.slow
@shipped
def test_it_scores_what_is_promised_in_30_episodes(
    name: str, task: str, package: str, promised: float
) -> None:
    result = mtspark.export(_agent(name, package)).play(task, episodes=30)
    assert result.run.distinct_episodes > 10
    assert result.run.mean_return >= promised

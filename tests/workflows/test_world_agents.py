"""Agents of Gymnasium's environments that come with mtspark, on the chip."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import mtspark
from mtspark.core.chip_network import ChipNetwork, Encoder
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.deploy.lava import check_fits_lava, installed_lava
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, config_of
from mtspark.workflows.export import ExportRequest, Source, run_steps
from mtspark.workflows.export.pipeline import STEPS
from tests.support.lava_checks import assert_lava_equals_engine

AGENTS = Path(__file__).parents[2] / "examples" / "agents"
# Agent and recipe, task, package, mean return of 30 episodes on the chip that is promised.
SHIPPED = [
    ("lunarlander", "LunarLander-v3", "Box2D", 200.0),
    ("doorkey", "MiniGrid-DoorKey-5x5-v0", "minigrid", 0.9),
    ("halfcheetah", "HalfCheetah-v5", "mujoco", 3000.0),
]
shipped = pytest.mark.parametrize(("name", "task", "package", "promised"), SHIPPED)
# What tests of their own hold to a score is played here, too.
WORLDS = [
    ("cartpole", "CartPole-v1", "gymnasium"),
    ("pendulum", "Pendulum-v1", "gymnasium"),
    *(row[:3] for row in SHIPPED),
]
# Agents that Lava's own parts cannot run as they are shipped, and why; our processes run all.
EXCEPTIONS = {
    **dict.fromkeys(
        ("mtspark-3games", "3games-waiting", "pong", "pong-waiting"),
        "no neurons that keep the sum of a frame, which encoder changes needs",
    ),
    "cartpole-hidden": "Lava's own LIF does not hold it between two decisions",
}


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


def _chip_of(name: str) -> ChipNetwork:
    """An agent as a chip network, without asking its environment for anything."""
    request = ExportRequest(source=AGENTS / name / f"{name}.pt")
    network = run_steps(request, steps=STEPS[Source.AGENT][:5]).network
    assert network is not None
    return network


@pytest.mark.slow
@pytest.mark.parametrize(("name", "task", "package"), WORLDS)
def test_its_episodes_are_the_same_on_reference_and_engine(
    name: str, task: str, package: str
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


@pytest.mark.slow
def test_only_the_stated_agents_are_beyond_lava() -> None:
    """Every shipped agent is tried; the table names what fails and why."""
    refused = {}
    for path in sorted(AGENTS.glob("*/*.pt")):
        network = _chip_of(path.stem)
        check_fits_lava(network)
        try:
            check_fits_lava(network, stock=True)
        except (BadNetworkError, BadRequestError) as error:
            refused[path.stem] = str(error)
            if network.stateful:
                continue
            # Another encoder lifts the refusal; nothing else of the network is beyond Lava.
            plain = replace(network.input, encoder=Encoder.EVERY_STEP)
            check_fits_lava(replace(network, input=plain), stock=True)
    assert {name for name, *_ in WORLDS} & set(refused) == set()
    assert refused.keys() == EXCEPTIONS.keys()
    for name, reason in EXCEPTIONS.items():
        assert reason in refused[name]


@pytest.mark.slow
@pytest.mark.third_party
@pytest.mark.skipif(
    installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
)
@pytest.mark.parametrize(
    ("name", "task", "package", "stock"),
    [
        *((*row, stock) for row in WORLDS for stock in (False, True)),
        ("cartpole-hidden", "CartPole-v1", "gymnasium", False),
    ],
)
def test_lava_equals_the_engine_on_every_spike_and_membrane(
    name: str, task: str, package: str, stock: bool
) -> None:
    network, seen = _chip_of(name), []
    if find_spec(package) is None:
        # Its physics is missing, its network is not.
        kind = np.iinfo(network.input.dtype)
        drawn = np.random.default_rng(4).integers(kind.min, kind.max + 1, (6, *network.input.shape))
        frames = list(drawn.astype(network.input.dtype)[:, None])
    else:
        options = {"episodes": 1, "seed": 5, "max_decisions": 6}
        play(EngineChip(network), network, task, **options, observe=seen.append)
        frames = [moment.frames for moment in seen]
    assert assert_lava_equals_engine(network, frames, 0, stock=stock) > 0

"""Pendulum, whose action is a number, in a world that does not wait: from its file to the chip."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import mtspark
from mtspark.core.backend import Moment
from mtspark.core.environments import World
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.hil.loop import FrameMoment, Loop, play_hil
from mtspark.sim.hil.timing import Timing
from mtspark.sim.play import play
from mtspark.train.config import TrainConfig, config_of
from mtspark.workflows.deployment import Deployment
from mtspark.workflows.evaluate.bundle import pair_of_rows
from mtspark.workflows.evaluate.rows import Question
from tests.support.hil_agent import LocalChip

AGENT = Path(__file__).parents[2] / "examples" / "agents" / "pendulum" / "pendulum.pt"
NAME = "Pendulum-v1"


@pytest.fixture(scope="module")
def deployed() -> Deployment:
    return mtspark.export(AGENT)


def test_the_shipped_agent_is_that_of_its_recipe(deployed: Deployment) -> None:
    assert sum(path.stat().st_size for path in AGENT.parent.iterdir()) < 2**20
    recipe = config_of("pendulum")
    assert isinstance(recipe, TrainConfig)
    assert mtspark.load_agent(AGENT).network.config == recipe.network
    (task,) = deployed.network.tasks
    assert task.environment is not None
    assert task.environment.box is not None
    assert (task.environment.box.low, task.environment.box.high) == ((-2.0,), (2.0,))
    assert (task.environment.decision_delay, task.environment.decisions_per_s) == (1, 20.0)


def test_its_numbers_follow_from_the_membranes_of_its_readout(deployed: Deployment) -> None:
    network, seen = deployed.network, []
    options = {"episodes": 2, "seed": 5, "max_decisions": 25}
    run = play(EngineChip(network), network, NAME, **options, trace=True, observe=seen.append)
    assert run.episodes == play(ReferenceChip(network), network, NAME, **options).episodes
    readout = network.readout
    for moment in seen:
        trace = moment.decision.trace
        assert trace is not None
        for game, chosen in enumerate(moment.actions):
            membrane = int(trace.membranes[readout.population][-1, game].reshape(-1)[0])
            value = math.tanh(membrane * float(readout.scale[0]))
            assert chosen[0] == np.float32(-2 + (value + 1) / 2 * 4)
    for episode in run.episodes:
        numbers = [action[0] for action in episode.actions if isinstance(action, tuple)]
        assert len(numbers) == 25
        assert len(set(numbers)) > 5


def test_its_episode_is_the_environment_s_own_with_each_number_a_decision_late(
    deployed: Deployment,
) -> None:
    result = deployed.play(NAME, seed=7, max_decisions=30)
    (episode,) = result.run.episodes
    (task,) = deployed.network.tasks
    assert task.environment is not None
    world = World(task.environment)
    world.reset(7)
    pressed = ((0.0,), *episode.actions[:-1])
    rewards = [world.act(np.array(number, np.float32))[0] for number in pressed]
    assert episode.score == pytest.approx(sum(rewards), abs=1e-9)
    words = episode.to_json()["actions"].split()
    assert [np.float32(word) for word in words] == [np.float32(one[0]) for one in episode.actions]


@pytest.mark.parametrize("latency_ms", [0.0, 49.0, 120.0])
def test_a_loop_gives_the_same_game_up_to_a_whole_decision(
    deployed: Deployment, latency_ms: float
) -> None:
    network = deployed.network
    chip = ReferenceChip(network)

    def answer(frame: np.ndarray, decision: int = 0) -> np.ndarray:
        return chip.decide(frame[None], 0).values[0].reshape(-1)

    moments: list[FrameMoment] = []
    loop = Loop(timing=Timing(chip_ms=latency_ms), max_decisions=25)
    (looped,) = play_hil(
        LocalChip(answer), network, NAME, loop, episodes=1, seed=2, observe=moments.append
    )
    seen: list[Moment] = []
    options = {"episodes": 1, "seed": 2, "max_decisions": 25}
    (alone,) = play(chip, network, NAME, **options, observe=seen.append).episodes
    same = [
        np.array_equal(one.frame, two.frames[0]) for one, two in zip(moments, seen, strict=True)
    ]
    assert all(same) == (latency_ms < 50)
    assert (looped.score == pytest.approx(alone.score, abs=1e-9)) == (latency_ms < 50)
    assert (looped.stale_frames == 0) == (latency_ms < 50)


@pytest.mark.slow
def test_hardware_in_the_loop_says_with_which_delay_it_learned(deployed: Deployment) -> None:
    alone = deployed.play(NAME, seed=2, max_decisions=40).run.episodes[0].score
    for latency in (0.0, 49.0):
        result = deployed.hil(NAME, seed=2, max_decisions=40, latency_ms=latency)
        content = result.to_json()
        assert (content["deadline_ms"], content["decision_delay"]) == (50.0, 1)
        (point,) = content["points"]
        assert point["episodes"][0]["return"] == pytest.approx(alone)
        assert "learned with a decision delay of 1" in content["verdict"]
    late = deployed.hil(NAME, seed=2, max_decisions=40, latency_ms=120.0)
    (point,) = late.to_json()["points"]
    assert point["episodes"][0]["return"] != pytest.approx(alone)


def test_float_beside_chip_counts_numbers_within_a_twentieth(deployed: Deployment) -> None:
    """Against plain NumPy on the same frames."""
    agent, network, seen = mtspark.load_agent(AGENT), deployed.network, []
    play(
        EngineChip(network),
        network,
        NAME,
        episodes=1,
        seed=0,
        max_decisions=60,
        observe=seen.append,
    )
    frames = np.concatenate([moment.frames for moment in seen])
    with torch.no_grad():
        values = agent.network(torch.from_numpy(frames), torch.zeros(60, dtype=torch.long))
    wanted = 2 * np.tanh(values.double().numpy()[:, 0])
    got = np.concatenate([moment.actions for moment in seen])[:, 0]
    share = float((np.abs(wanted - got) <= 0.05 * 4).mean())
    assert 0.5 < share <= 1
    (_, on_chip), _ = pair_of_rows(deployed.bundle, Question(NAME, 0.0, 0, 1, 60))
    assert on_chip.action_agreement == pytest.approx(share, abs=1e-9)


def test_a_head_without_its_mean_is_refused() -> None:
    with pytest.raises(BadRequestError, match="takes the numbers themselves"):
        mtspark.export(AGENT, advantage_only=True)


@pytest.mark.slow
def test_its_page_and_explanation(deployed: Deployment, tmp_path: Path) -> None:
    deployed.report(tmp_path / "page.html", max_decisions=12)
    assert "data:image/webp" in (tmp_path / "page.html").read_text()
    rows = deployed.explain(NAME, decisions=10, episodes=0).to_json()
    assert "no value stream" not in str(rows)
    assert deployed.diff(against="reference", decisions=10).to_json()["equal"]


@pytest.mark.slow
def test_above_minus_200_on_the_chip_in_30_episodes(deployed: Deployment) -> None:
    played = deployed.play(NAME, episodes=30)
    assert played.run.mean_return > -200
    looped = deployed.hil(NAME, episodes=30, chip="loihi2").to_json()
    (point,) = looped["points"]
    assert point["mean_return"] == pytest.approx(played.run.mean_return)

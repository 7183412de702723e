"""CartPole from its recipe to the chip: training, export, play, hardware in the loop, report."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import mtspark
from mtspark.cli.show import print_hil
from mtspark.convert.onnx import float_decision_model
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadRequestError
from mtspark.core.files import save_onnx
from mtspark.deploy.formats.onnx_integer import integer_model
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.backends.onnx import OnnxChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.sim.recording import scenery
from mtspark.train.config import read_recipe
from mtspark.train.quantised import Twin
from mtspark.train.runs import Run, RunCallback, Update
from mtspark.workflows.deployment import Deployment

AGENT = Path(__file__).parents[2] / "examples" / "agents" / "cartpole" / "cartpole.pt"


@pytest.fixture(scope="module")
def deployed() -> Deployment:
    return mtspark.export(AGENT)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING):
        yield caplog


def test_the_recipe_learns(tmp_path: Path) -> None:
    """Some 5 s of processor time, a tenth of the recipe."""
    recipe = {**read_recipe("cartpole"), "total_steps": 20_000}
    result = mtspark.train_agent(recipe, tmp_path / "run")
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    returns = [json.loads(line)["returns"]["CartPole-v1"] for line in lines]
    assert max(returns) > 3 * returns[0]
    agent = mtspark.load_agent(result.path)
    (task,) = agent.tasks
    assert agent.protocol is None
    assert task.environment is not None
    assert (task.game, task.legal_actions) == ("CartPole-v1", (0, 1))
    # The pole's angle and its velocity leave their start, and the statistics know it.
    assert all(0.02 < spread < 5 for spread in task.environment.found.deviation)
    assert agent.network.config.input == "values"
    assert mtspark.export(agent).play("CartPole-v1", max_decisions=5).decisions == 5


class _Stop(RunCallback):
    """Ends a run in the middle, as a power cut does."""

    def on_update(self, run: Run, update: Update) -> None:
        if run.reached >= 3_000:
            raise ZeroDivisionError


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    """Statistics, running episodes and weights are those of a run in one go."""
    recipe = {**read_recipe("cartpole"), "total_steps": 5_000}
    whole = mtspark.load_agent(mtspark.train_agent(recipe, tmp_path / "whole").path)
    with pytest.raises(ZeroDivisionError):
        mtspark.train_agent(recipe, tmp_path / "parts", callbacks=[_Stop()])
    parts = mtspark.load_agent(mtspark.train_agent(recipe, tmp_path / "parts").path)
    assert parts.tasks == whole.tasks
    known = whole.network.state_dict()
    assert all(torch.equal(known[key], value) for key, value in parts.network.state_dict().items())


def test_dqn_learns_from_signed_frames_in_a_replay(tmp_path: Path) -> None:
    recipe = read_recipe("cartpole")
    for name in ("epochs", "minibatches", "trace"):
        recipe.pop(name)
    recipe |= {"algorithm": "dqn", "total_steps": 2_000, "games_per_task": 8}
    recipe["replay"] = {"warmup": 500, "capacity": 1_500, "update_every": 64, "batch_size": 16}
    result = mtspark.train_agent(recipe, tmp_path / "run")
    assert result.steps >= 2_000
    assert mtspark.load_agent(result.path).tasks[0].environment is not None


def test_the_shipped_agent_is_small_and_its_graph_is_exact(deployed: Deployment) -> None:
    assert AGENT.stat().st_size < 2**20
    network = deployed.network
    assert network.input.signed
    assert network.input.dtype == np.int8
    assert network.protocol is None
    assert [layer.different for layer in deployed.fidelity.graph_against_torch["CartPole-v1"]] == [
        0
    ]


def test_its_episodes_are_the_same_on_reference_and_engine(deployed: Deployment) -> None:
    network, seen = deployed.network, []
    options = {"episodes": 2, "seed": 5, "max_decisions": 40}
    first = play(
        EngineChip(network),
        network,
        "CartPole-v1",
        **options,
        trace=True,
        observe=seen.append,
    )
    second = play(ReferenceChip(network), network, "CartPole-v1", **options)
    assert first.episodes == second.episodes
    assert [episode.score for episode in first.episodes] == [40.0, 40.0]
    chip = ReferenceChip(network)
    chip.start(2)
    for moment in seen:
        expected = chip.decide(moment.frames, 0, trace=True).trace
        assert expected is not None
        assert moment.decision.trace is not None
        for name, membranes in expected.membranes.items():
            assert np.array_equal(moment.decision.trace.membranes[name], membranes)
            assert np.array_equal(moment.decision.trace.spikes[name], expected.spikes[name])


def test_its_first_layer_by_hand(deployed: Deployment) -> None:
    """Weights times signed messages, in plain integers, against the chip's first step."""
    network = deployed.network
    link = next(link for link in network.connections if link.source == INPUT)
    first = network.population(link.target)
    frame = np.array([-127, 3, 0, 88], np.int8).reshape(1, 1, 4, 1)
    trace = ReferenceChip(network).decide(frame, 0, trace=True).trace
    assert trace is not None
    for neuron, row in enumerate(link.weights.tolist()):
        total = sum(weight * message for weight, message in zip(row, (-127, 3, 0, 88), strict=True))
        shifted = total * 2**link.exponent if link.exponent >= 0 else total // 2**-link.exponent
        bias = int(first.bias_mantissa[neuron]) << first.bias_exponent
        membrane = shifted * 64 + bias
        fires = membrane > int(first.thresholds[0, neuron]) << 6
        assert trace.spikes[first.name][1, 0, neuron] == fires
        assert trace.membranes[first.name][1, 0, neuron] == (0 if fires else membrane)


def test_its_integer_twin_answers_as_the_chip(deployed: Deployment) -> None:
    agent = mtspark.load_agent(AGENT)
    frames = np.random.default_rng(1).integers(-127, 128, (16, 1, 4, 1)).astype(np.int8)
    with torch.no_grad():
        values = Twin(agent.network)(torch.from_numpy(frames), torch.zeros(16, dtype=torch.long))
    expected = ReferenceChip(deployed.network).decide(frames, 0).values
    assert np.array_equal(values.numpy(), expected)


def test_its_onnx_graphs_take_signed_frames(deployed: Deployment, tmp_path: Path) -> None:
    """The float network beside torch, and the integer one beside the reference."""
    agent = mtspark.load_agent(AGENT)
    frames = np.random.default_rng(3).integers(-128, 128, (9, 1, 4, 1)).astype(np.int8)
    tasks = np.zeros(9, np.int64)
    save_onnx(float_decision_model(agent), tmp_path / "float.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "float.onnx", providers=["CPUExecutionProvider"]
    )
    (values,) = session.run(["values"], {"frames": frames, "task": tasks})
    with torch.no_grad():
        expected = agent.network(torch.from_numpy(frames), torch.from_numpy(tasks)).numpy()
    assert np.allclose(values, expected, atol=1e-4)
    save_onnx(integer_model(deployed.network), tmp_path / "chip.onnx")
    chip = OnnxChip(tmp_path / "chip.onnx", trust=True)
    answer = ReferenceChip(deployed.network).decide(frames, 0)
    assert np.array_equal(chip.decide(frames, 0).values, answer.values)
    with pytest.raises(BadRequestError, match="this network takes int8"):
        chip.decide(frames.view(np.uint8), 0)


def test_a_run_counts_what_it_clips_and_says_which_environment(deployed: Deployment) -> None:
    result = deployed.play("CartPole-v1", episodes=2, max_decisions=30, seed=3)
    content = result.to_json()
    assert content["protocol"] is None
    assert content["environment"]["id"] == "CartPole-v1"
    assert content["clipped_values"] == 0
    assert content["decisions"] == 60
    (task,) = deployed.network.tasks
    assert task.environment is not None
    seen = replace(task.environment.found, deviation=(1e-3,) * 4)
    narrow = replace(task, environment=replace(task.environment, observation=seen))
    network = replace(deployed.network, tasks=(narrow,))
    frames = []
    run = play(
        EngineChip(network),
        network,
        "CartPole-v1",
        episodes=1,
        seed=3,
        max_decisions=9,
        observe=lambda moment: frames.append(moment.frames),
    )
    assert run.clipped == sum(int((np.abs(frame.astype(int)) == 127).sum()) for frame in frames)
    assert run.clipped > 0


def test_hardware_in_the_loop_plays_the_same_game_at_the_environment_s_rate(
    deployed: Deployment,
) -> None:
    result = deployed.hil("CartPole-v1", max_decisions=40, seed=2)
    content = result.to_json()
    assert (content["frame_rate_hz"], content["deadline_ms"]) == (50.0, 20.0)
    (point,) = content["points"]
    (episode,) = point["episodes"]
    alone = deployed.play("CartPole-v1", max_decisions=40, seed=2)
    assert episode["return"] == alone.run.episodes[0].score
    assert episode["in_time"] == 40
    late = deployed.hil("CartPole-v1", max_decisions=40, seed=2, latency_ms=60.0)
    (point,) = late.to_json()["points"]
    assert point["episodes"][0]["in_time"] == 0


@pytest.mark.parametrize(("episodes", "says"), [(1, "decision"), (2, "decision of the first game")])
def test_the_loop_says_of_which_games_a_decision_is_priced(
    deployed: Deployment, episodes: int, says: str
) -> None:
    """`eval` prices the decisions of all games."""
    result = deployed.hil("CartPole-v1", max_decisions=3, chip="loihi2", episodes=episodes)
    deployed.play("CartPole-v1", max_decisions=3)
    bill = deployed.energy(card="loihi2_pilotnet")
    cost = result.sentences[1]
    assert cost.startswith(f"A {says} costs ")
    assert cost.startswith(f"A {says} costs {bill.dynamic_j_per_decision * 1e6:.3g} µJ")


@pytest.mark.slow
def test_outputs_tell_the_time_limit_from_a_cut_and_from_the_end_of_a_game(
    deployed: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = deployed.hil("CartPole-v1", seed=2)
    (episode,) = whole.to_json()["points"][0]["episodes"]
    # The environment's own limit: 500 steps.
    assert (episode["decisions"], episode["finished"], episode["truncated"]) == (500, True, True)
    assert deployed.play("CartPole-v1", seed=2).run.episodes[0].truncated
    print_hil(whole, None, None, details=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 1 episodes ended by the time limit" in printed
    assert "cut off" not in printed
    cut = deployed.hil("CartPole-v1", seed=2, max_decisions=3)
    (episode,) = cut.to_json()["points"][0]["episodes"]
    assert (episode["finished"], "truncated" in episode) == (False, False)
    print_hil(cut, None, None, details=True)
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 1 episodes were cut off by --max-decisions" in printed
    assert "limit" not in printed
    # A pole that falls: nothing is said.
    fallen = deployed.hil("CartPole-v1", seed=2, latency_ms=400.0)
    (episode,) = fallen.to_json()["points"][0]["episodes"]
    assert (episode["finished"], "truncated" in episode) == (True, False)
    print_hil(fallen, None, None, details=True)
    assert " of 1 episodes" not in capsys.readouterr().out
    deployed.report(tmp_path / "page.html", seed=2, cards="loihi2_pilotnet")
    page = (tmp_path / "page.html").read_text()
    assert "ended by the time limit" in page
    assert "frame limit" not in page


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pixel_bits": 4}, "CartPole-v1 shows numbers or spikes"),
        ({"hold": "noop"}, "states no action that does nothing"),
        ({"sticky": 0.25}, "is of ALE's games"),
    ],
)
def test_hardware_in_the_loop_refuses_what_an_environment_lacks(
    deployed: Deployment, options: dict[str, object], problem: str
) -> None:
    with pytest.raises(BadRequestError, match=problem):
        deployed.hil("CartPole-v1", max_decisions=2, **options)  # type: ignore[arg-type]


def test_its_page_shows_what_the_environment_draws(
    deployed: Deployment, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    """Without pygame its messages, and a line that says so."""
    page = tmp_path / "page.html"
    deployed.report(page, max_decisions=12)
    content = json.loads((tmp_path / "page.json").read_text())
    assert content["environments"]["CartPole-v1"]["id"] == "CartPole-v1"
    assert content["input"]["signed"] is True
    assert "data:image/webp" in page.read_text()
    warned = [line for line in lines.messages if "its messages are shown instead" in line]
    try:
        import pygame  # noqa: F401
    except ImportError:
        assert "pygame is not installed" in warned[0]
    else:
        assert not warned


def test_pictures_are_those_of_the_episode(deployed: Deployment) -> None:
    pytest.importorskip("pygame")
    network = deployed.network
    run = play(EngineChip(network), network, "CartPole-v1", episodes=1, seed=4, max_decisions=20)
    (task,) = network.tasks
    assert task.environment is not None
    first, last = scenery.drawn(task.environment, run.episodes[0], [0, 19])
    assert first.shape == last.shape == (133, 200, 3)
    assert not np.array_equal(first, last)


@pytest.mark.slow
def test_explanations_and_mappings_take_signed_frames(deployed: Deployment) -> None:
    explained = deployed.explain("CartPole-v1", decisions=20, episodes=0)
    assert explained.to_json()["task"] == "CartPole-v1"
    assert deployed.map("loihi2").to_json()
    cut = {"seed": 2, "max_decisions": 3}
    mapped = deployed.map("loihi2", task="CartPole-v1", **cut).to_json()
    modelled = deployed.hil("CartPole-v1", chip="loihi2", **cut).to_json()["modelled"]
    assert mapped["traffic"]["decisions"] == modelled["decisions"] == 3
    assert mapped["decision_time"]["total_us"] == modelled["decision_time_us"]
    assert deployed.diff(against="reference", decisions=10).to_json()


@pytest.mark.slow
def test_500_of_500_on_the_chip_in_30_episodes(deployed: Deployment) -> None:
    result = deployed.play("CartPole-v1", episodes=30)
    assert [episode.score for episode in result.run.episodes] == [500.0] * 30
    assert result.run.distinct_episodes == 30

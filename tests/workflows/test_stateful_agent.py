"""Agents whose state survives decisions: learned, exported, played and evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import mtspark
from mtspark.cli import main as cli
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.deploy.bundle import load_bundle
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.backend import TorchBackend
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.config import TrainConfig, config_of, config_to_json, read_recipe
from mtspark.train.networks import ConvSize, MTSparkNetwork, NetworkConfig, NetworkTrace
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.runs import Run, RunCallback, Update
from mtspark.workflows.evaluate.bundle import pair_of_rows
from mtspark.workflows.evaluate.rows import Question
from tests.support.worlds import HIDDEN as NAME
from tests.support.worlds import cartpole, register_hidden


@pytest.fixture(autouse=True)
def hidden() -> Iterator[None]:
    register_hidden()
    yield
    gymnasium.registry.pop(NAME)


SHIPPED = Path(__file__).parents[2] / "examples" / "agents" / "cartpole-hidden"


STATE = {"time_steps": 1, "stateful": True, "recurrent": True}


def recipe(**changes: Any) -> dict[str, Any]:
    network = {"hidden": 128, "dendrite_segments": 0, **STATE, **changes.pop("network", {})}
    return {
        **read_recipe("cartpole"),
        **{"games": [NAME], "minibatches": 4, "network": network},
        **changes,
    }


@pytest.fixture(scope="module")
def agent() -> Agent:
    """Untrained, with weights of which its state depends on what it saw long ago."""
    config = NetworkConfig(
        observation_shape=(1, 4, 1),
        convolutions=(),
        hidden=12,
        actions=2,
        dendrite_segments=0,
        input="values",
        beta=0.75,
        **STATE,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = MTSparkNetwork(config)
        with torch.no_grad():
            assert network.recurrent is not None
            network.recurrent.weight.mul_(1.5)
            network.hidden.synapses.bias.uniform_(0.0, 0.5)
            for head in (network.advantage, network.value):
                assert head is not None
                head.weight.normal_()
                head.bias.normal_()
    return Agent(network.eval(), (cartpole(),), None, {"steps": 0})


def test_decisions_one_by_one_are_those_in_a_row(agent: Agent) -> None:
    """By plain NumPy: v <- beta v + W x + R s, fires above 1 and is set to 0."""
    network, beta = agent.network, 0.75
    frames = np.random.default_rng(0).integers(-128, 128, (6, 1, 1, 4, 1)).astype(np.int8)
    begins = torch.tensor([[True], [False], [False], [True], [False], [False]])
    task = torch.zeros(1, dtype=torch.long)
    assert network.recurrent is not None
    with torch.no_grad():
        trace = NetworkTrace()
        series, _ = network.unroll(torch.from_numpy(frames), task, begins=begins, trace=trace)
        weight, bias = (one.numpy() for one in network.folded_head())
        into = network.hidden.folded_weight().double().numpy()
        offset = network.hidden.folded_bias().double().numpy()
        loop = network.recurrent.weight.double().numpy()
    v, spikes, value = np.zeros(12), np.zeros(12), np.zeros(2)
    fired = []
    for number, frame in enumerate(frames):
        if begins[number]:
            v, spikes, value = np.zeros(12), np.zeros(12), np.zeros(2)
        seen = frame.reshape(4).astype(float) * network.config.message_value
        v = beta * v + into @ seen + offset + loop @ spikes
        spikes = (v > 1).astype(float)
        v = v * (1 - spikes)
        value = beta * value + weight @ spikes + bias
        assert np.array_equal(trace.layers["hidden"].spikes[number, 0].numpy(), spikes)
        assert np.allclose(series[number, 0].numpy(), value, atol=1e-4)
        fired.append(spikes.sum())
    assert 0 < sum(fired) < 6 * 12
    backend = TorchBackend(agent)
    for number, frame in enumerate(frames):
        if begins[number]:
            backend.start(1)
        assert np.allclose(backend.decide(frame, 0).values, series[number].numpy(), atol=1e-5)
    with pytest.raises(BadRequestError, match="2 frames, and 1 chips hold the state"):
        backend.decide(np.concatenate([frames[0]] * 2), 0)


def test_a_first_decision_is_that_of_a_network_of_one_step_without_memory() -> None:
    """With convolutions, dendrites and two tasks, whose gains act on all that arrives."""
    sizes = {
        "observation_shape": (2, 12, 12),
        "convolutions": (ConvSize(3, 5, 3), ConvSize(4, 2, 1)),
        "hidden": 10,
        "actions": 3,
        "tasks": 2,
        "dendrite_segments": 3,
        "time_steps": 1,
    }
    torch.manual_seed(0)
    network = MTSparkNetwork(NetworkConfig(**sizes, stateful=True))  # type: ignore[arg-type]
    plain = MTSparkNetwork(NetworkConfig(**sizes))  # type: ignore[arg-type]
    plain.load_state_dict(network.state_dict())
    frames = torch.randint(0, 256, (6, 2, 12, 12), dtype=torch.uint8)
    task = torch.tensor([0, 1, 0, 1, 1, 0])
    with torch.no_grad():
        expected = plain(frames, task)
        assert torch.allclose(network(frames, task), expected, atol=1e-6)
        series, memory = network.unroll(frames[None], task)
        assert torch.allclose(series[0], expected, atol=1e-6)
        again, _ = network.unroll(frames[None], task, memory, torch.ones(1, 6, dtype=torch.bool))
        assert torch.allclose(again[0], expected, atol=1e-6)
        gone_on, _ = network.unroll(frames[None], task, memory)
        assert not torch.allclose(gone_on[0], expected, atol=1e-3)


@pytest.mark.slow
def test_it_is_exported_and_plays_as_it_does_in_torch(agent: Agent, tmp_path: Path) -> None:
    deployed = mtspark.export(agent)
    network = deployed.network
    assert (network.stateful, network.time_steps) == (True, 1)
    assert [link.recurrent for link in network.connections].count(True) == 1
    options = {"episodes": 3, "seed": 5, "max_decisions": 20}
    first = play(EngineChip(network), network, "CartPole-v1", **options)
    assert (
        first.episodes == play(ReferenceChip(network), network, "CartPole-v1", **options).episodes
    )
    apart = play(ReferenceChip(network), network, "CartPole-v1", **options, one_at_a_time=True)
    assert first.episodes == apart.episodes
    folder = tmp_path / "bundle"
    deployed.save(folder)
    assert load_bundle(folder).network.stateful
    (_, on_chip), _ = pair_of_rows(load_bundle(folder), Question("CartPole-v1", 0.0, 0, 3, 20))
    assert on_chip.action_agreement > 0.9
    assert deployed.diff(against="engine", decisions=20).to_json()["equal"]
    looped = deployed.hil("CartPole-v1", **options).to_json()["points"][0]
    for ours, theirs in zip(looped["episodes"], first.episodes, strict=True):
        assert (ours["return"], ours["decisions"]) == (theirs.score, theirs.decisions)
        assert ours["states_lost"] == 0
    modelled = deployed.hil("CartPole-v1", **options, chip="loihi2")
    assert modelled.modelled is not None
    assert modelled.modelled.waiting_return == first.episodes[0].score
    for refused in (
        lambda: deployed.hil("CartPole-v1", max_decisions=2, overlap=True),
        lambda: deployed.hil("CartPole-v1", max_decisions=2, backend="lava-stock"),
        lambda: deployed.explain("CartPole-v1", decisions=5),
        lambda: deployed.diff(against="torch", decisions=5),
        lambda: deployed.run(np.zeros((3, 1, 4, 1), np.int8)),
    ):
        with pytest.raises(BadRequestError, match="its state survives decisions, and "):
            refused()


def test_its_graph_says_that_state_survives(agent: Agent, tmp_path: Path) -> None:
    """The float graph of a bundle, exported again, gives the same integers."""
    deployed = mtspark.export(agent)
    deployed.save(tmp_path / "bundle")
    again = mtspark.export(tmp_path / "bundle" / "graph.CartPole-v1.nir", input_bits=8).network
    assert again.stateful
    for link in deployed.network.connections:
        (same,) = (
            one
            for one in again.connections
            if one.target == link.target and one.recurrent == link.recurrent
        )
        assert np.array_equal(same.weights, link.weights)
        assert same.delay == link.delay


@pytest.mark.slow
def test_the_command_shows_both_connections_of_a_layer(
    agent: Agent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_agent(agent, tmp_path / "agent.pt")
    given = ["export", tmp_path / "agent.pt", "--stateful", "-o", tmp_path / "agent.deploy"]
    monkeypatch.setattr("sys.argv", ["mtspark", *map(str, given)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "hidden" in line)
    # Of 4 numbers and of 12 neurons, into 12.
    assert [cell.strip() for cell in row.split("│")][2:4] == ["12", str(12 * 4 + 12 * 12)]


@pytest.mark.parametrize(
    "options",
    [
        {"formats": ["nir"]},
        {"formats": ["netx"]},
        {"prune": True},
        {"palette": 4},
        {"calibrate": "mse"},
    ],
)
def test_what_takes_decisions_alone_is_refused_at_export(
    agent: Agent, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(BadRequestError, match="its state survives decisions, and ") as problem:
        mtspark.export(agent, **options).save(tmp_path / "bundle")
    assert str(problem.value).count("\n") == 0
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ({"time_steps": 4}, "stateful = true with 4 time steps.*set time_steps = 1"),
        ({"stateful": False}, "recurrent = true: .*set stateful = true"),
        ({"neuron": "relu"}, "stateful = true with neuron 'relu'"),
    ],
)
def test_what_such_a_network_cannot_be(network: dict[str, Any], text: str) -> None:
    with pytest.raises((BadNetworkError, BadRequestError), match=text):
        config_of(recipe(network=network))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"minibatches": 64}, "minibatches is 64: a stateful network learns from whole copies"),
        ({"quantisation_aware": True}, "without quantisation_aware"),
        ({"plasticity": {"measure_every": 10}}, "without plasticity"),
    ],
)
def test_what_it_cannot_learn_with(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(BadRequestError, match=text):
        config_of(recipe(**changes))


@pytest.mark.slow
def test_what_is_learned_from_is_what_was_played() -> None:
    """Over rollouts in which episodes end, and in which the state goes on from the one before."""
    config = config_of(recipe(rollout_steps=24, network={"hidden": 16}))
    assert isinstance(config, TrainConfig)
    trainer = PqnTrainer(config)
    begun = 0
    for _ in range(3):
        rollout = trainer.roll_out()
        with torch.no_grad():
            values = trainer.unrolled(trainer.network, rollout, rollout["frames"])
            some = trainer.unrolled(
                trainer.network, rollout, rollout["frames"], torch.tensor([5, 0, 31])
            )
        assert torch.allclose(some, values[:, [5, 0, 31]], atol=1e-5)
        greedy = torch.stack(list(values)).argmax(2)
        played = torch.cat([greedy[1:], rollout["next_greedy"][-1:]])
        assert (played == rollout["next_greedy"]).float().mean() > 0.999
        # An episode begins one step after its end was shown.
        ended = rollout["finished"][:-1]
        assert torch.equal(rollout["begins"][2:-1], ended[:-1])
        begun += int(rollout["begins"][2:].sum())
    assert begun > 10


class _Stop(RunCallback):
    def on_update(self, run: Run, update: Update) -> None:
        if run.reached >= 3_000:
            raise ZeroDivisionError


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    fields = recipe(total_steps=6_144, checkpoint_every_steps=1_024, network={"hidden": 16})
    whole = mtspark.load_agent(mtspark.train_agent(fields, tmp_path / "whole").path)
    with pytest.raises(ZeroDivisionError):
        mtspark.train_agent(fields, tmp_path / "parts", callbacks=[_Stop()])
    parts = mtspark.load_agent(mtspark.train_agent(fields, tmp_path / "parts").path)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[name]), name


@pytest.mark.slow
def test_it_learns_what_one_frame_does_not_tell(tmp_path: Path) -> None:
    """Where velocities are hidden, a pole is held up by memory alone."""
    shared = {"total_steps": 100_000, "minibatches": 8, "exploration_fraction": 0.2}
    best = {}
    for name, network in (
        ("memory", {}),
        ("none", {**dict.fromkeys(STATE, False), "time_steps": 4}),
    ):
        run = mtspark.train_agent(recipe(**shared, network=network), tmp_path / name)
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        best[name] = max(json.loads(line)["returns"][NAME] or 0 for line in lines)
        if name == "memory":
            played = mtspark.export(run.path).play(NAME, episodes=10)
    # Measured: 172 and 49.
    assert best["none"] < 70 < 110 < best["memory"]
    assert played.run.mean_return > 70


def test_the_shipped_agent_is_what_its_recipe_trains() -> None:
    agent = mtspark.load_agent(SHIPPED / "cartpole-hidden.pt")
    wanted = config_to_json(config_of(read_recipe("cartpole-hidden")))
    assert agent.training["config"] == wanted
    assert agent.network.config.stateful
    (task,) = agent.tasks
    assert task.environment is not None
    assert (task.game, task.environment.found.size) == ("CartPole-v1", 2)


@pytest.mark.slow
def test_the_shipped_agent_remembers_on_the_chip() -> None:
    """Its card's games again; and at rest before each decision it drops the pole."""
    card = json.loads((SHIPPED / "card.json").read_text())
    chip = mtspark.export(SHIPPED / "cartpole-hidden.pt")
    scores = [one.score for one in chip.play(episodes=30).run.episodes]
    on_chip = card["tasks"][0]["scores"][1]
    assert on_chip["backend"] == "engine"
    assert np.mean(scores) == pytest.approx(on_chip["value"])
    assert np.mean(scores) > 300

    class Forgets(EngineChip):
        def decide(self, frames: Any, task: int, *, trace: bool = False) -> Any:
            self.start(len(frames))
            return super().decide(frames, task, trace=trace)

    forgot = play(Forgets(chip.network), chip.network, "cartpole-hidden", episodes=5, seed=0)
    assert forgot.mean_return < 60

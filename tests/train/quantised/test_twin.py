"""The twin is the chip, spike for spike, and it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mtspark.convert.nir.agent import Head, agent_to_nir
from mtspark.convert.nir.reader import import_tasks
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.errors import BadNetworkError
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.train.checkpoint.agent import Agent, load_agent
from mtspark.train.networks.config import ConvSize
from mtspark.train.quantised.integers import TwinOptions, round_weights, straight
from mtspark.train.quantised.twin import HEAD, Twin, TwinTrace, decayed

MakeAgent = Callable[..., Agent]
AGENTS = Path(__file__).resolve().parents[3] / "examples" / "agents"
NETWORKS: list[dict[str, Any]] = [
    {},
    {"beta": 0.9, "time_steps": 7},
    {"beta": 0.0, "threshold": 0.4},
    {"dendrite_segments": 0, "dueling": False},
    {"dendrite_layers": ("conv1", "hidden"), "drive": 0.5, "threshold": 0.5},
    {"dendrite_layers": ("conv2",), "conv_gate": "channel", "context": "embedding"}
    | {"context_size": 5},
    {"observation_shape": (3, 17, 12), "convolutions": (ConvSize(5, 4, 2),), "tasks": 1},
    {"dense": (12, 7), "dendrite_layers": ("dense2", "hidden")},
    {"convolutions": (), "dense": (16,), "observation_shape": (1, 9, 6)},
]
OPTIONS = [
    TwinOptions(),
    TwinOptions(weight_bits=4),
    TwinOptions(per_channel=False),
    TwinOptions(keep_sums=False, with_value=False),
]


def exported(agent: Agent, options: TwinOptions) -> ChipNetwork:
    head = Head.DUELING if options.with_value else Head.ADVANTAGE
    return quantise(
        import_tasks(agent_to_nir(agent, head), name="twin"),
        agent.tasks,
        agent.protocol,
        name="twin",
        options=QuantiseOptions(options.weight_bits, options.per_channel, options.keep_sums),
    )


def check_integers(twin: Twin, chip: ChipNetwork) -> None:
    found = twin.integers()
    assert [population.name for population in chip.populations] == list(found)
    for population, link in zip(chip.populations, chip.connections, strict=True):
        whole = found[population.name]
        weights = (whole.weight * whole.step).detach().numpy()
        np.testing.assert_array_equal(weights, link.weights)
        assert whole.exponent == link.exponent
        assert whole.bias_exponent == population.bias_exponent
        per_channel = whole.bias.detach().numpy().reshape(-1, *[1] * (len(population.shape) - 1))
        bias = population.bias_mantissa << population.bias_exponent
        np.testing.assert_array_equal(np.broadcast_to(per_channel, population.shape), bias)
        if whole.thresholds is not None:
            assert whole.membrane_decay == population.membrane_decay
            np.testing.assert_array_equal(whole.thresholds.detach().numpy(), population.thresholds)


def check_decisions(twin: Twin, chip: ChipNetwork, frames: NDArray[np.uint8], task: int) -> int:
    """Compare all spikes and membranes, each layer in its own window; returns the spikes."""
    trace = TwinTrace()
    with torch.no_grad():
        tasks = torch.full((len(frames),), task)
        values = twin(torch.from_numpy(frames), tasks, trace)
    decision = ReferenceChip(chip).decide(frames, task, trace=True)
    assert decision.trace is not None
    fired = 0
    for name in [*twin.network.layer_names, HEAD]:
        window = chip.window(name)
        spikes = decision.trace.spikes[name][window]
        np.testing.assert_array_equal(trace.spikes[name].numpy(), spikes, err_msg=name)
        np.testing.assert_array_equal(
            trace.membranes[name].numpy(), decision.trace.membranes[name][window], err_msg=name
        )
        fired += int(spikes.sum())
    np.testing.assert_array_equal(values.numpy(), decision.values)
    return fired


def random_frames(shape: tuple[int, ...], count: int = 3) -> NDArray[np.uint8]:
    frames = np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)
    frames[1] //= 4
    return frames


@pytest.mark.parametrize("changes", NETWORKS)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_integer_spike_and_membrane_is_the_chips(
    make_agent: MakeAgent, changes: Any, options: TwinOptions
) -> None:
    agent = make_agent(**changes)
    twin, chip = Twin(agent.network, options), exported(agent, options)
    check_integers(twin, chip)
    frames = random_frames(agent.network.config.observation_shape)
    for task in range(agent.network.config.tasks):
        assert check_decisions(twin, chip, frames, task) > 0


def test_a_neuron_that_is_off_is_off_in_both(make_agent: MakeAgent) -> None:
    agent = make_agent()
    assert agent.network.dendrites is not None
    with torch.no_grad():
        agent.network.dendrites.segments[4, :, 1] = -200.0
    twin, chip = Twin(agent.network), exported(agent, TwinOptions())
    check_integers(twin, chip)
    check_decisions(twin, chip, random_frames(agent.network.config.observation_shape), 1)


def test_a_batch_of_mixed_tasks_is_answered_sample_by_sample(make_agent: MakeAgent) -> None:
    agent = make_agent(dendrite_layers=("conv1", "hidden"))
    twin = Twin(agent.network)
    frames = torch.from_numpy(random_frames(agent.network.config.observation_shape, 4))
    tasks = torch.tensor([1, 0, 0, 1])
    with torch.no_grad():
        mixed = twin(frames, tasks)
        alone = [twin(frames[i : i + 1], tasks[i : i + 1]) for i in range(4)]
    assert torch.equal(mixed, torch.cat(alone))


@pytest.mark.parametrize("name", ["pong", "mtspark-3games"])
@pytest.mark.slow
def test_a_shipped_agent_on_frames_of_its_games(name: str) -> None:
    from mtspark.core.environments.atari import make_games

    agent = load_agent(AGENTS / name / f"{name}.pt")
    assert agent.protocol is not None
    twin, chip = Twin(agent.network), exported(agent, TwinOptions())
    check_integers(twin, chip)
    generator = np.random.default_rng(0)
    for row, task in enumerate(agent.tasks):
        games = make_games(task, agent.protocol, 2)
        try:
            games.reset(seed=3)
            kept = []
            for step in range(60):
                frames = games.step(generator.choice(task.legal_actions, size=2))[0]
                if step % 20 == 19:
                    kept.append(frames.copy())
        finally:
            games.close()
        assert check_decisions(twin, chip, np.concatenate(kept), row) > 1000


def test_gradients_are_those_of_the_float_network(make_agent: MakeAgent) -> None:
    """With fine weights the twin rounds little, and both networks descend alike."""
    agent = make_agent(dendrite_layers=("conv2", "hidden"))
    network = agent.network
    frames = torch.from_numpy(random_frames(network.config.observation_shape, 16))
    tasks = torch.arange(16) % 2
    directions = []
    for model in (network, Twin(network)):
        network.zero_grad()
        goal = torch.linspace(-1, 1, 16)[:, None]
        functional.mse_loss(model(frames, tasks).float(), goal.expand(-1, 18)).backward()
        directions.append(
            {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )
    floats, integers = directions
    assert floats.keys() == integers.keys()
    assert "dendrites.segments" in floats
    assert "conv_dendrites.conv2.segments" in floats
    for name, gradient in floats.items():
        same = functional.cosine_similarity(gradient.flatten(), integers[name].flatten(), dim=0)
        ratio = integers[name].norm() / gradient.norm()
        assert same > 0.8, name
        assert 0.5 < ratio < 2, name


def test_straight_gives_the_exact_value_and_the_smooth_gradient() -> None:
    smooth = torch.tensor([0.4, 1.6], requires_grad=True)
    result = straight(smooth.round(), smooth * 3)
    assert result.tolist() == [0.0, 2.0]
    result.sum().backward()
    assert smooth.grad is not None
    assert smooth.grad.tolist() == [3.0, 3.0]


def test_decay_rounds_toward_zero() -> None:
    values = torch.tensor([-8388607.0, -3.0, 5.0, 8388607.0])
    for decay in (0, 410, 2048, 4096):
        expected = [int(abs(v) * (4096 - decay) // 4096) * (1 if v > 0 else -1) for v in values]
        assert decayed(values, decay).tolist() == [int(e) for e in expected]


def test_sums_of_kernels_survive_rounding() -> None:
    weights = 20 * torch.randn(5, 3, 4, 4, dtype=torch.float64)
    rounded = round_weights(weights, TwinOptions())
    assert (rounded - weights).abs().max() < 1
    drift = (rounded - weights).sum((2, 3)).abs()
    assert drift.max() <= 0.5


def test_what_no_chip_runs_has_no_twin(make_agent: MakeAgent) -> None:
    with pytest.raises(BadNetworkError, match="k_winners"):
        Twin(make_agent(k_winners=0.3).network)
    with pytest.raises(BadNetworkError, match="9 weight bits"):
        Twin(make_agent().network, TwinOptions(weight_bits=9))


@pytest.mark.slow
def test_fused_steps_are_the_chips_and_have_the_same_gradients(make_agent: MakeAgent) -> None:
    agent = make_agent(dendrite_layers=("conv1", "hidden"), time_steps=3)
    network, chip = agent.network, exported(agent, TwinOptions())
    frames = random_frames(network.config.observation_shape)
    gradients = []
    for network.compiled in (False, True):
        twin = Twin(network)
        assert check_decisions(twin, chip, frames, 1) > 0
        network.zero_grad()
        tasks = torch.tensor([0, 1, 1])
        functional.mse_loss(twin(torch.from_numpy(frames), tasks), torch.ones(3, 18)).backward()
        gradients.append(network.hidden.synapses.weight.grad)
    plain, fused = gradients
    assert plain is not None
    assert fused is not None
    assert plain.norm() > 0
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("changes", [{}, {"time_steps": 3, "dendrite_layers": ("conv1",)}])
def test_rough_gradients_change_nothing_that_acts(make_agent: MakeAgent, changes: Any) -> None:
    agent = make_agent(**changes)
    network, chip = agent.network, exported(agent, TwinOptions())
    frames = random_frames(network.config.observation_shape, 16)
    gradients = []
    for rough in (False, True):
        twin = Twin(network, bfloat16_gradients=rough)
        assert check_decisions(twin, chip, frames, 1) > 0
        network.zero_grad()
        values = twin(torch.from_numpy(frames), torch.arange(16) % 2)
        # With gradients, too, forward is exact.
        assert torch.equal(
            values[1::2], twin(torch.from_numpy(frames), torch.ones(16).long())[1::2]
        )
        functional.mse_loss(
            values, torch.linspace(-1, 1, 16)[:, None].expand(-1, 18).double()
        ).backward()
        gradients.append(
            {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )
    exact, rough_ones = gradients
    assert exact.keys() == rough_ones.keys()
    for name, gradient in exact.items():
        off = (rough_ones[name] - gradient).norm() / gradient.norm()
        assert off < 0.05, name
    assert any(not torch.equal(rough_ones[name], gradient) for name, gradient in exact.items())

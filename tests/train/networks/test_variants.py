"""Variants, neuron constants, contexts and where dendrites sit; what deploys and what not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtspark.convert.nir.agent import agent_to_nir, dendritic_gains
from mtspark.core.errors import BadFileError, BadNetworkError, BadRequestError
from mtspark.train.checkpoint.agent import Agent, load_agent, save_agent
from mtspark.train.networks.config import FIRST_FIELDS, ConvSize, NetworkConfig, NeuronConstants
from mtspark.train.networks.dendrites import ActiveDendrites, TaskContext, prototype
from mtspark.train.networks.network import MTSparkNetwork, NetworkTrace
from mtspark.train.networks.neurons import (
    DeployableLeaky,
    run_layer,
    spike_with_surrogate,
    step,
    surrogate_derivative,
)
from mtspark.train.networks.variants import NEURONS, VARIANTS, why_not_deployable, with_variant

MakeAgent = Callable[..., Agent]
SMALL = NetworkConfig(
    observation_shape=(2, 20, 20),
    convolutions=(ConvSize(3, 5, 3), ConvSize(4, 3, 1)),
    hidden=10,
    tasks=2,
)
EXAMPLE = (
    Path(__file__).resolve().parents[3] / "examples" / "agents" / "pong-waiting" / "pong-waiting.pt"
)


def frames(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 2, 20, 20), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("surrogate", "slope", "at_half"),
    [
        ("inverse_square", 2.0, 1 / 2),
        ("atan", 2.0, 1 / (1 + (math.pi / 2) ** 2)),
        ("sigmoid", 4.0, 4 * math.exp(-2) / (1 + math.exp(-2)) ** 2),
        ("fast_sigmoid", 25.0, 1 / 13.5**2),
        ("triangle", 1.0, 0.5),
    ],
)
def test_surrogates_by_hand(surrogate: str, slope: float, at_half: float) -> None:
    overshoot = torch.tensor([-0.5, 0.5], requires_grad=True)
    spikes = spike_with_surrogate(overshoot, surrogate, slope)
    assert spikes.tolist() == [0.0, 1.0]
    spikes.sum().backward()
    assert overshoot.grad is not None
    assert overshoot.grad.tolist() == pytest.approx([at_half, at_half])
    at_zero = surrogate_derivative(torch.zeros(1), surrogate, slope).item()
    assert at_zero == pytest.approx(slope / {"atan": 2, "sigmoid": 4}.get(surrogate, slope))


def test_resets_by_hand() -> None:
    current = torch.tensor([2.5])
    membranes = {}
    for reset in ("zero", "subtract", "none"):
        spike, membrane = step(current, None, NeuronConstants(reset=reset))
        assert spike.item() == 1
        membranes[reset] = membrane.item()
    assert membranes == {"zero": 0.0, "subtract": 1.5, "none": 2.5}


def test_an_attached_reset_lets_the_gradient_through() -> None:
    for detached, expected in ((True, 0.0), (False, -2.0 / 5)):
        current = torch.tensor([2.0], requires_grad=True)
        _, membrane = step(current, None, NeuronConstants(detach_reset=detached))
        (gradient,) = torch.autograd.grad(membrane.sum(), current)
        # membrane = c (1 - s(c - 1)): 1 - s - c s', with s' = 1 / (1 + 4) at an overshoot of 1
        assert gradient.item() == pytest.approx(expected)


def test_only_the_winners_fire() -> None:
    currents = torch.tensor([[[1.2, 3.0, 0.5, 1.1], [1.5, 1.4, 1.3, 1.2]]])
    spikes = run_layer(DeployableLeaky(NeuronConstants(winners=2)), currents, 1)
    assert spikes[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]


def test_k_winners_bound_the_hidden_layer_in_every_step() -> None:
    torch.manual_seed(0)
    network = MTSparkNetwork(replace(SMALL, k_winners=0.25, threshold=0.05))
    trace = NetworkTrace()
    with torch.no_grad():
        network(frames(), torch.tensor([0, 1, 0]), trace)
    assert trace.layers["hidden"].spikes.sum(-1).max() == 3  # of 10, rounded up
    assert trace.layers["conv1"].spikes.sum((2, 3, 4)).max() > 3


@pytest.mark.parametrize(
    ("share", "hidden", "winners"),
    [(0.07, 100, 7), (0.14, 50, 7), (0.29, 100, 29), (0.25, 10, 3), (0.001, 10, 1), (1.0, 10, 10)],
)
def test_winners_are_a_share_whatever_floats_make_of_it(
    share: float, hidden: int, winners: int
) -> None:
    config = NetworkConfig(hidden=hidden, k_winners=share)
    assert config.neuron_constants("hidden").winners == winners


def test_max_takes_the_largest_segment_and_absolute_max_the_strongest() -> None:
    gains = {}
    for selection in ("max", "absolute_max"):
        dendrites = ActiveDendrites(1, 2, 1, selection)
        with torch.no_grad():
            dendrites.segments.copy_(torch.tensor([[[0.5], [-2.0]]]))
            gains[selection] = dendrites(torch.ones(1, 1)).item()
    assert gains["max"] == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert gains["absolute_max"] == pytest.approx(1 / (1 + math.exp(2.0)))


@pytest.mark.parametrize(
    ("layer", "gate", "distinct"),
    [("hidden", "neuron", 10), ("conv1", "neuron", 108), ("conv1", "channel", 3)],
)
def test_dendrites_on_any_layer_gate_each_neuron_or_channel(
    layer: str, gate: str, distinct: int
) -> None:
    torch.manual_seed(0)
    network = MTSparkNetwork(replace(SMALL, dendrite_layers=(layer,), conv_gate=gate))
    plain = MTSparkNetwork(replace(SMALL, dendrite_segments=0))
    plain.load_state_dict(
        {name: value for name, value in network.state_dict().items() if "segments" not in name}
    )
    one, trace, ungated = frames(1), NetworkTrace(), NetworkTrace()
    with torch.no_grad():
        gains = network.gains(layer, network.context())
        assert gains is not None
        network(one.repeat(2, 1, 1, 1), torch.tensor([0, 1]), trace)
        plain(one.repeat(2, 1, 1, 1), torch.tensor([0, 1]), ungated)
    assert gains.shape == (2, *network.layer_shapes[layer])
    assert [row.unique().numel() for row in gains] == [distinct, distinct]
    first = network.layer_names.index(layer) == 0
    if first:
        # Nothing before it differs, so its currents are the plain network's times the gains.
        expected = ungated.layers[layer].current[0] * gains
        torch.testing.assert_close(trace.layers[layer].current[0], expected)
    for name in network.layer_names:
        same = torch.equal(trace.layers[name].spikes[:, 0], trace.layers[name].spikes[:, 1])
        assert same == (network.layer_names.index(name) < network.layer_names.index(layer)), name


def test_contexts_one_hot_embedding_prototype() -> None:
    torch.manual_seed(0)
    one_hot = TaskContext("one_hot", 3, 0)
    assert torch.equal(one_hot(), torch.eye(3))
    assert not one_hot.state_dict()
    embedding = TaskContext("embedding", 3, 5)
    assert embedding().shape == (3, 5)
    assert [name for name, _ in embedding.named_parameters()] == ["vectors"]
    stand_in = TaskContext("prototype", 2, 4)
    dark_left = torch.zeros(6, 1, 4, 4, dtype=torch.uint8)
    dark_left[:, :, 2:] = 200
    dark_right = 200 - dark_left
    stand_in.set_prototypes([dark_left, dark_right])
    assert not list(stand_in.parameters())
    torch.testing.assert_close(stand_in().norm(dim=1), torch.ones(2))
    torch.testing.assert_close(stand_in()[0], prototype(dark_left, 4)[0])
    asked = torch.cat([dark_right[:2], dark_left[:1]])
    assert stand_in.nearest(asked).tolist() == [1, 1, 0]


@pytest.mark.parametrize("context", ["embedding", "prototype"])
def test_any_context_is_a_gain_a_neuron_and_exports(make_agent: MakeAgent, context: str) -> None:
    agent = make_agent(context=context, context_size=6)
    network = agent.network
    if context == "prototype":
        network.context.set_prototypes([frames(4), frames(4) // 5])
    vectors = network.context()
    with torch.no_grad():
        by_index = network(frames(2), torch.tensor([0, 1]))
        by_vector = network(frames(2), vectors[[0, 1]].detach())
        gains = network.gains("hidden", vectors)
    torch.testing.assert_close(by_index, by_vector)
    assert gains is not None
    graphs = agent_to_nir(agent)
    for index, task in enumerate(("pong", "breakout")):
        thresholds = graphs[task].nodes["hidden_lif"].v_threshold
        expected = 1.0 / gains[index].double().numpy()
        assert thresholds == pytest.approx(expected, rel=1e-6)


def test_learned_context_and_dendrites_get_gradients(make_agent: MakeAgent) -> None:
    network = make_agent(
        context="embedding", context_size=4, dendrite_layers=("conv1", "hidden")
    ).network
    network(frames(2), torch.tensor([0, 1])).square().mean().backward()
    for name in ("context.vectors", "dendrites.segments", "conv_dendrites.conv1.segments"):
        gradient = dict(network.named_parameters())[name].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0, name


def test_gated_convolutions_reach_the_graph_as_thresholds(make_agent: MakeAgent) -> None:
    agent = make_agent(dendrite_layers=("conv1",), drive=0.5)
    graphs = agent_to_nir(agent)
    gains = dendritic_gains(agent, 1, "conv1")
    assert gains.shape == agent.network.layer_shapes["conv1"]
    assert graphs["breakout"].nodes["conv1_lif"].v_threshold == pytest.approx(1 / gains)
    bias = agent.network.layer("conv1").synapses.bias
    assert bias is not None
    halved = bias.detach().numpy() / 2
    assert graphs["pong"].nodes["conv1"].bias == pytest.approx(halved)


def test_dqn_is_a_plain_relu_network() -> None:
    torch.manual_seed(0)
    network = MTSparkNetwork(with_variant(SMALL, "dqn"))
    with torch.no_grad():
        values = network(frames(), torch.tensor([0, 1, 1]))
        signal = frames().float() / 255
        for name in network.layer_names:
            layer = network.layer(name)
            signal = layer.current(signal.flatten(1) if name == "hidden" else signal).relu()
        expected = network.advantage(signal)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_what_they_say_and_learn(name: str) -> None:
    torch.manual_seed(0)
    config = with_variant(replace(SMALL, dendrite_segments=3), name)
    network = MTSparkNetwork(config)
    assert (network.dendrites is not None) == name.startswith("mtspark")
    assert (network.value is not None) == (name in ("dueling-dqn", "mtspark-add"))
    assert (why_not_deployable(config) is None) == (config.neuron == "lif")
    if config.dendrite_segments:
        assert config.dendrite_segments == 3
    network(frames(), torch.tensor([0, 1, 0])).square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("source", NEURONS)
def test_neuron_constants_of_every_source_run(source: str) -> None:
    config = with_variant(replace(SMALL, threshold=0.3), "mtspark-add", source)
    values = MTSparkNetwork(config)(frames(), torch.tensor([0, 1, 0]))
    assert torch.isfinite(values).all()
    assert why_not_deployable(config) is None


def test_the_drive_of_a_time_constant_is_spikingjellys_lif() -> None:
    """H = V + (X - V) / tau with tau 2 is beta 0.5 and half the current."""
    torch.manual_seed(0)
    network = MTSparkNetwork(with_variant(SMALL, "dsqn", "switchmt"))
    trace = NetworkTrace()
    with torch.no_grad():
        network(frames(), torch.tensor([0, 0, 0]), trace)
        layer = network.layer("conv1")
        weight = layer.standardise(layer.synapses.weight)
        drive = torch.nn.functional.conv2d(
            frames().float() / 255, weight, layer.synapses.bias, stride=3
        )
    membrane = torch.zeros_like(drive)
    for number in range(4):
        charged = membrane + (drive - membrane) / 2
        spikes = (charged > 1).float()
        membrane = charged * (1 - spikes)
        assert torch.equal(trace.layers["conv1"].spikes[number], spikes)
    assert spikes.mean() > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"neuron": "relu"}, "send numbers"),
        ({"k_winners": 0.1}, "k_winners"),
        ({"reset": "subtract"}, "reset 'subtract'"),
        ({"beta": 1.0}, "beta 1"),
        ({"threshold": -0.1}, "threshold -0.1"),
    ],
)
def test_what_does_not_deploy_says_why(make_agent: MakeAgent, changes: Any, reason: str) -> None:
    agent = make_agent(**changes)
    found = why_not_deployable(agent.network.config)
    assert found is not None
    assert reason in found
    assert "\n" not in found
    with pytest.raises(BadNetworkError, match="cannot be exported"):
        agent_to_nir(agent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surrogate": "step"}, "surrogate 'step'"),
        ({"neuron": "gelu"}, "neuron 'gelu'"),
        ({"dendrite_layers": ("conv9",)}, "conv9"),
        ({"context": "embedding"}, "needs a size"),
        ({"context_size": 4}, "one_hot takes none"),
        ({"k_winners": 1.5}, "k_winners 1.5"),
        ({"drive": 0.0}, "drive 0.0"),
        ({"time_steps": 0}, "0 time steps"),
        ({"hidden": 0}, "network.hidden has 0: at least 1"),
        ({"convolutions": (ConvSize(2, 90, 1),)}, "conv1 would have no neurons"),
        ({"dense": (4, 0)}, "network.dense has 0: at least 1"),
        ({"dense": (4.0,)}, r"network.dense has \(4.0,\): whole numbers"),
        (
            {"masked_layers": ("dense2",), "dense": (4,)},
            "dense2: this network has conv1, conv2, dense1, hidden",
        ),
    ],
)
def test_choices_that_do_not_exist_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(BadNetworkError, match=message):
        MTSparkNetwork(replace(SMALL, **changes))


def test_unknown_variants_and_sources_are_refused() -> None:
    with pytest.raises(BadRequestError, match="'mtspark-x'"):
        with_variant(SMALL, "mtspark-x")
    with pytest.raises(BadRequestError, match="'loihi9'"):
        with_variant(SMALL, "dsqn", "loihi9")


def test_new_choices_survive_the_checkpoint(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent(
        dendrite_layers=("conv2", "hidden"),
        conv_gate="channel",
        context="prototype",
        context_size=3,
    )
    agent.network.context.set_prototypes([frames(2), frames(2) // 9])
    save_agent(agent, tmp_path / "a.pt")
    again = load_agent(tmp_path / "a.pt")
    assert again.network.config == agent.network.config
    with torch.no_grad():
        ours = agent.network(frames(2), torch.tensor([0, 1]))
        theirs = again.network(frames(2), torch.tensor([0, 1]))
    assert torch.equal(ours, theirs)


def test_networks_saved_before_these_choices_take_the_defaults(
    make_agent: MakeAgent, tmp_path: Path
) -> None:
    path = tmp_path / "old.pt"
    save_agent(make_agent(), path)
    content = torch.load(path, weights_only=True)
    later = {entry.name for entry in fields(NetworkConfig)} - set(FIRST_FIELDS)
    assert len(FIRST_FIELDS) == 10
    assert "neuron" in later
    content["network"] = {name: content["network"][name] for name in FIRST_FIELDS}
    torch.save(content, path)
    assert asdict(load_agent(path).network.config) == asdict(make_agent().network.config)
    del content["network"]["beta"]
    torch.save(content, path)
    with pytest.raises(BadFileError, match="network sizes"):
        load_agent(path)
    content["network"] |= {"beta": 0.5, "surrogate": "none such"}
    torch.save(content, path)
    with pytest.raises(BadFileError, match="none such"):
        load_agent(path)


def test_the_shipped_agent_is_the_default_network() -> None:
    saved = torch.load(EXAMPLE, weights_only=True)["network"]
    config = load_agent(EXAMPLE).network.config
    untouched = replace(
        NetworkConfig(), hidden=config.hidden, convolutions=config.convolutions, tasks=config.tasks
    )
    assert config == untouched
    assert set(saved) <= set(asdict(config))


def test_a_one_hot_context_adds_nothing_to_the_checkpoint(make_agent: MakeAgent) -> None:
    network = make_agent(dendrite_segments=0).network
    assert network.gains("hidden", network.context()) is None
    assert not [name for name in network.state_dict() if "context" in name]


def test_tasks_without_a_game_are_saved_without_a_protocol(
    make_agent: MakeAgent, tmp_path: Path
) -> None:
    agent = make_agent()
    agent.tasks = tuple(replace(task, game="", legal_actions=()) for task in agent.tasks)
    agent.protocol = None
    save_agent(agent, tmp_path / "images.pt")
    again = load_agent(tmp_path / "images.pt")
    assert again.protocol is None
    assert again.tasks == agent.tasks

"""The network is a plain loop over time of stock snntorch neurons, and it can learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from torch.nn import functional

from mtspark.train.checkpoint.agent import Agent
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import (
    MTSparkNetwork,
    NetworkTrace,
    ScaledStandardisation,
    legal_action_mask,
    mask_illegal,
)

MakeAgent = Callable[..., Agent]


def random_frames(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Two samples, the second one dark: mistaking one for the other shows."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (2, *shape), generator=generator, dtype=torch.uint8)
    frames[1] //= 4
    return frames


def plain_loop(
    network: MTSparkNetwork, frames: torch.Tensor, tasks: list[int]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Q and spikes, step by step, sample by sample, from the folded weights alone."""
    config = network.config
    layers = [*network.convolutions, *network.dense, network.hidden]
    values: list[torch.Tensor] = []
    logs: dict[str, list[torch.Tensor]] = {name: [] for name in network.layer_names}
    for frame, task in zip(frames, tasks, strict=True):
        neurons = [
            snn.Leaky(
                beta=config.beta,
                threshold=config.threshold,
                reset_mechanism="zero",
                reset_delay=False,
            )
            for _ in layers
        ]
        states = [neuron.reset_mem() for neuron in neurons]
        gains = {}
        for own, layer in zip(network.layer_names, layers, strict=True):
            dendrites = network.dendrites_of(own)
            if dendrites is not None:
                responses = dendrites.segments[:, :, task]
                strongest = responses.abs().argmax(1, keepdim=True)
                gains[layer] = torch.sigmoid(responses.gather(1, strongest).squeeze(1))
        rates, logged = torch.zeros(config.hidden), []
        for _ in range(config.time_steps):
            signal = frame[None] / 255.0
            for index, (layer, neuron) in enumerate(zip(layers, neurons, strict=True)):
                weight, bias = layer.folded_weight(), layer.synapses.bias
                if weight.dim() == 2:
                    current = functional.linear(signal.flatten(1), weight, bias)
                    current = current * gains.get(layer, torch.ones(()))
                else:
                    stride = layer.synapses.stride
                    current = functional.conv2d(signal, weight, bias, stride=stride)
                signal, states[index] = neuron(current, states[index])
                logged.append(signal[0])
            rates += signal[0]
        for index, name in enumerate(network.layer_names):
            logs[name].append(torch.stack(logged[index :: len(layers)]))
        rate = rates / config.time_steps
        advantage = network.advantage(rate)
        if network.value is None:
            values.append(advantage)
        else:
            values.append(network.value(rate) + advantage - advantage.mean())
    return torch.stack(values), {name: torch.stack(log, dim=1) for name, log in logs.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 0.9, "time_steps": 7},
        {"observation_shape": (3, 17, 12), "convolutions": (ConvSize(5, 4, 2),)},
        {"dendrite_segments": 0, "dueling": False, "threshold": 0.6},
        {"dense": (12, 7)},
        {"dense": (12, 7), "dendrite_layers": ("dense2", "hidden")},
        {"convolutions": (), "dense": (9,), "dueling": False},
    ],
)
def test_forward_equals_a_plain_loop_of_stock_neurons(make_agent: MakeAgent, changes: Any) -> None:
    network = make_agent(**changes).network
    frames, tasks = random_frames(network.config.observation_shape), [1, 0]
    trace = NetworkTrace()
    with torch.no_grad():
        values = network(frames, torch.tensor(tasks), trace)
        expected, spikes = plain_loop(network, frames, tasks)
    for name, log in spikes.items():
        assert 0 < log.mean() < 1
        assert torch.equal(trace.layers[name].spikes, log), name
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)


def test_every_sample_is_answered_alone(make_agent: MakeAgent) -> None:
    network = make_agent().network
    frames = random_frames(network.config.observation_shape)
    with torch.no_grad():
        both = network(frames, torch.tensor([0, 1]))
        alone = [network(frames[i : i + 1], torch.tensor([i])) for i in range(2)]
        again = network(frames, torch.tensor([0, 1]))
    torch.testing.assert_close(both, torch.cat(alone))
    assert torch.equal(both, again)  # no state is kept between decisions


def test_the_gate_scales_each_neurons_current_bias_included(make_agent: MakeAgent) -> None:
    network = make_agent().network
    frame = random_frames(network.config.observation_shape)[:1].repeat(2, 1, 1, 1)
    trace = NetworkTrace()
    with torch.no_grad():
        network(frame, torch.tensor([0, 1]), trace)
        ungated = network.hidden.current(trace.layers["conv2"].spikes.flatten(0, 1).flatten(1))
        ratio = trace.layers["hidden"].current / ungated.unflatten(0, (4, 2))
        assert network.dendrites is not None
        gains = network.dendrites(torch.eye(2))
    assert gains.unique().numel() == 20
    torch.testing.assert_close(ratio, gains.expand(4, 2, 10), rtol=1e-4, atol=1e-5)


def test_the_task_changes_the_hidden_layer_only(make_agent: MakeAgent) -> None:
    network = make_agent().network
    frame = random_frames(network.config.observation_shape)[:1].repeat(2, 1, 1, 1)
    trace = NetworkTrace()
    with torch.no_grad():
        values = network(frame, torch.tensor([0, 1]), trace)
    same = {
        name: torch.equal(log.spikes[:, 0], log.spikes[:, 1]) for name, log in trace.layers.items()
    }
    assert same == {"conv1": True, "conv2": True, "hidden": False}
    assert not torch.equal(values[0], values[1])


def test_standardisation_by_hand() -> None:
    standardise = ScaledStandardisation(2)
    with torch.no_grad():
        standardise.gain.copy_(torch.tensor([1.0, 3.0]))
        # Rows of mean 3 and std 2, and of mean 0 and std 1.
        result = standardise(torch.tensor([[1.0, 5.0, 1.0, 5.0], [-1.0, 1.0, 1.0, -1.0]]))
    # 2 g (w - mean) / (std sqrt 4)
    expected = torch.tensor([[-1.0, 1.0, -1.0, 1.0], [-3.0, 3.0, 3.0, -3.0]])
    torch.testing.assert_close(result, expected)


def test_standardised_channels_have_mean_0_and_std_2_gain_over_root_fan_in() -> None:
    torch.manual_seed(0)
    standardise = ScaledStandardisation(3)
    with torch.no_grad():
        standardise.gain.copy_(torch.tensor([0.5, 1.0, 2.0]))
        result = standardise(5 + 7 * torch.randn(3, 4, 3, 2)).flatten(1)
    torch.testing.assert_close(result.mean(1), torch.zeros(3), rtol=0, atol=1e-6)
    expected = 2 * standardise.gain.detach() / math.sqrt(24)
    torch.testing.assert_close(result.std(1, correction=0), expected)


def test_a_channel_of_equal_weights_becomes_zero_not_nan() -> None:
    with torch.no_grad():
        assert ScaledStandardisation(1)(torch.full((1, 5), 0.25)).tolist() == [[0.0] * 5]


def test_dueling_values_have_the_value_stream_as_their_mean(make_agent: MakeAgent) -> None:
    network = make_agent().network
    frames, trace = random_frames(network.config.observation_shape), NetworkTrace()
    with torch.no_grad():
        values = network(frames, torch.tensor([0, 1]), trace)
        rate = trace.layers["hidden"].spikes.mean(0)
        assert network.value is not None
        torch.testing.assert_close(values.mean(1), network.value(rate)[:, 0])
        advantage = network.advantage(rate)
    torch.testing.assert_close(values - values[:, :1], advantage - advantage[:, :1])
    assert (values[0].mean() - values[1].mean()).abs() > 0.01


def test_illegal_actions_are_never_the_best() -> None:
    mask = legal_action_mask([(0, 3), (1,)], 4)
    assert mask.tolist() == [[True, False, False, True], [False, True, False, False]]
    values = torch.tensor([[-9e5, 5.0, 7.0, -8e5], [3.0, -9e5, 4.0, 5.0]])
    masked = mask_illegal(values, mask)
    assert masked.argmax(1).tolist() == [3, 1]
    assert torch.equal(masked[mask], values[mask])


def test_a_small_network_learns_which_half_is_lit() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)

    def lit_halves(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        side = torch.randint(0, 2, (count,), generator=generator)
        frames = torch.randint(0, 60, (count, 1, 10, 12), generator=generator)
        frames[side == 0, :, :, :6] += 150
        frames[side == 1, :, :, 6:] += 150
        return frames.to(torch.uint8), side

    sizes = NetworkConfig(
        observation_shape=(1, 10, 12), convolutions=(ConvSize(4, 4, 2),), hidden=16, actions=2
    )
    network = MTSparkNetwork(sizes)
    optimizer = torch.optim.RAdam(network.parameters(), lr=1e-2)
    task = torch.zeros(64, dtype=torch.long)
    for _ in range(60):
        frames, side = lit_halves(64)
        wanted = functional.one_hot(side, 2).float()
        loss = functional.mse_loss(network(frames, task), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    frames, side = lit_halves(64)
    with torch.no_grad():
        assert (network(frames, task).argmax(1) == side).float().mean() >= 0.95


def test_kept_weights_are_those_of_their_moment(make_agent: MakeAgent) -> None:
    network = make_agent().network
    frames, tasks = random_frames(network.config.observation_shape), torch.tensor([0, 1])
    layer = network.layer("conv1")
    with torch.no_grad():
        before = network(frames, tasks)
        with network.weights_kept():
            assert torch.equal(network(frames, tasks), before)
            layer.standardise.gain.mul_(3)
            assert torch.equal(network(frames, tasks), before)
        assert not torch.equal(network(frames, tasks), before)


def test_pixels_are_exact_in_bfloat16(make_agent: MakeAgent) -> None:
    network = make_agent().network
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pixels, unit = network._pixels(every)
    assert torch.equal(pixels.double(), every.double())
    plain, one = network._pixels(every)
    assert one == 1
    torch.testing.assert_close(plain, pixels.float() * unit)

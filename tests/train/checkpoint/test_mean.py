"""The mean of agents: the weights that act, computed here by NumPy from those of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mtspark
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint import Agent

MakeAgent = Callable[..., Agent]


def acting(agent: Agent, name: str) -> NDArray[Any]:
    """Weights of a layer by the equation: each row less its mean, over its deviation, gated."""
    layer = agent.network.layer(name)
    rows = layer.synapses.weight.detach().numpy().astype(np.float64)
    rows = rows.reshape(len(rows), -1)
    gain = layer.standardise.gain.detach().numpy().astype(np.float64)
    size = rows.std(1) * np.sqrt(rows.shape[1]) + 1e-8
    found = (rows - rows.mean(1, keepdims=True)) * (2 * gain / size * layer.drive)[:, None]
    return found if layer.mask is None else found * layer.mask.numpy().reshape(rows.shape)


def cut(agent: Agent, seed: int, share: float) -> Agent:
    """Cut a share of the hidden layer's synapses, and all of its first neuron."""
    mask = agent.network.hidden.mask
    assert mask is not None
    generator = torch.Generator().manual_seed(seed)
    mask.copy_(torch.rand(mask.shape, generator=generator) > share)
    mask[0] = False
    return agent


@pytest.mark.parametrize("count", [2, 3])
def test_the_weights_that_act_are_averaged(make_agent: MakeAgent, count: int) -> None:
    agents = [cut(make_agent(seed, masked_layers=("hidden",)), seed, 0.7) for seed in range(count)]
    mean = mtspark.mean_agent(agents)
    for name in mean.network.layer_names:
        wanted = np.mean([acting(agent, name) for agent in agents], 0)
        np.testing.assert_allclose(acting(mean, name), wanted, rtol=1e-4, atol=1e-6, err_msg=name)
        bias = np.mean(
            [one.network.layer(name).folded_bias().detach().numpy() for one in agents], 0
        )
        np.testing.assert_allclose(
            mean.network.layer(name).folded_bias().detach().numpy(), bias, rtol=1e-5
        )
    there = [one.network.hidden.mask for one in agents]
    assert mean.network.hidden.mask is not None
    assert torch.equal(
        mean.network.hidden.mask, torch.stack([m for m in there if m is not None]).any(0)
    )
    heads = np.mean([one.network.advantage.weight.detach().numpy() for one in agents], 0)
    np.testing.assert_allclose(mean.network.advantage.weight.detach().numpy(), heads, rtol=1e-5)
    segments = [one.network.dendrites.segments for one in agents if one.network.dendrites]
    assert mean.network.dendrites is not None
    torch.testing.assert_close(mean.network.dendrites.segments, torch.stack(segments).mean(0))


def test_agents_stay_as_they_were_and_the_mean_of_one_twice_is_it(
    make_agent: MakeAgent, tmp_path: Path
) -> None:
    agent = make_agent()
    agent.training, agent.evaluations = {"steps": 3}, [{"backend": "torch"}]
    before = {name: value.clone() for name, value in agent.network.state_dict().items()}
    mean = mtspark.mean_agent([agent, agent])
    mtspark.save_agent(mean, tmp_path / "mean.pt")
    found = mtspark.load_agent(tmp_path / "mean.pt")
    assert found.training == {"steps": 3, "mean_of": [{"steps": 3}] * 2}
    assert found.evaluations == []
    for name, value in agent.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    frames = torch.randint(0, 256, (8, *agent.network.config.observation_shape)).to(torch.uint8)
    tasks = torch.arange(8) % agent.network.config.tasks
    with torch.no_grad():
        values, wanted = found.network(frames, tasks), agent.network(frames, tasks)
    torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [(), ("dense1", "hidden")])
def test_a_layer_of_one_number_has_a_mean(make_agent: MakeAgent, masked: tuple[str, ...]) -> None:
    sizes: dict[str, Any] = {
        **{"observation_shape": (1, 1, 1), "convolutions": (), "input": "values"},
        **{"dense": (4,), "tasks": 1, "masked_layers": masked},
    }
    agents = [make_agent(seed, **sizes) for seed in range(2)]
    for agent in agents:
        if agent.network.hidden.mask is not None:
            agent.network.hidden.mask[:, 1] = False
    wanted = np.mean([one.network.layer("dense1").folded_weight().detach() for one in agents], 0)
    mean = mtspark.mean_agent(one for one in agents)
    assert np.abs(wanted).min() > 0
    np.testing.assert_allclose(
        mean.network.layer("dense1").folded_weight().detach().numpy(), wanted, rtol=1e-5
    )
    alone = mtspark.mean_agent(agents[:1] * 2).network
    for name in ("dense1", "hidden"):
        torch.testing.assert_close(
            alone.layer(name).folded_weight(), agents[0].network.layer(name).folded_weight()
        )


def test_what_has_no_mean_is_refused_in_one_line(make_agent: MakeAgent) -> None:
    agent = make_agent()
    protocol = agent.protocol
    assert protocol is not None
    others = {
        "1 given, a mean needs two": [agent],
        "agent 2 has another network": [agent, make_agent(time_steps=3)],
        "other tasks, or other statistics": [agent, replace(agent, tasks=agent.tasks[::-1])],
        "another protocol": [agent, replace(agent, protocol=replace(protocol, frame_skip=3))],
        "synapses of their own": [make_agent(pathway_layers=("hidden",))] * 2,
    }
    for line, agents in others.items():
        with pytest.raises(BadRequestError, match=line) as caught:
            mtspark.mean_agent(agents)
        assert "\n" not in str(caught.value)

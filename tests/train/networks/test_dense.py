"""Fully connected layers before the last one, through what asks for layers by their names."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mtspark
from mtspark.convert.nir.agent import agent_to_nir
from mtspark.core.environments import Task
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.train.backend import TorchBackend
from mtspark.train.checkpoint import Agent
from mtspark.train.config import to_config
from mtspark.train.networks import (
    ConvSize,
    MTSparkNetwork,
    NetworkConfig,
    check_fan_in,
    weight_shapes,
)

MakeAgent = Callable[..., Agent]
ONE_BY_ONE = (ConvSize(2, 1, 1),)
DEEP: dict[str, Any] = {"dense": (12, 7)}


@pytest.mark.parametrize(
    "changes",
    [
        {"masked_layers": ("dense1", "hidden"), "dendrite_layers": ("conv1", "dense2")},
        {"pathway_layers": ("dense1", "dense2"), "convolutions": (), "dendrite_segments": 0},
    ],
)
def test_sizes_are_those_of_the_weights(make_agent: MakeAgent, changes: dict[str, Any]) -> None:
    network = make_agent(**DEEP, **changes).network
    state = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = weight_shapes(network.config)
    assert found.items() <= state.items()
    matrices = {name for name, shape in state.items() if len(shape) > 1 and "value" not in name}
    assert matrices == set(found)


def test_graphs_have_a_node_of_each(make_agent: MakeAgent) -> None:
    agent = make_agent(**DEEP, dendrite_layers=("dense2",))
    for task, graph in enumerate(agent_to_nir(agent).values()):
        names = ["dense1", "dense1_lif", "dense2", "dense2_lif", "hidden", "hidden_lif"]
        chain = ["flatten", *names, "head"]
        assert set(itertools.pairwise(chain)) <= set(graph.edges)
        folded = agent.network.layer("dense2").folded_weight().detach().numpy()
        np.testing.assert_array_equal(graph.nodes["dense2"].weight, folded)
        gains = agent.network.gains_of_tasks("dense2", slice(task, task + 1))
        assert gains is not None
        wanted = 1 / gains[0].double().detach().numpy()
        np.testing.assert_array_equal(graph.nodes["dense2_lif"].v_threshold, wanted)
        assert set(graph.nodes["hidden_lif"].v_threshold) == {1.0}


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ({"convolutions": (), "dense": (1,), "input": "values"}, "hidden"),
        ({"convolutions": (), "dense": (4, 1, 4), "input": "spikes"}, "dense3"),
        ({"observation_shape": (1, 4, 4), "convolutions": ONE_BY_ONE}, "conv1"),
        (
            {"observation_shape": (2, 4, 4), "convolutions": (ConvSize(1, 1, 1), *ONE_BY_ONE)},
            "conv2",
        ),
        ({"observation_shape": (1, 1, 1), "convolutions": ()}, "hidden"),
    ],
)
def test_a_layer_whose_weights_would_all_be_0_is_refused(sizes: dict[str, Any], name: str) -> None:
    config = NetworkConfig(**{"observation_shape": (1, 3, 1), **sizes})
    # Less the mean of one weight, nothing is left.
    assert not MTSparkNetwork(config).layer(name).folded_weight().any()
    with pytest.raises(BadNetworkError, match=f"{name}: each of its neurons hears one value"):
        check_fan_in(config)


def test_a_recipe_of_such_a_layer_is_refused() -> None:
    recipe = {"games": ["CartPole-v1"], "network": {"dense": [1]}}
    with pytest.raises(BadRequestError, match="hidden: each of its neurons hears one value"):
        to_config(recipe, "recipe")


def test_one_number_is_enough_for_a_first_layer() -> None:
    config = NetworkConfig((1, 1, 1), (), input="values", dense=(4,))
    check_fan_in(config)
    assert MTSparkNetwork(config).layer("dense1").folded_weight().all()


def test_the_mean_has_the_mean_of_what_acts(make_agent: MakeAgent) -> None:
    agents = [make_agent(seed, **DEEP) for seed in range(3)]
    mean = mtspark.mean_agent(agents)
    for name in ("dense1", "dense2"):
        layers = [one.network.layer(name) for one in agents]
        wanted = torch.stack([layer.folded_weight() for layer in layers]).mean(0)
        torch.testing.assert_close(
            mean.network.layer(name).folded_weight(), wanted, rtol=1e-4, atol=1e-6
        )


def test_a_network_that_remembers_gives_on_the_chip_what_it_gives_in_torch(
    make_agent: MakeAgent,
) -> None:
    sizes = {"observation_shape": (1, 6, 1), "convolutions": (), "tasks": 1, "input": "spikes"}
    agent = make_agent(
        dense=(12, 9),
        stateful=True,
        recurrent=True,
        time_steps=1,
        beta=0.75,
        dueling=False,
        dendrite_segments=0,
        actions=4,
        **sizes,
    )
    task = Task("numbers", "", ())
    agent = replace(agent, tasks=(task,), protocol=None)
    chip = mtspark.export(agent).network
    assert [one.name for one in chip.populations] == ["dense1", "dense2", "hidden", "values"]
    frames = np.random.default_rng(2).integers(0, 2, (12, 1, 1, 6, 1)).astype(np.uint8)
    torch_backend, reference, engine = TorchBackend(agent), ReferenceChip(chip), EngineChip(chip)
    apart, sizes_of_values = [], []
    for backend in (torch_backend, reference, engine):
        backend.start(1)
    for frame in frames:
        wanted, slow, fast = (one.decide(frame, 0) for one in (torch_backend, reference, engine))
        np.testing.assert_array_equal(slow.values, fast.values)
        apart.append(float(np.abs(wanted.values - slow.values).max()))
        sizes_of_values.append(float(np.abs(wanted.values).max()))
    # Weights of 8 bits: a spike that differs would move a value by more.
    assert max(apart) < 0.1 < 0.1 * max(sizes_of_values)

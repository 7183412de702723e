"""Experts, heads of tasks and layer norm: equations by hand, and what reaches a chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.convert.compare import compare_with_torch
from mtspark.convert.nir.agent import agent_to_nir
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.train.checkpoint.agent import Agent, agent_bytes, load_agent
from mtspark.train.checkpoint.single import single_task
from mtspark.train.config.recipe import to_config
from mtspark.train.networks.config import NetworkConfig, check_network_config, network_to_json
from mtspark.train.networks.experts import orthonormal
from mtspark.train.networks.network import MTSparkNetwork, NetworkTrace
from mtspark.train.networks.variants import why_not_deployable

MakeAgent = Callable[..., Agent]


def test_gram_schmidt_by_hand() -> None:
    found = orthonormal(torch.tensor([[[3.0, 4.0, 0.0], [3.0, 4.0, 2.0], [0.0, 5.0, 1.0]]]))
    # e1 = v1 / 5; v2 - 5 e1 = (0, 0, 2); v3 - 4 e1 - 1 e2 = (-2.4, 1.8, 0), of length 3.
    by_hand = [[[0.6, 0.8, 0.0], [0.0, 0.0, 1.0], [-0.8, 0.6, 0.0]]]
    torch.testing.assert_close(found, torch.tensor(by_hand))


def test_experts_of_every_sample_are_orthonormal_and_span_the_same() -> None:
    vectors = torch.randn(6, 3, 8)
    basis = orthonormal(vectors)
    torch.testing.assert_close(
        basis @ basis.transpose(1, 2), torch.eye(3).expand(6, 3, 3), atol=1e-5, rtol=0
    )
    for one, own in zip(vectors.numpy().astype(np.float64), basis.numpy(), strict=True):
        # NumPy's QR has the same vectors, but for their signs.
        q, r = np.linalg.qr(one.T)
        np.testing.assert_allclose(own, (q * np.sign(np.diag(r))).T, atol=1e-5)


def test_silent_and_equal_experts_are_0_and_have_gradients_without_nan() -> None:
    vectors = torch.zeros(1, 3, 4)
    vectors[0, 0, 1], vectors[0, 2, 1] = 2.0, 2.0
    vectors.requires_grad_()
    basis = orthonormal(vectors)
    assert basis[0, 0].tolist() == [0, 1, 0, 0]
    assert not basis[0, 1:].any()
    basis.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


def rates_of(network: MTSparkNetwork, frames: torch.Tensor, task: torch.Tensor) -> Any:
    trace = NetworkTrace()
    values = network(frames, task, trace)
    return values, trace.layers["hidden"].spikes.mean(0)


@pytest.mark.parametrize("gate", ["current", "output", "orthogonal"])
@pytest.mark.parametrize("heads", ["shared", "task"])
def test_values_are_the_weighed_experts_through_the_tasks_head(
    make_agent: MakeAgent, gate: str, heads: str
) -> None:
    agent = make_agent(experts=2, expert_gate=gate, heads=heads, dueling=False)
    network = agent.network
    frames = torch.randint(0, 256, (5, 2, 20, 20), dtype=torch.uint8)
    task = torch.tensor([0, 1, 1, 0, 1])
    values, rates = rates_of(network, frames, task)
    assert network.expert_gate is not None
    for sample, index in enumerate(task.tolist()):
        experts = rates[sample].view(2, 5).detach().numpy().astype(np.float64)
        weights = network.expert_gate[index].detach().numpy()
        if gate == "current":
            weights = np.ones(2)
        elif gate == "orthogonal":
            experts = orthonormal(rates[sample].view(1, 2, 5))[0].detach().numpy()
        rows = slice(18 * index, 18 * index + 18) if heads == "task" else slice(None)
        weight = network.advantage.weight.detach().numpy()[rows]
        wanted = weight @ (weights @ experts) + network.advantage.bias.detach().numpy()[rows]
        np.testing.assert_allclose(values[sample].detach().numpy(), wanted, atol=1e-5)


def test_a_gate_on_currents_is_thresholds_of_both_tasks(make_agent: MakeAgent) -> None:
    """The weights are shared: a task switch writes a threshold for each hidden neuron."""
    agent = make_agent(experts=2, dendrite_segments=0)
    gate = agent.network.expert_gate
    assert gate is not None
    graphs = agent_to_nir(agent)
    for row, task in enumerate(agent.tasks):
        graph = graphs[task.name]
        by_hand = 1 / (1 + np.exp(-gate[row].detach().numpy().astype(np.float64)))
        np.testing.assert_allclose(
            graph.nodes["hidden_lif"].v_threshold, 1 / np.repeat(by_hand, 5), rtol=1e-5
        )
        frames = np.random.default_rng(row).integers(0, 256, (8, 2, 20, 20), dtype=np.uint8)
        agreement = compare_with_torch(agent, graph, frames, row)
        assert sum(layer.different for layer in agreement) == 0


@pytest.mark.parametrize(
    "changes",
    [{"experts": 2, "expert_gate": "output"}, {"heads": "task"}, {"experts": 5, "heads": "task"}],
)
def test_what_tasks_have_of_their_own_goes_to_the_chip_one_task_at_a_time(
    make_agent: MakeAgent, changes: dict[str, Any]
) -> None:
    agent = make_agent(**changes)
    with pytest.raises(BadNetworkError, match=r"2 tasks have .* of their own.*--task NAME"):
        agent_to_nir(agent)
    frames = torch.randint(0, 256, (6, 2, 20, 20), dtype=torch.uint8)
    for index, task in enumerate(agent.tasks):
        one = load_agent("one.pt", content=agent_bytes(single_task(agent, task.name)))
        values, rates = rates_of(agent.network, frames, torch.full((6,), index))
        torch.testing.assert_close(one.network(frames, torch.zeros(6, dtype=torch.long)), values)
        graph = agent_to_nir(one)[task.name]
        agreement = compare_with_torch(one, graph, frames.numpy(), 0)
        assert sum(layer.different for layer in agreement) == 0
        # Weights of experts are folded into those of the head, which reads every neuron.
        head = graph.nodes["head"]
        assert head.weight.shape == (18, 10)
        folded = rates.detach().numpy() @ head.weight.T + head.bias
        np.testing.assert_allclose(folded, values.detach().numpy(), atol=1e-4)


def test_what_no_chip_computes_is_refused_with_what_does(make_agent: MakeAgent) -> None:
    for changes, text in (
        ({"experts": 2, "expert_gate": "orthogonal"}, "'current' or 'output', or pathways"),
        ({"layer_norm": True}, "weights are standardised anyway"),
    ):
        config = NetworkConfig(**changes)
        assert text in str(why_not_deployable(config))
        agent = make_agent(**changes)
        for one in (agent, single_task(agent, agent.tasks[1].name)):
            with pytest.raises(BadNetworkError, match=text):
                agent_to_nir(one)


def test_layer_norm_is_that_of_numpy() -> None:
    network = MTSparkNetwork(NetworkConfig((1, 8, 8), hidden=6, convolutions=(), layer_norm=True))
    frames = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    trace = NetworkTrace()
    network.dendrites = None
    network.config = replace(network.config, dendrite_segments=0)
    network(frames, torch.zeros(4, dtype=torch.long), trace)
    plain = network.hidden.current(frames.float().flatten(1) / 255).detach().numpy()
    centred = plain - plain.mean(1, keepdims=True)
    wanted = centred / np.sqrt(plain.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        trace.layers["hidden"].current[0].detach().numpy(), wanted, atol=1e-4
    )


def test_plain_networks_are_written_as_before_and_wrong_choices_refused() -> None:
    assert not {"experts", "expert_gate", "heads", "layer_norm"} & set(
        network_to_json(NetworkConfig())
    )
    for changes, text in (
        ({"experts": 3}, "a divisor"),
        ({"expert_gate": "hard"}, "expert_gate"),
        ({"heads": "two"}, "heads"),
        ({"layer_norm": 1}, "layer_norm"),
    ):
        with pytest.raises(BadNetworkError, match=text):
            check_network_config(NetworkConfig(**changes))
    with pytest.raises(BadRequestError, match="redo_every"):
        to_config({"network": {"experts": 2}, "plasticity": {"redo_every": 5}}, "recipe")


@pytest.mark.parametrize(
    ("network", "remedy"),
    [
        ({"heads": "task"}, r"heads of their own, .*; set network.heads = 'shared', or leave"),
        ({"experts": 2, "expert_gate": "output"}, r"; set network.expert_gate = 'current', or"),
        (
            {"heads": "task", "experts": 2, "expert_gate": "output"},
            r"; set network.heads = 'shared' and network.expert_gate = 'current', or",
        ),
    ],
)
def test_a_run_on_integers_says_what_to_set_in_its_recipe(
    network: dict[str, Any], remedy: str
) -> None:
    recipe = {"games": ["pong", "breakout"], "quantisation_aware": True}
    with pytest.raises(BadRequestError, match=f"quantisation_aware: the tasks have .*{remedy}"):
        to_config({**recipe, "network": network}, "recipe")
    # Of one task there is no other, and as it says there is none.
    to_config({**recipe, "games": ["pong"], "network": network}, "recipe")
    fits = {"heads": "shared", "expert_gate": "current"}
    to_config({**recipe, "network": {**network, **fits}}, "recipe")

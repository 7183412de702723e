"""Exported graphs, read back from their files, fire torch's spikes; spoiled ones do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

from mtspark.convert.agreement import LayerAgreement
from mtspark.convert.compare import compare_with_torch
from mtspark.convert.nir.agent import Head, agent_to_nir, load_graph, save_graph
from mtspark.convert.nir.reader import import_graph
from mtspark.core.float_network.simulator import run_float
from mtspark.train.checkpoint.agent import Agent
from mtspark.train.networks.config import ConvSize

MakeAgent = Callable[..., Agent]
OBLONG = {"observation_shape": (3, 17, 12), "convolutions": (ConvSize(5, 4, 2), ConvSize(4, 3, 1))}


def random_frames(agent: Agent, seed: int = 0) -> np.ndarray:
    """Three samples of unequal brightness."""
    shape = (3, *agent.network.config.observation_shape)
    frames = np.random.default_rng(seed).integers(0, 256, shape)
    return (frames // np.array([1, 3, 9]).reshape(3, 1, 1, 1)).astype(np.uint8)


def through_files(agent: Agent, folder: Path, head: Head = Head.DUELING) -> list[nir.NIRGraph]:
    """Export, save and load the graph of every task."""
    graphs = []
    for task, graph in agent_to_nir(agent, head).items():
        save_graph(graph, folder / f"{task}.nir")
        graphs.append(load_graph(folder / f"{task}.nir"))
    return graphs


def differences(results: list[LayerAgreement]) -> dict[str, int]:
    return {layer.name: layer.different for layer in results}


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.25])
@pytest.mark.parametrize("changes", [{}, OBLONG, {"threshold": 0.6, "time_steps": 9}])
def test_every_layer_fires_torchs_spikes(
    make_agent: MakeAgent, tmp_path: Path, beta: float, changes: dict[str, Any]
) -> None:
    agent = make_agent(beta=beta, **changes)
    frames = random_frames(agent)
    for task, graph in enumerate(through_files(agent, tmp_path)):
        results = compare_with_torch(agent, graph, frames, task)
        assert differences(results) == {"conv1": 0, "conv2": 0, "hidden": 0}
        steps = agent.network.config.time_steps
        sizes = [graph.nodes[f"{layer.name}_lif"].tau.size for layer in results]
        assert [layer.compared for layer in results] == [steps * 3 * size for size in sizes]


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.25])
@pytest.mark.parametrize("head", list(Head))
def test_the_mean_output_is_torchs_action_values(
    make_agent: MakeAgent, tmp_path: Path, beta: float, head: Head
) -> None:
    agent = make_agent(beta=beta, **OBLONG)
    frames = random_frames(agent)
    for task, graph in enumerate(through_files(agent, tmp_path, head)):
        results = compare_with_torch(agent, graph, frames, task)
        assert sum(layer.ties for layer in results) == 0
        with torch.no_grad():
            tasks = torch.full((3,), task)
            values = agent.network(torch.from_numpy(frames), tasks).numpy()
        settings = graph.metadata["mtspark"]
        pixels = frames * float(settings["input_scale"])
        repeated = np.broadcast_to(pixels, (int(settings["time_steps"]), *pixels.shape))
        run = run_float(import_graph(graph), repeated)
        assert 0 < run.spikes["hidden"].mean() < 1
        mean = run.values
        if head is Head.ADVANTAGE:
            values = values - values.mean(1, keepdims=True)
        np.testing.assert_allclose(mean, values, rtol=0, atol=1e-4)
        assert np.abs(mean[0] - mean[2]).max() > 0.01


def test_the_graph_of_another_task_differs(tiny_agent: Agent) -> None:
    graphs = list(agent_to_nir(tiny_agent).values())
    results = compare_with_torch(tiny_agent, graphs[1], random_frames(tiny_agent), 0)
    found = differences(results)
    assert found["conv1"] == found["conv2"] == 0
    assert found["hidden"] > 0


def transpose_kernel(graph: nir.NIRGraph, name: str) -> None:
    node = graph.nodes[name]
    node.weight = node.weight.swapaxes(-1, -2).copy()


def drop_bias(graph: nir.NIRGraph, name: str) -> None:
    graph.nodes[name].bias = np.zeros_like(graph.nodes[name].bias)


def raise_threshold(graph: nir.NIRGraph, name: str) -> None:
    graph.nodes[f"{name}_lif"].v_threshold = graph.nodes[f"{name}_lif"].v_threshold * 1.1


def decay_faster(graph: nir.NIRGraph, name: str) -> None:
    graph.nodes[f"{name}_lif"].tau = graph.nodes[f"{name}_lif"].tau * 0.8


def reverse_rows(graph: nir.NIRGraph, name: str) -> None:
    graph.nodes[name].weight = graph.nodes[name].weight[::-1].copy()


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (transpose_kernel, "conv1"),
        (transpose_kernel, "conv2"),
        (reverse_rows, "hidden"),
        *(
            (spoil, name)
            for spoil in (drop_bias, raise_threshold, decay_faster)
            for name in ("conv1", "conv2", "hidden")
        ),
    ],
)
def test_a_spoiled_layer_is_found_and_no_other(
    tiny_agent: Agent, spoil: Callable[[nir.NIRGraph, str], None], name: str
) -> None:
    graph = agent_to_nir(tiny_agent)["pong"]
    spoil(graph, name)
    found = differences(compare_with_torch(tiny_agent, graph, random_frames(tiny_agent), 0))
    assert [layer for layer, count in found.items() if count] == [name]


@pytest.mark.filterwarnings("error")
def test_ties_are_counted_and_their_differences_told_apart(tiny_agent: Agent) -> None:
    """Thresholds are put where torch's own membranes are: each first step is a tie."""
    graph = agent_to_nir(tiny_agent)["pong"]
    frames = random_frames(tiny_agent)[:1]
    weight, bias = graph.nodes["conv1"].weight, graph.nodes["conv1"].bias
    stride = tuple(int(step) for step in graph.nodes["conv1"].stride)
    current = torch.nn.functional.conv2d(
        torch.from_numpy(frames / 255.0),
        torch.from_numpy(weight.astype(np.float64)),
        torch.from_numpy(bias.astype(np.float64)),
        stride=stride,
    ).numpy()[0]
    first_fires = current > 1.0
    assert first_fires.any()
    graph.nodes["conv1_lif"].v_threshold = np.where(first_fires, current * (1 + 1e-7), 1.0)
    conv1 = compare_with_torch(tiny_agent, graph, frames, 0)[0]
    assert conv1.ties >= first_fires.sum()
    assert conv1.different_ties >= first_fires.sum()

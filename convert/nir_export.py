"""From a checkpoint to NIR: one graph a task, the same weights in all of them.

Folded away: weight standardisation (into the weights), the dueling head (into one affine
layer), the dendritic gains (into the thresholds). What NIR cannot say (time step, number of
steps, input scale, task) stands in the graph's metadata under the key ``mtspark``.
"""

from __future__ import annotations

import itertools
import os
from enum import Enum
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mtspark.convert.nir_file import read_nir
from mtspark.core.errors import BadFileError, BadNetworkError
from mtspark.train.checkpoint import Agent
from mtspark.train.network import SpikingLayer

STEP_S = 1e-4
"""The time step that published NIR graphs imply; only tau / dt matters here."""


SMALLEST_GAIN = 1e-12


class Head(str, Enum):
    """Which action values the exported head computes.

    dueling: Q = V + A - mean A. advantage: A - mean A, which picks the same greedy actions.
    """

    DUELING = "dueling"
    ADVANTAGE = "advantage"


def agent_to_nir(agent: Agent, head: Head = Head.DUELING) -> dict[str, nir.NIRGraph]:
    """Build the float graph of every task.

    The graph's input is pixels / 255; its output is one Q contribution a step, whose mean over
    the T steps is the action values. A neuron with gain g fires at threshold / g: its membrane
    is that of the torch network divided by g.

    Raises:
        BadNetworkError: a decay of 1 (no leak has no LIF form), or gains that are not finite.
    """
    config = agent.network.config
    if not 0 <= config.beta < 1:
        raise BadNetworkError(f"beta {config.beta}: a leaky neuron needs 0 <= beta < 1")
    graphs = {}
    for index, task in enumerate(agent.tasks):
        nodes = _graph_nodes(agent, index, head)
        names = list(nodes)
        graph = nir.NIRGraph(
            nodes=nodes,
            edges=list(itertools.pairwise(names)),
            metadata={
                "mtspark": {
                    "task": task.name,
                    "dt": STEP_S,
                    "time_steps": config.time_steps,
                    "input_scale": 1.0 / 255.0,
                    "head": head.value,
                }
            },
        )
        graphs[task.name] = graph
    check_shared_weights(graphs)
    return graphs


def _graph_nodes(agent: Agent, task: int, head: Head) -> dict[str, nir.NIRNode]:
    network, config = agent.network, agent.network.config
    shape = np.array(config.observation_shape)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(input_type={"input": shape})}
    height, width = config.observation_shape[1:]
    for index, layer in enumerate(network.convolutions):
        assert isinstance(layer, SpikingLayer)
        synapses = layer.synapses
        assert isinstance(synapses, nn.Conv2d)
        stride = (int(synapses.stride[0]), int(synapses.stride[1]))
        nodes[f"conv{index + 1}"] = nir.Conv2d(
            input_shape=(height, width),
            weight=_array(layer.folded_weight()),
            stride=stride,
            padding=(0, 0),
            dilation=(1, 1),
            groups=1,
            bias=_array(_bias(synapses)),
        )
        height = (height - synapses.kernel_size[0]) // stride[0] + 1
        width = (width - synapses.kernel_size[1]) // stride[1] + 1
        shape = np.array([synapses.out_channels, height, width])
        nodes[f"conv{index + 1}_lif"] = _lif(config.beta, np.full(shape, config.threshold))
    nodes["flatten"] = nir.Flatten(input_type={"input": shape}, start_dim=0, end_dim=-1)
    hidden = network.hidden
    nodes["hidden"] = nir.Affine(
        weight=_array(hidden.folded_weight()), bias=_array(_bias(hidden.synapses))
    )
    thresholds = config.threshold / dendritic_gains(agent, task)
    nodes["hidden_lif"] = _lif(config.beta, thresholds)
    weight, bias = fold_head(agent, head)
    nodes["head"] = nir.Affine(weight=weight, bias=bias)
    nodes["output"] = nir.Output(output_type={"output": np.array([config.actions])})
    return nodes


def dendritic_gains(agent: Agent, task: int) -> NDArray[np.float64]:
    """Gain of every hidden neuron under a task, (hidden,); ones without dendrites.

    A gain near 0 means off. It is kept above :data:`SMALLEST_GAIN`, where the threshold is far
    beyond any membrane, because a graph must not hold an infinite threshold.

    Raises:
        BadNetworkError: a gain that is not finite.
    """
    network = agent.network
    if network.dendrites is None:
        return np.ones(network.config.hidden)
    context = torch.zeros(1, network.config.tasks)
    context[0, task] = 1.0
    with torch.no_grad():
        gains = network.dendrites(context)[0].double().numpy()
    if not np.isfinite(gains).all():
        raise BadNetworkError(f"task {agent.tasks[task].name!r}: dendritic gains are not finite")
    return np.maximum(gains, SMALLEST_GAIN)


def fold_head(agent: Agent, head: Head) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fold value and advantage streams into one affine layer, in float64.

    W = 1 W_V + (I - 11'/n) W_A and likewise for the biases; V + A - mean A is then one product.
    """
    network = agent.network
    weight = _array(network.advantage.weight).astype(np.float64)
    bias = _array(network.advantage.bias).astype(np.float64)
    if network.value is not None:
        weight, bias = weight - weight.mean(0), bias - bias.mean()
        if head is Head.DUELING:
            weight = weight + _array(network.value.weight)
            bias = bias + _array(network.value.bias)
    return weight.astype(np.float32), bias.astype(np.float32)


def check_shared_weights(graphs: dict[str, nir.NIRGraph]) -> None:
    """Check that tasks differ in thresholds only.

    Raises:
        BadNetworkError: some other parameter of a node differs between two tasks.
    """
    (first_task, first), *others = graphs.items()
    for task, graph in others:
        if list(graph.nodes) != list(first.nodes) or graph.edges != first.edges:
            raise BadNetworkError(f"graphs of tasks {first_task!r} and {task!r} differ in nodes")
        for name, node in graph.nodes.items():
            for key, value in vars(node).items():
                shared = key in ("v_threshold", "metadata", "input_type", "output_type")
                if not shared and not np.array_equal(value, vars(first.nodes[name])[key]):
                    raise BadNetworkError(
                        f"{name}.{key} differs between tasks {first_task!r} and {task!r}; "
                        "only thresholds may"
                    )


def save_graph(graph: nir.NIRGraph, path: Path) -> None:
    """Write a graph to a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        nir.write(str(temporary), graph)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_graph(path: Path) -> nir.NIRGraph:
    """Read a graph that mtspark wrote.

    Raises:
        BadFileError: missing, hostile, or not a NIR graph with mtspark's metadata.
    """
    graph = read_nir(path)
    if "mtspark" not in graph.metadata:
        raise BadFileError(f"{path}: NIR graph without mtspark's metadata (dt, steps, scale)")
    return graph


def _lif(beta: float, thresholds: NDArray[np.float64]) -> nir.LIF:
    """snntorch's Leaky under forward Euler: tau = dt / (1 - beta), r = 1 / (1 - beta)."""
    like = np.ones(thresholds.shape)
    return nir.LIF(
        tau=like * (STEP_S / (1 - beta)),
        r=like / (1 - beta),
        v_leak=0 * like,
        v_threshold=thresholds.astype(np.float64),
        v_reset=0 * like,
    )


def _bias(synapses: Any) -> torch.Tensor:
    assert synapses.bias is not None
    return synapses.bias


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()

"""Turn an agent into NIR graphs: one a task, the same weights in all of them.

Weight standardisation is folded into the weights, the dueling head into one affine layer, the
dendritic gains into the thresholds. The graph's metadata under the key ``mtspark`` hold what NIR
does not store: time step, number of steps, input scale and task.
"""

from __future__ import annotations

import itertools
from enum import Enum
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mtspark.convert.nir.file import METADATA, read_nir
from mtspark.core.errors import BadFileError, BadNetworkError
from mtspark.core.files import AnyPath, hdf5_bytes, write_bytes
from mtspark.train.checkpoint import Agent
from mtspark.train.networks import SpikingLayer, why_not_deployable

STEP_S = 1e-4
"""The time step that published NIR graphs imply; only tau / dt matters here."""

LOOP = "hidden_loop"
"""Name of the weights with which hidden neurons hear each other."""

SMALLEST_GAIN = 1e-12
"""A neuron of a smaller gain is off; its threshold stays finite."""


class Head(str, Enum):
    """Action values that the exported head computes.

    dueling: Q = V + A - mean A. advantage: A - mean A, which has the same greedy actions.
    """

    DUELING = "dueling"
    ADVANTAGE = "advantage"


def agent_to_nir(agent: Agent, head: Head = Head.DUELING) -> dict[str, nir.NIRGraph]:
    """Build the float graph of every task.

    The graph's input is what the network sees, pixels / 255 for example; its output is one Q
    contribution a step, whose mean over the T steps is the action values. A neuron with gain g
    fires at threshold / g: its membrane is that of the torch network divided by g.

    Args:
        agent: a trained agent.
        head: action values to compute.

    Returns:
        Graphs by name of the task.

    Raises:
        BadNetworkError: a network that no chip can run, or gains that are not finite.
    """
    config = agent.network.config
    reason = why_not_deployable(config)
    if reason is not None:
        raise BadNetworkError(f"this network cannot be exported: {reason}")
    graphs = {}
    for index, task in enumerate(agent.tasks):
        nodes = _graph_nodes(agent, index, head)
        names = list(nodes)
        graph = nir.NIRGraph(
            nodes=nodes,
            edges=_edges(names),
            metadata={
                METADATA: {
                    "task": task.name,
                    "dt": STEP_S,
                    "time_steps": config.time_steps,
                    "input_scale": config.message_value,
                    **({"input_signed": True} if config.input == "values" else {}),
                    **({"stateful": True} if config.stateful else {}),
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
            bias=_array(layer.folded_bias()),
        )
        height = (height - synapses.kernel_size[0]) // stride[0] + 1
        width = (width - synapses.kernel_size[1]) // stride[1] + 1
        shape = np.array([synapses.out_channels, height, width])
        gains = dendritic_gains(agent, task, f"conv{index + 1}")
        nodes[f"conv{index + 1}_lif"] = _lif(config.beta, config.threshold / gains)
    nodes["flatten"] = nir.Flatten(input_type={"input": shape}, start_dim=0, end_dim=-1)
    for name in network.layer_names[len(config.convolutions) :]:
        connected = network.layer(name)
        nodes[name] = nir.Affine(
            weight=_array(connected.folded_weight()), bias=_array(connected.folded_bias())
        )
        thresholds = config.threshold / dendritic_gains(agent, task, name)
        nodes[f"{name}_lif"] = _lif(config.beta, thresholds)
    if network.recurrent is not None:
        nodes[LOOP] = nir.Linear(weight=_array(network.recurrent.weight))
    weight, bias = fold_head(agent, head)
    nodes["head"] = nir.Affine(weight=weight, bias=bias)
    if config.stateful:
        like = np.ones(config.actions)
        lasting = STEP_S / (1 - config.beta)
        nodes["values"] = nir.LI(tau=like * lasting, r=like / (1 - config.beta), v_leak=0 * like)
    nodes["output"] = nir.Output(output_type={"output": np.array([config.actions])})
    return nodes


def _edges(names: list[str]) -> list[tuple[str, str]]:
    """From each node to the next, and round the loop of the hidden neurons."""
    chain = [name for name in names if name != LOOP]
    loop = [("hidden_lif", LOOP), (LOOP, "hidden_lif")] if LOOP in names else []
    return [*itertools.pairwise(chain), *loop]


def dendritic_gains(agent: Agent, task: int, layer: str) -> NDArray[np.float64]:
    """Compute the gain of every neuron of a layer under a task.

    A gain near 0 means off. It is kept above :data:`SMALLEST_GAIN`, where the threshold is far
    beyond any membrane, because a graph must not hold an infinite threshold.

    Args:
        agent: a trained agent.
        task: its index.
        layer: name of the layer.

    Returns:
        Gains in the layer's shape; ones where it has no dendrites.

    Raises:
        BadNetworkError: a gain that is not finite.
    """
    network = agent.network
    with torch.no_grad():
        rows = network.gains_of_tasks(layer, slice(task, task + 1))
    if rows is None:
        return np.ones(network.layer_shapes[layer])
    gains: NDArray[np.float64] = rows[0].double().numpy()
    if not np.isfinite(gains).all():
        raise BadNetworkError(f"task {agent.tasks[task].name!r}: dendritic gains are not finite")
    return np.maximum(gains, SMALLEST_GAIN)


def fold_head(agent: Agent, head: Head) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fold value and advantage streams into one affine layer, in float64.

    Args:
        agent: a trained agent.
        head: action values to compute.

    Returns:
        Weights (actions, hidden neurons) and biases (actions,).
    """
    with torch.no_grad():
        weight, bias = agent.network.folded_head(with_value=head is Head.DUELING)
    return _array(weight.float()), _array(bias.float())


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


def save_graph(graph: nir.NIRGraph, path: AnyPath) -> None:
    """Write a graph whole or not at all.

    Raises:
        BadFileError: it cannot be written.
    """
    write_bytes(path, graph_bytes(graph))


def graph_bytes(graph: nir.NIRGraph) -> bytes:
    """Make the content of a graph's file."""
    import h5py

    def fill(group: Any, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                if name != "metadata" or value:
                    fill(group.create_group(str(name)), value)
            elif isinstance(value, str):
                group.create_dataset(name, data=value, dtype=h5py.string_dtype())
            elif isinstance(value, np.ndarray):
                group.create_dataset(name, data=value, dtype=value.dtype, compression="gzip")
            else:
                group.create_dataset(name, data=value)

    def write(file: Any) -> None:
        file.create_dataset("version", data=nir.version, dtype=h5py.string_dtype())
        fill(file.create_group("node"), graph.to_dict())

    # As nir.write does, byte for byte (a test compares). nir.write itself takes a path, where the
    # HDF5 library crashes on a full disk, or a file object, which gives other bytes.
    return hdf5_bytes(write)


def load_graph(path: AnyPath, *, content: bytes | None = None) -> nir.NIRGraph:
    """Read a graph that mtspark wrote.

    Args:
        path: the file.
        content: its bytes where they have been read; then `path` only names them.

    Raises:
        BadFileError: missing, refused, or not a NIR graph with mtspark's metadata.
    """
    graph = read_nir(path, content=content)
    if METADATA not in graph.metadata:
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


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()

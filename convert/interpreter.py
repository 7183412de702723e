"""A small float interpreter of NIR graphs, in float64, forward Euler.

Serves as the float oracle: it shares no code with the torch network that a graph came from.
"""

from __future__ import annotations

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from mtspark.core.errors import BadNetworkError

Float = NDArray[np.float64]


def run_graph(graph: nir.NIRGraph, inputs: Float, dt: float) -> dict[str, Float]:
    """Run a graph layer-synchronously from rest: every node sees its input of the same step.

    Args:
        graph: one Input, one Output, no loops.
        inputs: (T, batch, *input shape).
        dt: time step, in the unit of the graph's time constants.

    Returns:
        The output of every node by name, (T, batch, *shape).

    Raises:
        BadNetworkError: a node type that this interpreter does not know, or a loop.
    """
    outputs: dict[str, Float] = {}
    for name in topological_order(graph):
        node = graph.nodes[name]
        if isinstance(node, nir.Input):
            outputs[name] = inputs.astype(np.float64)
            continue
        sources = [outputs[source] for source, target in graph.edges if target == name]
        outputs[name] = run_node(name, node, sum(sources[1:], sources[0]), dt)
    return outputs


def topological_order(graph: nir.NIRGraph) -> list[str]:
    """Node names, sources before targets.

    Raises:
        BadNetworkError: the graph has a loop.
    """
    ordered: list[str] = []
    waiting = list(graph.nodes)
    while waiting:
        ready = [
            name
            for name in waiting
            if all(source in ordered for source, target in graph.edges if target == name)
        ]
        if not ready:
            raise BadNetworkError(f"loop through {', '.join(waiting)}: feed-forward graphs only")
        ordered += ready
        waiting = [name for name in waiting if name not in ready]
    return ordered


def run_node(name: str, node: nir.NIRNode, inputs: Float, dt: float) -> Float:
    """Run one node over T steps; shapes (T, batch, ...) in and out.

    Raises:
        BadNetworkError: a node type that this interpreter does not know.
    """
    if isinstance(node, nir.Output):
        return inputs
    if isinstance(node, nir.Flatten):
        return inputs.reshape(*inputs.shape[:2], -1)
    if isinstance(node, nir.Affine):
        return inputs @ np.asarray(node.weight, np.float64).T + node.bias
    if isinstance(node, nir.Linear):
        return inputs @ np.asarray(node.weight, np.float64).T
    if isinstance(node, nir.Conv2d):
        return _convolve(node, inputs)
    if isinstance(node, nir.LIF):
        return leaky_integrate_and_fire(node, inputs, dt)[0]
    raise BadNetworkError(f"node {name!r}: {type(node).__name__} is not interpreted")


def leaky_integrate_and_fire(node: nir.LIF, inputs: Float, dt: float) -> tuple[Float, Float]:
    """Forward Euler of tau dv/dt = (v_leak - v) + r I, a spike strictly above threshold.

    Returns:
        Spikes and the membranes that were compared with the threshold, (T, batch, ...).
    """
    membrane = np.zeros(inputs.shape[1:])
    spikes, compared = np.zeros(inputs.shape), np.zeros(inputs.shape)
    for step, current in enumerate(inputs):
        membrane = membrane + dt / node.tau * (node.v_leak - membrane + node.r * current)
        fired = membrane > node.v_threshold
        compared[step], spikes[step] = membrane, fired
        membrane = np.where(fired, node.v_reset, membrane)
    return spikes, compared


def _convolve(node: nir.Conv2d, inputs: Float) -> Float:
    # A frame repeated over the steps is a read-only view, which torch warns about.
    flat = torch.from_numpy(np.require(inputs.reshape(-1, *inputs.shape[2:]), requirements="W"))
    result = torch.nn.functional.conv2d(
        flat,
        torch.from_numpy(np.asarray(node.weight, np.float64)),
        torch.from_numpy(np.asarray(node.bias, np.float64)),
        stride=_pair(node.stride),
        padding=_pair(node.padding),
        dilation=_pair(node.dilation),
        groups=int(node.groups),
    ).numpy()
    return result.reshape(*inputs.shape[:2], *result.shape[1:])


def _pair(value: object) -> tuple[int, int]:
    pair = np.broadcast_to(np.asarray(value), (2,))
    return int(pair[0]), int(pair[1])

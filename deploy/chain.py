"""Read a NIR graph as what the chip builds from: synapse layers and the neurons they drive."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import DECAY_ONE
from mtspark.core.chip_network import ConnectionKind
from mtspark.core.errors import BadNetworkError


@dataclass(frozen=True)
class SynapseLayer:
    """One layer of a feed-forward graph.

    Attributes:
        name: of the synapse node.
        kind: dense or conv.
        weight, bias: float64; dense (out, in), conv OIHW; bias (out,).
        input_shape, output_shape: without batch.
        stride, padding, dilation, groups: conv geometry.
        neuron: the LIF node that it drives; None for the last layer, which is read out.
        membrane_decay: dv of 4096, from dt / tau; 0 (integrate for ever) where it is read out.
        drive: dt r / tau, the gain of the input current.
    """

    name: str
    kind: ConnectionKind
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    neuron: nir.LIF | None = None
    membrane_decay: int = 0
    drive: float = 1.0


def synapse_layers(graph: nir.NIRGraph, dt: float) -> list[SynapseLayer]:
    """Walk a chain Input, (Conv2d | Affine | Linear, LIF)*, Affine | Linear, Output.

    Raises:
        BadNetworkError: a branch, a loop, an unknown node, or neurons the chip does not have.
    """
    names = _chain(graph)
    shape = tuple(int(n) for n in graph.nodes[names[0]].input_type["input"])
    layers: list[SynapseLayer] = []
    waiting: SynapseLayer | None = None
    for name in names[1:]:
        node = graph.nodes[name]
        if isinstance(node, nir.Flatten):
            shape = (int(np.prod(shape)),)
        elif isinstance(node, (nir.Affine, nir.Linear, nir.Conv2d)):
            if waiting is not None:
                raise BadNetworkError(f"{waiting.name!r} feeds {name!r} without neurons between")
            waiting = _synapses(name, node, shape)
            shape = waiting.output_shape
        elif isinstance(node, nir.LIF) and waiting is not None:
            layers.append(_with_neuron(waiting, name, node, dt))
            waiting = None
        elif isinstance(node, nir.Output) and waiting is not None:
            layers.append(waiting)
            waiting = None
        else:
            raise BadNetworkError(
                f"node {name!r} ({type(node).__name__}) cannot stand here: a chain of Conv2d, "
                "Affine or Linear, each followed by LIF, and a last Affine or Linear, deploys"
            )
    if not layers or layers[-1].neuron is not None:
        raise BadNetworkError("the graph must end in an Affine or Linear layer that is read out")
    return layers


def _chain(graph: nir.NIRGraph) -> list[str]:
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise BadNetworkError(f"{len(starts)} inputs, exactly 1 deploys")
    names = [starts[0]]
    while not isinstance(graph.nodes[names[-1]], nir.Output):
        following = [target for source, target in graph.edges if source == names[-1]]
        if len(following) != 1 or following[0] in names:
            raise BadNetworkError(
                f"node {names[-1]!r} leads to {following or 'nothing'}: only a chain deploys"
            )
        names.append(following[0])
    if len(names) != len(graph.nodes):
        left = sorted(set(graph.nodes) - set(names))
        raise BadNetworkError(f"nodes {left} are not on the way from input to output")
    return names


def _synapses(
    name: str, node: nir.Affine | nir.Linear | nir.Conv2d, shape: tuple[int, ...]
) -> SynapseLayer:
    weight = np.asarray(node.weight, np.float64)
    bias = np.zeros(len(weight))
    if not isinstance(node, nir.Linear) and node.bias is not None:
        bias = np.asarray(node.bias, np.float64)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BadNetworkError(f"node {name!r} has weights or biases that are not finite")
    if not isinstance(node, nir.Conv2d):
        if weight.ndim != 2 or weight.shape[1] != int(np.prod(shape)):
            raise BadNetworkError(f"node {name!r}: weights {weight.shape} after shape {shape}")
        return SynapseLayer(name, ConnectionKind.DENSE, weight, bias, shape, (len(weight),))
    stride, padding, dilation = _pair(node.stride), _pair(node.padding), _pair(node.dilation)
    if len(shape) != 3 or weight.shape[1] * int(node.groups) != shape[0]:
        raise BadNetworkError(f"node {name!r}: kernels {weight.shape} after shape {shape}")
    size = [
        (length + 2 * pad - dil * (taps - 1) - 1) // step + 1
        for length, pad, dil, taps, step in zip(
            shape[1:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    return SynapseLayer(
        name,
        ConnectionKind.CONV,
        weight,
        bias,
        shape,
        (len(weight), size[0], size[1]),
        stride,
        padding,
        dilation,
        int(node.groups),
    )


def _with_neuron(layer: SynapseLayer, name: str, node: nir.LIF, dt: float) -> SynapseLayer:
    for key, value in vars(node).items():
        if isinstance(value, np.ndarray) and not np.isfinite(value.astype(float)).all():
            raise BadNetworkError(f"node {name!r}: {key} is not finite")
    if np.any(node.v_leak != 0) or np.any(node.v_reset != 0):
        raise BadNetworkError(f"node {name!r}: v_leak and v_reset must be 0 on the chip")
    leak = np.unique(dt / np.asarray(node.tau, np.float64))
    gain = np.unique(dt * np.asarray(node.r, np.float64) / node.tau)
    if len(leak) > 1 or len(gain) > 1:
        raise BadNetworkError(f"node {name!r}: tau and r must be the same for all its neurons")
    if not 0 < leak[0] <= 1 or gain[0] <= 0:
        raise BadNetworkError(f"node {name!r}: dt / tau is {leak[0]}, above 0 and up to 1 deploys")
    if node.v_threshold.shape != layer.output_shape or np.any(node.v_threshold <= 0):
        raise BadNetworkError(
            f"node {name!r}: thresholds must be positive, of shape {layer.output_shape}"
        )
    return SynapseLayer(
        **{
            **vars(layer),
            "neuron": node,
            "membrane_decay": round(DECAY_ONE * float(leak[0])),
            "drive": float(gain[0]),
        }
    )


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, str):
        if value != "valid":
            raise BadNetworkError(f"convolution padding {value!r}: give numbers")
        return 0, 0
    pair = np.broadcast_to(np.asarray(value), (2,))
    return int(pair[0]), int(pair[1])

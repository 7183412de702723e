"""Write a float network as a NIR graph that any tool can read and the reader reads back the same.

Leaky neurons become LIF with tau = dt / (1 - beta) and r = gain / (1 - beta), those with a
current CubaLIF, those without leak IF, or LIF with a huge tau beside leaky ones. Metadata under
the key ``mtspark`` hold what NIR does not store: time step, integrator, number of steps and input
scale of the graph, resets of its nodes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np

from mtspark.convert.nir.file import METADATA
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import (
    CONSTANT,
    FloatConnection,
    FloatKind,
    FloatNetwork,
    FloatOutput,
    FloatPopulation,
    OutputKind,
)

LARGEST_DIAGONAL = 2048
"""Neurons whose own biases may be written with a diagonal matrix."""


def network_to_nir(network: FloatNetwork, task: int = 0) -> nir.NIRGraph:
    """Build the graph of one task.

    Args:
        network: in layer-synchronous time.
        task: row of its thresholds.

    Raises:
        BadNetworkError: something that NIR has no node for, naming it.
    """
    network = _with_free_names(network)
    network = replace(
        network, populations=tuple(_with_own_push(network, p) for p in network.populations)
    )
    _check_read(network)
    graph = _Graph(network)
    shapes = {population.name: _node_shape(network, population) for population in graph.kept}
    graph.nodes["input"] = nir.Input(input_type={"input": np.array(network.input.shape)})
    shapes[INPUT] = network.input.shape
    for population in graph.kept:
        node = _neuron(population, shapes[population.name], task, network.dt)
        graph.nodes[population.name] = node
    for population in network.populations:
        links = network.incoming(population.name)
        bias_on = _carrier_of_bias(population, links)
        for link in links:
            bias = population.bias_current if link.name == bias_on else None
            graph.connect(link, bias, shapes)
    output = network.population(network.output.population)
    graph.nodes["output"] = nir.Output(
        output_type={"output": np.array(shapes.get(output.name, output.shape))}
    )
    if output.name not in graph.dropped:
        graph.edges.append((output.name, "output"))
    return nir.NIRGraph(
        nodes=graph.nodes,
        edges=graph.edges,
        type_check=False,
        metadata={
            METADATA: {
                "task": network.tasks[task],
                "dt": network.dt,
                "integrator": "euler",
                "time_steps": network.time_steps,
                "input_scale": network.input.scale,
                **({"input_signed": True} if network.input.signed else {}),
                **({"stateful": True} if network.stateful else {}),
            }
        },
    )


def _with_free_names(network: FloatNetwork) -> FloatNetwork:
    """Rename populations that are called as the end of a graph, or with HDF5's slash."""
    taken = {population.name for population in network.populations} | {"input", "output"}
    names: dict[str, str] = {}
    for population in network.populations:
        name = population.name.replace("/", ".")
        if population.name == "output" or name != population.name:
            while name in taken:
                name += "_"
            names[population.name] = name
            taken.add(name)
    if not names:
        return network

    def renamed(name: str) -> str:
        return names.get(name, name)

    return replace(
        network,
        populations=tuple(replace(p, name=renamed(p.name)) for p in network.populations),
        connections=tuple(
            replace(link, source=renamed(link.source), target=renamed(link.target))
            for link in network.connections
        ),
        output=replace(
            network.output,
            population=renamed(network.output.population),
        ),
    )


def _with_own_push(network: FloatNetwork, population: FloatPopulation) -> FloatPopulation:
    """A population whose bias no connection's node can add: it becomes a part of its v_leak.

    The membrane gains gain * (I + b), which is gain * I + gain * b, where the current has no
    memory of its own.
    """
    mean = network.output == FloatOutput(population.name, OutputKind.MEAN)
    if population.has_current_memory or mean:
        return population
    try:
        _carrier_of_bias(population, network.incoming(population.name))
    except BadNetworkError:
        return replace(
            population,
            bias_current=np.zeros_like(population.bias_current),
            membrane_bias=population.membrane_bias + population.gain * population.bias_current,
        )
    return population


class _Graph:
    """The nodes and edges so far."""

    def __init__(self, network: FloatNetwork) -> None:
        self.network = network
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        # The mean of a linear layer over the steps is written as that layer before the output.
        _check_mean(network)
        self.dropped = {
            population.name
            for population in network.populations
            if population.name == network.output.population
            and network.output.kind is OutputKind.MEAN
        }
        self.kept = [p for p in network.populations if p.name not in self.dropped]

    def connect(
        self, link: FloatConnection, bias: Floats | None, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        """Add the nodes of one connection: Delay, Flatten, and its synapses.

        Args:
            link: the connection.
            bias: of its target, where this connection's node adds it.
            shapes: of what every population sends, and the input.
        """
        if link.source == CONSTANT:
            raise BadNetworkError(f"connection {link.name!r}: NIR has no source of a constant")
        base = f"{link.source}_to_{link.target}"
        while base in self.nodes:
            base += "_"
        at, shape = link.source if link.source != INPUT else "input", shapes[link.source]
        own_loop = link.source == link.target and link.delay == 1
        if link.delay and not own_loop:
            # The step of a loop through one population is understood: nothing can be faster.
            times = np.full(shape, link.delay * self.network.dt)
            at = self.append(f"{base}_delay", nir.Delay(delay=times), at)
        wanted = link.input_shape if link.kind is FloatKind.CONV else (int(np.prod(shape)),)
        if link.kind is not FloatKind.DIAGONAL and shape != wanted:
            if len(wanted) != 1:
                raise BadNetworkError(
                    f"connection {link.name!r}: NIR cannot shape {shape} into {wanted}"
                )
            flatten = nir.Flatten(
                input_type={"input": np.array(shape)}, start_dim=0, end_dim=len(shape) - 1
            )
            at = self.append(f"{base}_flatten", flatten, at)
        at = self.append(base, _synapses(link, bias, shape), at)
        target = "output" if link.target in self.dropped else link.target
        self.edges.append((at, target))

    def append(self, name: str, node: nir.NIRNode, after: str) -> str:
        """Add a node behind another."""
        self.nodes[name] = node
        self.edges.append((after, name))
        return name


def _check_read(network: FloatNetwork) -> None:
    """Refuse membranes of neurons that fire as the output: of their node, NIR reads the spikes.

    Raises:
        BadNetworkError: they are.
    """
    read = network.population(network.output.population)
    if read.spiking and network.output.kind is not OutputKind.SPIKES:
        raise BadNetworkError(
            f"population {read.name!r} fires and its membranes are read; NIR has the spikes of "
            "neurons that fire"
        )


def _check_mean(network: FloatNetwork) -> None:
    """Refuse a mean of anything but a sum over steps, which a reader makes of it.

    Raises:
        BadNetworkError: its membranes leak, have currents with a memory, or are pushed.
    """
    read = network.population(network.output.population)
    plain = (read.membrane_keep == 1).all() and (read.gain == 1).all()
    odd = read.has_current_memory or read.spiking or np.any(read.membrane_bias)
    if network.output.kind is OutputKind.MEAN and (odd or not plain):
        raise BadNetworkError(
            f"population {read.name!r}: NIR has the mean of a linear layer over the steps, not of "
            "neurons with a memory of their own"
        )


def _node_shape(network: FloatNetwork, population: FloatPopulation) -> tuple[int, ...]:
    """The shape that what arrives has: flat behind a dense connection."""
    links = network.incoming(population.name)
    kinds = {link.kind for link in links}
    if FloatKind.DENSE in kinds:
        if FloatKind.CONV in kinds and len(population.shape) > 1:
            raise BadNetworkError(
                f"population {population.name!r} gets convolutions and dense connections; NIR "
                "cannot shape one into the other"
            )
        return (population.size,)
    conv = next((link for link in links if link.kind is FloatKind.CONV), None)
    return conv.output_shape if conv is not None else population.shape


def _carrier_of_bias(population: FloatPopulation, links: list[FloatConnection]) -> str | None:
    """The connection whose node can add the population's bias."""
    if not np.any(population.bias_current):
        return None
    prompt = [link for link in links if link.delay == 0]
    for link in prompt:
        if link.kind is FloatKind.DENSE:
            return link.name
        rows = population.bias_current.reshape(
            (*link.output_shape[:1], -1) if link.output_shape else (population.size, 1)
        )
        if link.kind is FloatKind.CONV and (rows == rows[:, :1]).all():
            return link.name
    for link in prompt:
        if link.kind is FloatKind.DIAGONAL and population.size <= LARGEST_DIAGONAL:
            return link.name
    raise BadNetworkError(
        f"population {population.name!r} has a bias of its own for each neuron of a channel, "
        "which no NIR node can add to a convolution"
    )


def _synapses(link: FloatConnection, bias: Floats | None, shape: tuple[int, ...]) -> nir.NIRNode:
    if link.kind is FloatKind.CONV:
        channels = np.zeros(len(link.weights))
        if bias is not None:
            channels = bias.reshape(len(link.weights), -1)[:, 0].copy()
        return nir.Conv2d(
            input_shape=(int(link.input_shape[1]), int(link.input_shape[2])),
            weight=link.weights,
            **link.conv_fields,
            bias=channels,
        )
    if link.kind is FloatKind.DENSE:
        if bias is None:
            return nir.Linear(weight=link.weights)
        return nir.Affine(weight=link.weights, bias=bias.reshape(-1))
    if bias is None:
        return nir.Scale(scale=link.weights.reshape(shape))
    if len(shape) != 1:
        raise BadNetworkError(f"connection {link.name!r}: NIR cannot add a bias to a Scale")
    return nir.Affine(weight=np.diag(link.weights), bias=bias.reshape(-1))


def _lost(keep: Floats) -> Floats:
    """The share of a state that a step loses; of one that keeps all, so little that it rounds to 0.

    1 - 2^-60 is 1 in float64, and a power of two cancels out of r dt / tau exactly: neurons that
    do not leak have a place beside leaky ones, and every tool computes what they do.
    """
    return np.where(keep < 1, 1 - keep, 2.0**-60)


def _neuron(
    population: FloatPopulation, shape: tuple[int, ...], task: int, dt: float
) -> nir.NIRNode:
    """The neuron node of a population; see the module text for its constants."""
    name, like = population.name, np.ones(shape)

    def shaped(values: Any) -> Floats:
        return np.asarray(values, np.float64).reshape(shape)

    if np.any(population.initial_membrane) or np.any(population.initial_current):
        raise BadNetworkError(
            f"population {name!r} does not start at rest, and NIR has no initial states"
        )
    if np.any(population.membrane_offset):
        raise BadNetworkError(f"population {name!r}: membranes with an offset have no place in NIR")
    keep, current_keep = shaped(population.membrane_keep), shaped(population.current_keep)
    gain, push = shaped(population.gain), shaped(population.membrane_bias)
    fires = population.thresholds is not None
    common: dict[str, Any] = {}
    if fires:
        assert population.thresholds is not None
        common = {"v_threshold": shaped(population.thresholds[task]), "v_reset": 0 * like}
    leaky = keep < 1
    if not leaky.any() and not population.has_current_memory and not push.any():
        node: nir.NIRNode = nir.IF(r=gain, **common) if fires else nir.I(r=gain)
    else:
        lost = _lost(keep)
        common |= {"r": gain / lost, "v_leak": push / lost}
        if population.has_current_memory:
            common |= {
                "tau_syn": dt / _lost(current_keep),
                "tau_mem": dt / lost,
                "w_in": 1 / _lost(current_keep),
            }
            node = nir.CubaLIF(**common) if fires else nir.CubaLI(**common)
        else:
            node = nir.LIF(tau=dt / lost, **common) if fires else nir.LI(tau=dt / lost, **common)
    if fires:
        own: dict[str, Any] = {"reset": population.reset.value}
        if population.fires_at_threshold:
            own["fires_at_threshold"] = True
        node.metadata = {METADATA: own}
    return node

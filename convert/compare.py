"""Compare a NIR graph with the torch network that it comes from, layer by layer.

Each layer of the graph gets the inputs of torch's own layer, so that a spike at a tie with its
threshold does not spoil the layers after it.
"""

from __future__ import annotations

from dataclasses import replace

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from mtspark.convert.agreement import LayerAgreement
from mtspark.convert.nir import import_graph
from mtspark.core.chip_network import INPUT
from mtspark.core.float_network import (
    FloatConnection,
    FloatInput,
    FloatNetwork,
    FloatOutput,
    OutputKind,
    run_float,
)
from mtspark.train.checkpoint import Agent
from mtspark.train.networks import NetworkTrace

TIE = 1e-5
"""Folding reorders sums: a membrane this close to its threshold, relatively, may fire or not."""


def compare_with_torch(
    agent: Agent, graph: nir.NIRGraph, frames: NDArray[np.uint8], task: int
) -> list[LayerAgreement]:
    """Feed every layer of the graph what torch's own layer received, and compare all spikes.

    Args:
        agent: whose torch network is compared.
        graph: of one task.
        frames: uint8 or int8 (batch, channels, height, width).
        task: index of the graph's task.

    Returns:
        The agreement of each spiking layer, from the input on.
    """
    trace = NetworkTrace()
    with torch.no_grad():
        tasks = torch.full((len(frames),), task, dtype=torch.long)
        if agent.network.config.stateful:
            # One episode of them: a step is a decision.
            agent.network.unroll(torch.from_numpy(frames)[:, None], tasks[:1], trace=trace)
        else:
            agent.network(torch.from_numpy(frames), tasks, trace)
    network = import_graph(graph)
    steps = agent.network.config.time_steps
    seen = frames.astype(np.float64) / (1 / agent.network.config.message_value)
    drive = np.broadcast_to(seen, (steps, *frames.shape))
    if network.stateful:
        drive = seen[:, None]
    results = []
    for name, layer in trace.layers.items():
        alone = one_layer(network, name)
        if any(link.delay for link in alone.connections):
            # Its own spikes of the decision before are torch's, too.
            flat = drive.reshape(*drive.shape[:2], -1)
            drive = np.concatenate([flat, layer.spikes.double().numpy()], 2)
        run = run_float(alone, drive.reshape(*drive.shape[:2], *alone.input.shape))
        thresholds = alone.populations[0].thresholds
        assert thresholds is not None
        torch_spikes = layer.spikes.double().numpy()
        tie = np.abs(run.membranes[name] - thresholds[0]) <= TIE * np.abs(thresholds[0])
        different = run.spikes[name] != torch_spikes
        results.append(
            LayerAgreement(
                name=name,
                compared=int(torch_spikes.size),
                ties=int(tie.sum()),
                different=int((different & ~tie).sum()),
                different_ties=int((different & tie).sum()),
            )
        )
        drive = torch_spikes
    return results


def one_layer(network: FloatNetwork, name: str) -> FloatNetwork:
    """Cut out a population and its connections, as a network whose input is the layer before.

    Where it hears itself, its own spikes follow in that input.
    """
    links = network.incoming(name)
    before, *loops = sorted({link.source for link in links}, key=lambda source: source == name)
    width, own = network.size_of(before), network.size_of(name) if loops else 0

    def alone(link: FloatConnection) -> FloatConnection:
        # A loop's source lies behind the layer before, in one input.
        sides = (width, 0) if link.source == name else (0, own)
        weights = np.pad(link.weights, ((0, 0), sides)) if loops else link.weights
        return replace(link, source=INPUT, weights=weights)

    return FloatNetwork(
        name=name,
        input=FloatInput((width + own,)),
        populations=(network.population(name),),
        connections=tuple(map(alone, links)),
        output=FloatOutput(name, OutputKind.SPIKES),
        tasks=network.tasks,
    )

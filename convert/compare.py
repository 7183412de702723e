"""Does a NIR graph compute what the torch network computes? Layer by layer, on its own inputs."""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from mtspark.convert.interpreter import leaky_integrate_and_fire, run_node
from mtspark.train.checkpoint import Agent
from mtspark.train.network import NetworkTrace

TIE = 1e-5
"""Folding reorders sums; a membrane this close to threshold, relatively, may fall either way."""


@dataclass(frozen=True)
class LayerAgreement:
    """How one layer of the graph agrees with torch.

    Attributes:
        name: of the layer.
        compared: spikes compared (steps x batch x neurons).
        ties: membranes within :data:`TIE` of threshold, where a difference is excused.
        different: spikes that differ where it is not a tie.
        different_ties: spikes that differ at ties.
    """

    name: str
    compared: int
    ties: int
    different: int
    different_ties: int


def compare_with_torch(
    agent: Agent, graph: nir.NIRGraph, frames: NDArray[np.uint8], task: int
) -> list[LayerAgreement]:
    """Feed every layer of the graph what torch's own layer received, compare all spikes."""
    trace = NetworkTrace()
    with torch.no_grad():
        tasks = torch.full((len(frames),), task, dtype=torch.long)
        agent.network(torch.from_numpy(frames), tasks, trace)
    meta = graph.metadata["mtspark"]
    steps = agent.network.config.time_steps
    drive = np.broadcast_to(frames.astype(np.float64) / 255.0, (steps, *frames.shape))
    results = []
    for name, layer in trace.layers.items():
        node = graph.nodes[name]
        if isinstance(node, nir.Affine):
            drive = drive.reshape(*drive.shape[:2], -1)
        current = run_node(name, node, drive, float(meta["dt"]))
        lif = graph.nodes[f"{name}_lif"]
        spikes, membrane = leaky_integrate_and_fire(lif, current, float(meta["dt"]))
        torch_spikes = layer.spikes.double().numpy()
        tie = np.abs(membrane - lif.v_threshold) <= TIE * np.abs(lif.v_threshold)
        different = spikes != torch_spikes
        results.append(
            LayerAgreement(
                name=name,
                compared=int(spikes.size),
                ties=int(tie.sum()),
                different=int((different & ~tie).sum()),
                different_ties=int((different & tie).sum()),
            )
        )
        drive = torch_spikes
    return results

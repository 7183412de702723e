"""Episodes of a network whose state survives decisions: frames one after another, from rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import AgentBackend, ChipTrace, Decision
from mtspark.core.chip_network import ChipNetwork


def episode_decisions(
    backend: AgentBackend, frames: NDArray[Any], task: int, *, trace: bool = False
) -> Iterator[Decision]:
    """Play episodes side by side, each on a chip of its own that begins at rest.

    Args:
        backend: of a stateful network.
        frames: (decisions, batch, *input shape) messages.
        task: row of the thresholds.
        trace: record every spike and membrane.

    Yields:
        The answers to each frame of all episodes.
    """
    backend.start(frames.shape[1])
    for given in frames:
        yield backend.decide(np.ascontiguousarray(given), task, trace=trace)


def episode_trace(network: ChipNetwork, decisions: Sequence[Decision]) -> ChipTrace:
    """Join what each population did in its step of every decision.

    Args:
        network: a stateful one.
        decisions: of its episodes, with traces.

    Returns:
        Arrays (decisions, batch, *shape) by population.
    """
    spikes, membranes = {}, {}
    for population in network.populations:
        name, step = population.name, network.depths[population.name]
        traces = [one.trace for one in decisions if one.trace is not None]
        spikes[name] = np.stack([trace.spikes[name][step] for trace in traces])
        membranes[name] = np.stack([trace.membranes[name][step] for trace in traces])
    return ChipTrace(spikes, membranes)

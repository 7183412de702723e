"""The step that removes what no input makes matter, and shows that no spike changes."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadNetworkError
from mtspark.deploy.prune import PRUNED, Pruned, deaf_tasks, prune_network
from mtspark.deploy.quantise import headroom
from mtspark.sim.backends import ReferenceChip
from mtspark.workflows.export.agent import frames_of
from mtspark.workflows.export.state import Export

log = logging.getLogger(__name__)


def prune_agent(export: Export) -> Export:
    """Remove neurons that never fire or that nobody hears, where asked.

    Raises:
        BadNetworkError: a spike changed.
    """
    whole, agent = export.network, export.agent
    assert whole is not None
    assert agent is not None
    if not export.request.prune:
        _warn_if_deaf(whole)
        return export
    pruned = prune_network(whole)
    compared = sum(
        _compared(whole, pruned, frames_of(agent, task), row)
        for row, task in enumerate(agent.tasks)
    )
    _warn_if_deaf(pruned.network)
    removed = sum(one.neurons - one.kept for one in pruned.report.populations)
    network = replace(
        pruned.network, provenance={**pruned.network.provenance, PRUNED: f"{removed} neurons"}
    )
    return replace(
        export,
        network=network,
        pruning=replace(pruned.report, spikes_compared=compared),
        headroom=tuple(headroom(network)),
    )


def _warn_if_deaf(network: ChipNetwork) -> None:
    """Tell where too few synapses or too high thresholds are left for any input to matter."""
    deaf = deaf_tasks(network)
    if deaf:
        log.warning(
            "%s: nothing that it sees reaches its answer, which is always the same; too few "
            "synapses are left, or its neurons never fire",
            ", ".join(deaf),
        )


def _compared(whole: ChipNetwork, pruned: Pruned, frames: np.ndarray, row: int) -> int:
    """Run both networks on frames; returns how many spikes and silences were compared."""
    before = ReferenceChip(whole).decide(frames, row, trace=True)
    after = ReferenceChip(pruned.network).decide(frames, row, trace=True)
    assert before.trace is not None
    assert after.trace is not None
    count, same = 0, np.array_equal(before.values, after.values)
    for name, kept in pruned.kept.items():
        spikes = after.trace.spikes[name]
        if not kept.any():
            # What stands for a population of which nothing is left is off.
            same &= not spikes.any()
            continue
        flat = before.trace.spikes[name].reshape(*spikes.shape[:2], -1)[:, :, kept]
        same &= np.array_equal(flat, spikes.reshape(flat.shape))
        count += flat.size
    if not same:
        raise BadNetworkError(
            f"task {whole.tasks[row].name!r}: a spike changed when neurons were removed, none may; "
            "nothing was written; please report this checkpoint, and export without --prune"
        )
    return count

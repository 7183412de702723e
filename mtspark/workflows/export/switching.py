"""The step that counts what a change from another task's pathway writes into the chip."""

from __future__ import annotations

from dataclasses import replace

from mtspark.core.errors import MtsparkError, one_line
from mtspark.deploy.rewriting import Rewriting, rewriting
from mtspark.workflows.export.quantising import choose_options, limit_thresholds, quantise_network
from mtspark.workflows.export.sources import join_agent_graphs, read_agent, write_agent_graphs
from mtspark.workflows.export.state import Export

TO_INTEGERS = (
    *(read_agent, write_agent_graphs, join_agent_graphs),
    *(choose_options, quantise_network, limit_thresholds),
)
"""What becomes of an agent's task until its network is integers."""


def count_switches(export: Export) -> Export:
    """Turn the agent's other tasks into integers as well, where tasks have synapses of their own.

    Shared synapses may be other integers in each task, whose weights are scaled by themselves. With
    ``--calibrate``, by what is recorded in that task.
    """
    sharing, new = export.sharing, export.network
    if sharing is None:
        return export
    assert new is not None
    switches: dict[str, Rewriting | str] = {}
    for task in sharing.others:
        other = Export(replace(export.request, task=task), export.kind, export.name)
        try:
            for step in TO_INTEGERS:
                other = step(other)
        except MtsparkError as error:
            # As where that task's game is not installed: this task has its integers all the same.
            switches[task] = one_line(error, 200)
            continue
        assert other.network is not None
        switches[task] = rewriting(other.network, new)
    return replace(export, switches=switches)

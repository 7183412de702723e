"""What each task of a network needs by itself, where tasks have neurons of their own.

A network that holds several pathways side by side switches tasks by thresholds: in each task, the
neurons of the others are off. The neurons of a task are those that remain when its network alone
is pruned, by proof (:mod:`mtspark.deploy.prune`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mtspark.core.arithmetic import THRESHOLD_LIMIT
from mtspark.core.arrays import Booleans, Integers
from mtspark.core.chip_network import ChipNetwork
from mtspark.deploy.prune import prune_network


@dataclass(frozen=True)
class TaskPart:
    """The part of a network that one task needs.

    Attributes:
        task: its name.
        network: of this task alone: it spikes and answers as the whole network does in the task.
        kept: of each population, (neurons,) True where the task needs a neuron.
    """

    task: str
    network: ChipNetwork
    kept: Mapping[str, Booleans]


def has_own_neurons(network: ChipNetwork) -> bool:
    """Whether a neuron is off in one task and not in another.

    A neuron is off where its threshold is the largest one, which no membrane can pass.
    """
    for population in network.populations:
        off = population.thresholds >= THRESHOLD_LIMIT
        if bool((off.any(0) & ~off.all(0)).any()):
            return True
    return False


def task_part(network: ChipNetwork, row: int) -> TaskPart:
    """Take one task's part out of a network.

    Args:
        network: of any number of tasks.
        row: of the task.
    """
    task = network.tasks[row]
    alone = replace(
        network,
        tasks=(task,),
        populations=tuple(
            replace(one, thresholds=one.thresholds[row : row + 1]) for one in network.populations
        ),
    )
    pruned = prune_network(alone)
    return TaskPart(task.name, pruned.network, pruned.kept)


def task_parts(network: ChipNetwork) -> tuple[TaskPart, ...]:
    """Return the part of each task; none where all tasks use the same neurons."""
    if not has_own_neurons(network):
        return ()
    return tuple(task_part(network, row) for row in range(len(network.tasks)))


def users(parts: tuple[TaskPart, ...], population: str) -> Integers:
    """Say which tasks need each neuron of a population.

    Args:
        parts: of all tasks.
        population: its name.

    Returns:
        int64 (neurons,); bit n is set where task n needs the neuron.
    """
    flags = [part.kept[population].astype(np.int64) << row for row, part in enumerate(parts)]
    return np.asarray(np.bitwise_or.reduce(flags), np.int64)

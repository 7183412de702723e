"""Cost of a change of task: thresholds that are rewritten on the cores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtspark.core.chip_network import INPUT, ChipNetwork
from mtspark.deploy.chips import ChipModel
from mtspark.deploy.mapping.mapper import ChipMapping


@dataclass(frozen=True)
class TaskSwitch:
    """A change from one task to another.

    Attributes:
        source, target: task names.
        writes_per_core: register writes of each core, in the mapping's order.
        writes: of all cores.
        time_us: modelled, one write after the other; None where the chip has no time for one.
        time_source: where that time is from, or why there is none.
    """

    source: str
    target: str
    writes_per_core: tuple[int, ...]
    writes: int
    time_us: float | None
    time_source: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each."""
        return asdict(self)


def task_switches(
    network: ChipNetwork, mapping: ChipMapping, chip: ChipModel, times: str | None = None
) -> list[TaskSwitch]:
    """Every change of task, from row to row.

    A chip with threshold registers (a limit of them a core) rewrites each register whose value
    differs; a chip without rewrites the threshold of each neuron that differs.
    """
    registers = chip.limit("thresholds_per_core") is not None
    time_set = chip.time_set(times)
    figure = None if time_set is None else time_set.figures.get("register_write_ns")
    switches = []
    for old, source in enumerate(network.tasks):
        for new, target in enumerate(network.tasks):
            if old == new:
                continue
            writes = tuple(
                _writes(network, core.population, core.neurons, old, new, registers)
                for core in mapping.cores
            )
            total = sum(writes)
            switches.append(
                TaskSwitch(
                    source.name,
                    target.name,
                    writes,
                    total,
                    None if figure is None else total * float(figure.value) / 1000,
                    "not modelled: no time of a register write is known"
                    if figure is None
                    else f"{figure.source} ({figure.confidence})",
                )
            )
    return switches


def _writes(
    network: ChipNetwork,
    name: str,
    neurons: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    old: int,
    new: int,
    registers: bool,
) -> int:
    if name == INPUT:
        return 0
    thresholds = network.population(name).thresholds.reshape(len(network.tasks), -1)[:, neurons]
    if registers:
        thresholds = np.unique(thresholds, axis=1)
    return int(np.count_nonzero(thresholds[old] != thresholds[new]))

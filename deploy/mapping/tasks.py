"""Cores of a task and of the others, and what a change to its pathway would write."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtspark.core.arithmetic import THRESHOLD_LIMIT
from mtspark.core.chip_network import INPUT, ChipNetwork
from mtspark.deploy.chips import ChipModel
from mtspark.deploy.mapping.mapper import ChipMapping, map_network
from mtspark.deploy.mapping.synapses import Part, encoding_of, synapse_bits
from mtspark.deploy.mapping.task_switch import task_switches
from mtspark.deploy.pathways import TaskPart, task_parts, users

THRESHOLD_BITS = THRESHOLD_LIMIT.bit_length()


@dataclass(frozen=True)
class TaskCores:
    """What one task takes of a mapping whose tasks have neurons of their own.

    Attributes:
        task: its name.
        neurons: that it needs.
        weights: of its part, other than 0; a kernel's are counted once.
        cores: that hold a neuron which it needs, or send the frame.
        shared: of these, those that another task needs, too.
        idle: other cores: all of their neurons are off.
        memory_bits: of the synapses on `cores`.
        idle_memory_bits: of those on the others.
        alone_cores: cores that its part takes where no other task is on the chip.
        alone_memory_bits: of the synapses of that part.
        switch_weight_bytes: synapses that a chip of one part at a time would write on a switch to
            this task, at most: all of each connection that is not the same in every part.
        switch_weight_messages: the same in words of the chip's synaptic memory.
        switch_threshold_writes: registers that the dearest switch to this task writes instead,
            where all parts are on the chip.
        switch_threshold_bytes: the same in bytes.
    """

    task: str
    neurons: int
    weights: int
    cores: int
    shared: int
    idle: int
    memory_bits: int
    idle_memory_bits: int
    alone_cores: int
    alone_memory_bits: int
    switch_weight_bytes: int
    switch_weight_messages: int
    switch_threshold_writes: int
    switch_threshold_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each."""
        return asdict(self)


@dataclass(frozen=True)
class Packing:
    """Tasks with neurons of their own on the cores of a chip.

    Attributes:
        tasks: in the network's order; empty where all tasks use the same neurons.
        union_neurons: that any task needs.
        union_weights: of the network, other than 0.
        cores: of the mapping.
    """

    tasks: tuple[TaskCores, ...] = ()
    union_neurons: int = 0
    union_weights: int = 0
    cores: int = 0

    def of_task(self, task: str) -> TaskCores | None:
        """Return what a task takes; None where all tasks use the same neurons."""
        return next((one for one in self.tasks if one.task == task), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "tasks": [one.to_json() for one in self.tasks]}


def weights_of(network: ChipNetwork) -> int:
    """Count the weights other than 0; those of a kernel once."""
    return sum(int(np.count_nonzero(link.weights)) for link in network.connections)


def idle_cores(mapping: ChipMapping, part: TaskPart) -> tuple[int, ...]:
    """Return the cores whose neurons a task does not need, as places in the mapping.

    Args:
        mapping: of the whole network.
        part: of the task.
    """
    return tuple(
        place
        for place, core in enumerate(mapping.cores)
        if core.population != INPUT and not part.kept[core.population][core.neurons].any()
    )


def pack_tasks(network: ChipNetwork, mapping: ChipMapping, chip: ChipModel) -> Packing:
    """Count each task's cores, idle ones, and what a switch writes.

    Args:
        network: that was mapped.
        mapping: of it.
        chip: that it was mapped to.
    """
    parts = task_parts(network)
    if not parts:
        return Packing()
    idle = [set(idle_cores(mapping, part)) for part in parts]
    needed = {one.name: users(parts, one.name) for one in network.populations}
    rewritten = _rewritten(parts)
    dearest = {
        one.target: one.writes
        for one in sorted(task_switches(network, mapping, chip), key=lambda switch: switch.writes)
    }
    tasks = []
    for row, part in enumerate(parts):
        others = set.intersection(*(cores for other, cores in enumerate(idle) if other != row))
        used = [place for place in range(len(mapping.cores)) if place not in idle[row]]
        alone = map_network(part.network, chip, input_place=mapping.input_place, place=False)
        stored, words = _stored(part.network, alone, chip, rewritten)
        registers = dearest[part.task]
        tasks.append(
            TaskCores(
                task=part.task,
                neurons=sum(int(kept.sum()) for kept in part.kept.values()),
                weights=weights_of(part.network),
                cores=len(used),
                shared=sum(place not in others for place in used),
                idle=len(idle[row]),
                memory_bits=sum(mapping.cores[place].use.memory_bits for place in used),
                idle_memory_bits=sum(mapping.cores[place].use.memory_bits for place in idle[row]),
                alone_cores=len(alone.cores),
                alone_memory_bits=sum(core.use.memory_bits for core in alone.cores),
                switch_weight_bytes=-(-stored // 8),
                switch_weight_messages=words,
                switch_threshold_writes=registers,
                switch_threshold_bytes=-(-registers * THRESHOLD_BITS // 8),
            )
        )
    return Packing(
        tuple(tasks),
        sum(int((flags > 0).sum()) for flags in needed.values()),
        weights_of(network),
        len(mapping.cores),
    )


def _rewritten(parts: tuple[TaskPart, ...]) -> set[str]:
    """Connections that are not the same in the networks of all tasks."""
    first, *others = (part.network.connections for part in parts)
    return {
        link.name
        for more in others
        for link, other in zip(first, more, strict=True)
        if link.exponent != other.exponent or not np.array_equal(link.weights, other.weights)
    }


def _stored(
    network: ChipNetwork, mapping: ChipMapping, chip: ChipModel, names: set[str]
) -> tuple[int, int]:
    """Bits, and words of memory, of the synapses of some connections."""
    bits = words = 0
    for link in network.connections:
        if link.name not in names:
            continue
        source, target = network.shape_of(link.source), network.shape_of(link.target)
        for place in mapping.layers[link.target]:
            core = mapping.cores[place]
            part = Part(core.population, core.neurons, core.box)
            held = synapse_bits(link, source, target, part, chip)
            bits += held
            words += held // encoding_of(link, chip).word_bits
    return bits, words

"""Counts: spikes, synaptic operations and neuron updates, from messages and fan-outs.

A synaptic operation is one message meeting one synapse. Structural operations count every
synapse of the connection, borders of convolutions exact and zero weights included, as
hardware that stores zeros spends them; effective ones count nonzero weights only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtspark.core.arrays import Integers
from mtspark.core.backend import Activity
from mtspark.core.chip_network import INPUT, ChipNetwork, Connection, fan_out
from mtspark.sim.engine import LaneCounts, LaneTotals


@dataclass(frozen=True)
class Split:
    """A count within the window of a decision and in the pipeline steps around it."""

    window: int
    drain: int

    @property
    def total(self) -> int:
        """Both together: what the chip spends."""
        return self.window + self.drain

    def to_json(self) -> dict[str, int]:
        """Return JSON values."""
        return {"total": self.total, "window": self.window, "drain": self.drain}


@dataclass(frozen=True)
class ConnectionCounts:
    """Synaptic operations of one connection over a run.

    Attributes:
        name, source, target: of the connection.
        synops_structural: stored zeros included (sparse connections store none).
        synops_effective: on nonzero weights.
    """

    name: str
    source: str
    target: str
    synops_structural: Split
    synops_effective: Split

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; a count becomes three fields."""
        return {
            "name": self.name,
            "source": self.source,
            "target": self.target,
            **_fields("synops_structural", self.synops_structural),
            **_fields("synops_effective", self.synops_effective),
        }


@dataclass(frozen=True)
class LayerCounts:
    """What one population did over a run.

    Attributes:
        name: of the population.
        neurons: in it.
        spikes: sent by it.
        synops_structural: on its incoming synapses, stored zeros included.
        synops_effective: on its incoming synapses with nonzero weights.
        neuron_updates: every neuron at every step.
        silent_neurons: neurons that could have spiked within the window and never did; 0 of a
            readout whose membranes are read.
    """

    name: str
    neurons: int
    spikes: Split
    synops_structural: Split
    synops_effective: Split
    neuron_updates: Split
    silent_neurons: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; a count becomes three fields."""
        return {
            "name": self.name,
            "neurons": self.neurons,
            **_fields("spikes", self.spikes),
            **_fields("synops_structural", self.synops_structural),
            **_fields("synops_effective", self.synops_effective),
            **_fields("neuron_updates", self.neuron_updates),
            "silent_neurons": self.silent_neurons,
        }


@dataclass(frozen=True)
class RunCounts:
    """Counts of a whole run.

    Attributes:
        decisions: how many.
        input_events: frame values sent as messages (nonzero ones), each time they are sent.
        layers: by population, input side first.
        connections: in the order of the network.
    """

    decisions: int
    input_events: Split
    layers: tuple[LayerCounts, ...]
    connections: tuple[ConnectionCounts, ...]

    @property
    def synops_structural(self) -> int:
        """Of all layers, window and drain."""
        return sum(layer.synops_structural.total for layer in self.layers)

    @property
    def neuron_updates(self) -> int:
        """Of all layers, window and drain."""
        return sum(layer.neuron_updates.total for layer in self.layers)


class Counter:
    """Adds up the activity of decisions; exact, in integers."""

    def __init__(self, network: ChipNetwork) -> None:
        self.network = network
        self.decisions = 0
        names = [INPUT, *(population.name for population in network.populations)]
        self._totals = [
            {name: np.zeros(network.shape_of(name), np.int64) for name in names} for _ in range(2)
        ]
        self._lanes: list[LaneTotals | None] = [None, None]

    @property
    def window(self) -> dict[str, Integers]:
        """Messages so far by source, of its shape: those sent within its window."""
        return self._sum(0)

    @property
    def drain(self) -> dict[str, Integers]:
        """Messages so far by source, of its shape: those sent outside of its window."""
        return self._sum(1)

    @property
    def sent(self) -> dict[str, Integers]:
        """Messages so far by source, of its shape, whenever they were sent."""
        window, drain = self.window, self.drain
        return {name: window[name] + drain[name] for name in window}

    def add(self, activity: Activity) -> None:
        """Add one decision of each member of a batch."""
        batch = 0
        for number, counts in enumerate((activity.window, activity.drain)):
            if isinstance(counts, LaneCounts):
                batch = len(counts.lanes)
                self._add_lanes(number, counts)
                continue
            for name, messages in counts.items():
                batch = len(messages)
                self._totals[number][name] += messages.sum(0)
        self.decisions += batch

    def add_totals(
        self, decisions: int, window: Mapping[str, Integers], drain: Mapping[str, Integers]
    ) -> None:
        """Add what another counter of the same network has counted.

        Args:
            decisions: how many it has counted.
            window, drain: its messages by source, of its shape.
        """
        for number, counts in enumerate((window, drain)):
            for name, messages in counts.items():
                self._totals[number][name] += messages
        self.decisions += decisions

    def _add_lanes(self, number: int, counts: LaneCounts) -> None:
        """Add what the engine counted, as it stands there: 39,000 neurons in 10 microseconds."""
        most = self.network.steps_per_decision * len(counts.lanes)
        totals = self._lanes[number]
        if totals is None or not totals.fits(counts, most):
            self._sum(number)
            totals = self._lanes[number] = LaneTotals(counts)
        totals.add(counts, most)

    def _sum(self, number: int) -> dict[str, Integers]:
        """Everything so far; what was kept by lane is moved to where the totals are."""
        totals, lanes = self._totals[number], self._lanes[number]
        if lanes is not None:
            for name, messages in lanes.counts().items():
                totals[name] += messages[0]
            self._lanes[number] = None
        return totals

    def result(self, *, pipeline: bool = True) -> RunCounts:
        """The counts so far.

        Args:
            pipeline: the backend ran in chip time, T + L steps; otherwise T steps and no drain.
        """
        network, window, drain = self.network, self.window, self.drain
        drain_steps = network.depth if pipeline else 0
        connections = []
        for link in network.connections:
            fans = fan_out(link, network.shape_of(link.source))
            structural, effective = (self._operations(link, fan) for fan in fans)
            connections.append(
                ConnectionCounts(link.name, link.source, link.target, structural, effective)
            )
        layers = []
        for population in network.populations:
            incoming = [link for link in connections if link.target == population.name]
            updates = population.size * self.decisions
            layers.append(
                LayerCounts(
                    name=population.name,
                    neurons=population.size,
                    spikes=Split(
                        int(window[population.name].sum()), int(drain[population.name].sum())
                    ),
                    synops_structural=_sum([link.synops_structural for link in incoming]),
                    synops_effective=_sum([link.synops_effective for link in incoming]),
                    neuron_updates=Split(updates * network.time_steps, updates * drain_steps),
                    silent_neurons=(
                        int((window[population.name] == 0).sum())
                        if network.fires(population.name)
                        else 0
                    ),
                )
            )
        events = Split(int(window[INPUT].sum()), int(drain[INPUT].sum()))
        return RunCounts(self.decisions, events, tuple(layers), tuple(connections))

    def _operations(self, link: Connection, fan: Integers) -> Split:
        """Messages on a connection times the synapses that they meet.

        They are booked when they are sent, also where they come too late for their decision.
        """
        source = link.source
        return Split(int((self.window[source] * fan).sum()), int((self.drain[source] * fan).sum()))


def _sum(splits: list[Split]) -> Split:
    return Split(sum(split.window for split in splits), sum(split.drain for split in splits))


def _fields(name: str, count: Split) -> dict[str, int]:
    return {name: count.total, f"{name}_window": count.window, f"{name}_drain": count.drain}

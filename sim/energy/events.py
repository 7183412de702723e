"""What a mean decision spends, before any price: operations, updates and spikes by population."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

from mtspark.core.chip_network import INPUT, ChipNetwork
from mtspark.sim.counts import RunCounts
from mtspark.sim.energy.cards import TermPrice


class Line(NamedTuple):
    """One count of one population, and what each of them costs.

    Attributes:
        term: of a bill.
        layer: population.
        amount: how many of them in a mean decision.
        price: None where the card has none.
    """

    term: str
    layer: str
    amount: float
    price: TermPrice | None


@dataclass(frozen=True)
class OperationEvents:
    """Synaptic operations of one connection in a mean decision.

    Attributes:
        connection: its name.
        kind: of the connection.
        graded: messages carry a payload that is multiplied.
        messages: of the source, each counted once whatever its fan-out.
        operations: synapses met, stored zeros included.
        weights: that are stored (a convolution stores its kernel once).
        taps: of a kernel, rows times columns; 1 for dense and sparse.
        sources: neurons (or values) that can send.
    """

    connection: str
    kind: str
    graded: bool
    messages: float
    operations: float
    weights: int
    taps: int
    sources: int


@dataclass(frozen=True)
class LayerEvents:
    """Events of one population and of its incoming synapses in a mean decision.

    Attributes:
        name: of the population.
        neurons: in it.
        leaky: its membranes decay, but not to nothing.
        operations: on the synapses of each incoming connection.
        updates: neurons times steps.
        spikes: sent.
    """

    name: str
    neurons: int
    leaky: bool
    operations: tuple[OperationEvents, ...]
    updates: float
    spikes: float


@dataclass(frozen=True)
class Events:
    """What a mean decision spends, whatever it costs."""

    layers: tuple[LayerEvents, ...]
    network: ChipNetwork = field(repr=False)

    @classmethod
    def of(cls, counts: RunCounts, network: ChipNetwork) -> Events:
        """Return the mean decision of a run; window and drain steps both cost."""
        decisions = max(counts.decisions, 1)
        sent = {layer.name: layer.spikes.total / decisions for layer in counts.layers}
        sent[INPUT] = counts.input_events.total / decisions
        layers = []
        for layer in counts.layers:
            incoming = []
            for link, counted in zip(network.connections, counts.connections, strict=True):
                if link.target != layer.name:
                    continue
                conv = link.weights.ndim == 4
                incoming.append(
                    OperationEvents(
                        connection=link.name,
                        kind=link.kind.value,
                        graded=link.source == INPUT and network.input.payload_bits > 0,
                        messages=sent[link.source],
                        operations=counted.synops_structural.total / decisions,
                        weights=link.stored_weights,
                        taps=link.weights[0, 0].size if conv else 1,
                        sources=prod(network.shape_of(link.source)),
                    )
                )
            layers.append(
                LayerEvents(
                    name=layer.name,
                    neurons=layer.neurons,
                    leaky=_leaky(network.population(layer.name).membrane_decay),
                    operations=tuple(incoming),
                    updates=layer.neuron_updates.total / decisions,
                    spikes=sent[layer.name],
                )
            )
        return cls(tuple(layers), network)


def _leaky(decay: object) -> bool:
    values = np.asarray(decay)
    return bool(((values > 0) & (values < 4096)).any())

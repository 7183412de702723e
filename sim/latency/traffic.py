"""Messages between cores, and the links they cross, from recorded counts under a mapping.

A neuron that speaks sends one message to each core that holds a neuron it has a synapse on,
for each connection. Messages go along a row, then along a column, between routers; cores of
one router exchange them without a hop, and a core's messages to itself take none either.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import ChipNetwork
from mtspark.deploy.chips import ChipModel
from mtspark.deploy.mapping import ChipMapping, Part, synapses_per_axon

OPERATIONS = ("dense", "sparse", "conv")
"""Kinds of synaptic operations, whose times differ on some chips."""


@dataclass(frozen=True)
class Traffic:
    """What cores sent one another, and did, over some decisions (or one step).

    Attributes:
        messages: from each core to each other, (cores, cores).
        hops_east_west, hops_north_south: of one message between each pair, (cores, cores).
        within_router: pairs of different cores at one router, bool (cores, cores).
        between_chips: pairs on different chips, bool (cores, cores).
        from_host: messages that each core got from the host, where the host sends frames.
        spikes: sent by the neurons of each core, each counted once.
        operations: synaptic operations of each core, by kind of connection.
        neurons: on each core.
    """

    messages: Integers
    hops_east_west: Integers
    hops_north_south: Integers
    within_router: NDArray[np.bool_]
    between_chips: NDArray[np.bool_]
    from_host: Integers
    spikes: Integers
    operations: dict[str, Integers]
    neurons: Integers

    @property
    def total(self) -> int:
        """Messages that leave a core for another."""
        return int(self.messages.sum() - np.trace(self.messages))

    @property
    def total_within_router(self) -> int:
        """Those of them that stay at their router."""
        return int(self.messages[self.within_router].sum())

    @property
    def total_between_chips(self) -> int:
        """Those of them that leave their chip."""
        return int(self.messages[self.between_chips].sum())

    @property
    def total_hops_east_west(self) -> int:
        """Links along rows that all messages crossed."""
        return int((self.messages * self.hops_east_west).sum())

    @property
    def total_hops_north_south(self) -> int:
        """Links along columns that all messages crossed."""
        return int((self.messages * self.hops_north_south).sum())

    @property
    def received(self) -> Integers:
        """Messages that reached each core, the host's included."""
        return self.messages.sum(0) + self.from_host

    @property
    def sent(self) -> Integers:
        """Messages that each core sent."""
        return self.messages.sum(1)


def traffic_of(
    network: ChipNetwork,
    mapping: ChipMapping,
    chip: ChipModel,
    sent: Dictionary[str, NDArray[np.integer]],
) -> Traffic:
    """Messages under a mapping.

    Args:
        network: the network.
        mapping: its mapping.
        chip: whose mesh the mapping lies on.
        sent: messages that each neuron sent, by source (populations and
            :data:`mtspark.core.chip_network.INPUT`), of the source's shape: of one step,
            or added up over decisions (``Counter.window[name] + Counter.drain[name]``).
    """
    count = len(mapping.cores)
    messages = np.zeros((count, count), np.int64)
    from_host = np.zeros(count, np.int64)
    operations = {kind: np.zeros(count, np.int64) for kind in OPERATIONS}
    spikes = np.zeros(count, np.int64)
    for name, indices in mapping.layers.items():
        flat = np.asarray(sent[name], np.int64).reshape(-1)
        for index in indices:
            spikes[index] = flat[mapping.cores[index].neurons].sum()
    for link in network.connections:
        source, target = network.shape_of(link.source), network.shape_of(link.target)
        flat = np.asarray(sent[link.source], np.int64).reshape(-1)
        owners = mapping.owners(link.source, len(flat))
        # A kernel without its zeros is a list, as any sparse connection.
        kind = link.kind.value if link.kind.stores_zeros else "sparse"
        for index in mapping.layers[link.target]:
            core = mapping.cores[index]
            part = Part(core.population, core.neurons, core.box)
            synapses = synapses_per_axon(link, source, target, part)
            operations[kind][index] += int((flat * synapses).sum())
            heard = np.where(synapses > 0, flat, 0)
            if owners is None:
                from_host[index] += int(heard.sum())
            else:
                # Sums of integers below 2^53 are exact in bincount's doubles.
                received = np.bincount(owners, weights=heard, minlength=count)
                messages[:, index] += received.astype(np.int64)
    columns = np.array([core.chip * chip.mesh.columns + core.column for core in mapping.cores])
    rows = np.array([core.row for core in mapping.cores])
    chips = np.array([core.chip for core in mapping.cores])
    east_west = np.abs(columns[:, None] - columns)
    north_south = np.abs(rows[:, None] - rows)
    return Traffic(
        messages=messages,
        hops_east_west=east_west,
        hops_north_south=north_south,
        within_router=(east_west + north_south == 0) & ~np.eye(count, dtype=bool),
        between_chips=chips[:, None] != chips,
        from_host=from_host,
        spikes=spikes,
        operations=operations,
        neurons=np.array([core.use.neurons for core in mapping.cores], np.int64),
    )

"""Removing what no input can make matter: neurons that never fire, and those that nobody hears.

All reasoning is on the integers of the chip, so no spike that remains changes. A neuron never
fires if its membrane stays at or below its thresholds under the worst of all inputs, with one
decision's steps since it was set to rest (:func:`largest_membranes`). It is unheard if it has no
synapse to a neuron that is kept. Both are repeated until nothing more is found.

In layers that a convolution joins, whole channels are removed: the neurons of a channel share
their weights, and those that stay with it keep what they hear. The frame keeps its shape. A layer
of which nothing is left keeps one neuron, or channel, that is off, without synapses and bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import (
    CURRENT_LIMIT,
    STATE_SHIFT,
    THRESHOLD_LIMIT,
    decay,
    saturate_membrane,
    shift,
)
from mtspark.core.arrays import Integers
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    Population,
    check_forgets,
    check_network,
    fan_out,
)
from mtspark.core.float_network import convolve
from mtspark.core.geometry import conv_geometry

PRUNED = "pruned"
"""Provenance of a network from which neurons were removed: how many."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class PrunedPopulation:
    """What was removed of a population.

    Attributes:
        population: its name.
        neurons: before.
        kept: after.
        never_fire: neurons that no input makes fire, before.
        unheard: others without a synapse to a neuron that is kept, before.
    """

    population: str
    neurons: int
    kept: int
    never_fire: int
    unheard: int


@dataclass(frozen=True)
class PrunedConnection:
    """What was removed of a connection.

    Attributes:
        connection: its name.
        synapses: with a weight other than 0, over all places of a kernel, before.
        kept: the same, after.
        sparse: its weights are laid out as a sparse connection after.
    """

    connection: str
    synapses: int
    kept: int
    sparse: bool


@dataclass(frozen=True)
class Pruning:
    """What was removed of a network.

    Attributes:
        populations: in the network's order.
        connections: likewise.
        inputs: messages of a frame.
        inputs_unused: of these, those that meet no synapse of a neuron that is kept.
        spikes_compared: of kept neurons and decisions in which both networks were run.
    """

    populations: tuple[PrunedPopulation, ...]
    connections: tuple[PrunedConnection, ...]
    inputs: int
    inputs_unused: int
    spikes_compared: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each."""
        return asdict(self)


@dataclass(frozen=True)
class Pruned:
    """A network without what cannot matter.

    Attributes:
        network: what is left.
        kept: of each population, (neurons,) True where a neuron is still there; those of
            what is left have these places, in order. Of a population whose one neuron or channel
            is off, all are False.
        report: what was removed.
    """

    network: ChipNetwork
    kept: Mapping[str, Flags]
    report: Pruning


def prune_network(network: ChipNetwork) -> Pruned:
    """Remove neurons that no input makes fire or that nobody hears, and their synapses.

    Every kept neuron has the same spikes and membranes as before, for every input and task.
    A population keeps at least one neuron, or channel, that may be off; channels of grouped
    convolutions all stay.

    Raises:
        BadNetworkError: the network breaks a rule.
    """
    check_network(network)
    check_forgets(
        network, "what no input makes fire is found for one decision alone", "leave pruning out"
    )
    fires = _may_fire(network)
    needed = _needed(network, fires)
    kept = {one.name: _stays(network, one, fires, needed) for one in network.populations}
    places = {name: flags if flags.any() else _first(network, name) for name, flags in kept.items()}
    off = frozenset(name for name, flags in kept.items() if not flags.any())
    left = replace(
        network,
        populations=tuple(
            _kept_part(one, places[one.name], network, off=one.name in off)
            for one in network.populations
        ),
        connections=tuple(
            _kept_synapses(link, network, places, fires, off) for link in network.connections
        ),
    )
    check_network(left)
    return Pruned(left, kept, _report(network, left, kept, fires, needed))


def deaf_tasks(network: ChipNetwork) -> list[str]:
    """Tasks in which no chain of synapses leads from what they show to the readout.

    Args:
        network: of any kind; of a pruned one, neurons that no input makes fire are gone. Whoever is
            left may fire, so of tasks side by side one may be deaf that is not named. A task that
            has a place of its own in the frame shows nothing elsewhere.

    Returns:
        Their names, in order.
    """
    everyone = {one.name: np.ones(one.size, bool) for one in network.populations}
    everyone[INPUT] = np.ones(int(np.prod(network.input.shape)), bool)
    heard = _needed(network, everyone)[INPUT]
    return [task.name for task in network.tasks if not heard[task.place].any()]


def largest_membranes(
    population: Population, rising: Integers, steps: int
) -> tuple[Integers, Integers]:
    """Bound currents and membranes from above, over all steps since the population was at rest.

    Decay, sum, shift and saturation all keep the order of their arguments, so the largest sum in
    every step gives the largest membrane in every step, until the first spike.

    Args:
        population: the neurons.
        rising: (*shape) largest sum that arrives in a step, shifted by the exponents.
        steps: since rest.

    Returns:
        The largest current and membrane of every neuron, (*shape).
    """
    current = np.zeros(population.shape, np.int64)
    membrane, top, most = current, current, np.full(population.shape, np.iinfo(np.int64).min)
    bias = population.bias_mantissa << population.bias_exponent
    for _ in range(steps):
        current = decay(current, population.current_decay) + (rising << STATE_SHIFT)
        membrane = saturate_membrane(decay(membrane, population.membrane_decay) + current + bias)
        top, most = np.maximum(top, current), np.maximum(most, membrane)
    return top, most


def _may_fire(network: ChipNetwork) -> dict[str, Flags]:
    """Neurons that some input may make fire, (neurons,) of each population.

    At first all may; each round knows of fewer, and any round's answer is sound.
    """
    fires = {one.name: np.ones(one.size, bool) for one in network.populations}
    fires[INPUT] = np.ones(int(np.prod(network.input.shape)), bool)
    while True:
        before = {name: flags.copy() for name, flags in fires.items()}
        for population in network.populations:
            if network.fires(population.name):
                fires[population.name] = before[population.name] & _fires(
                    network, population, fires
                )
        if all(np.array_equal(before[name], fires[name]) for name in fires):
            return fires


def _fires(network: ChipNetwork, population: Population, fires: Mapping[str, Flags]) -> Flags:
    rising = np.zeros(population.shape, np.int64)
    falling = np.zeros(population.shape, np.int64)
    for link in network.connections:
        if link.target == population.name:
            above, below = _largest_sums(link, network, fires[link.source])
            rising = rising + above
            falling = falling + below
    steps = network.steps_per_decision
    current, membrane = largest_membranes(population, rising, steps)
    lowest, _ = largest_membranes(population, falling, steps)
    least = population.thresholds.min(0) << STATE_SHIFT
    over = membrane >= least if population.fires_at_threshold else membrane > least
    # A current that wraps changes its sign, so that of a large negative one says nothing.
    wraps = np.maximum(current, lowest) >= CURRENT_LIMIT
    flags: Flags = (over | wraps).reshape(-1)
    return flags


def _largest_sums(
    link: Connection, network: ChipNetwork, sends: Flags
) -> tuple[Integers, Integers]:
    """Largest sum of a step over what can be sent, and the largest negative one as a magnitude."""
    given = network.input
    weights = link.weights
    above, below = np.maximum(weights, 0), np.maximum(-weights, 0)
    largest = given.largest_message if link.source == INPUT else 1
    if link.source == INPUT and given.signed:
        above = below = above + below
    shape = network.population(link.target).shape

    def total(part: Integers) -> Integers:
        if not link.kind.convolves:
            return (part @ sends.astype(np.int64) * largest).reshape(shape)
        source = network.shape_of(link.source)
        geometry = conv_geometry(link, source, link.weights.shape)
        assert geometry is not None, "the network is checked"
        image = sends.reshape(1, *source).astype(np.float64)
        # Sums of integers below 2^53 are exact in float64.
        sums = convolve(geometry, part.astype(np.float64), image)[0]
        return np.rint(sums).astype(np.int64) * largest

    # A magnitude is shifted as its negative is: rounded away from 0.
    return shift(total(above), link.exponent), -shift(-total(below), link.exponent)


def _needed(network: ChipNetwork, fires: Mapping[str, Flags]) -> dict[str, Flags]:
    """Neurons with a synapse to a neuron that is needed itself; of the readout, all."""
    needed = {one.name: np.zeros(one.size, bool) for one in network.populations}
    needed[network.readout.population] |= True
    needed[INPUT] = np.zeros(int(np.prod(network.input.shape)), bool)
    while True:
        before = {name: flags.copy() for name, flags in needed.items()}
        for link in network.connections:
            hears = _stays(network, network.population(link.target), fires, needed)
            needed[link.source] |= _heard(link, network, hears)
        if all(np.array_equal(before[name], needed[name]) for name in needed):
            return needed


def _stays(
    network: ChipNetwork,
    population: Population,
    fires: Mapping[str, Flags],
    needed: Mapping[str, Flags],
) -> Flags:
    """Neurons of a population that stay: those that matter, and what they share a channel with."""
    name = population.name
    if name == network.readout.population or _grouped(network, name):
        return np.ones(population.size, bool)
    alive = fires[name] & needed[name]
    if not _by_channel(network, population):
        return alive
    channels: Flags = np.asarray(alive.reshape(population.shape[0], -1).any(1))
    return np.repeat(channels, population.size // len(channels))


def _first(network: ChipNetwork, name: str) -> Flags:
    """The one neuron, or channel, of a population that stands for nothing."""
    population = network.population(name)
    size = population.size // population.shape[0] if _by_channel(network, population) else 1
    return np.arange(population.size) < size


def _heard(link: Connection, network: ChipNetwork, hears: Flags) -> Flags:
    """Source neurons with a synapse to one of the targets that hear."""
    if not link.kind.convolves:
        flags: Flags = (link.weights[hears] != 0).any(0)
        return flags
    # By channel: the kernels of a channel that is heard somewhere are kept for all its places.
    shape = network.population(link.target).shape
    channels = hears.reshape(shape[0], -1).any(1)
    source = network.shape_of(link.source)
    masked = replace(link, weights=link.weights * channels.reshape(-1, 1, 1, 1))
    _, effective = fan_out(masked, source)
    reached: Flags = (effective > 0).reshape(-1)
    return reached


def _by_channel(network: ChipNetwork, population: Population) -> bool:
    """Whether a convolution begins or ends at a population."""
    return any(
        link.kind.convolves and population.name in (link.source, link.target)
        for link in network.connections
    )


def _grouped(network: ChipNetwork, name: str) -> bool:
    """Whether channels of a population are in groups of a convolution, which must stay as large."""
    return any(
        link.groups > 1 and name in (link.source, link.target) for link in network.connections
    )


def _kept_part(
    population: Population, kept: Flags, network: ChipNetwork, *, off: bool
) -> Population:
    shape: tuple[int, ...] = (int(kept.sum()),)
    if kept.all() and not off:
        return population
    if _by_channel(network, population):
        shape = (int(kept.reshape(population.shape[0], -1)[:, 0].sum()), *population.shape[1:])

    def part(values: Any) -> Any:
        if isinstance(values, int):
            return values
        return values.reshape(-1)[kept].reshape(shape)

    rows = population.thresholds.reshape(len(population.thresholds), -1)
    left = replace(
        population,
        shape=shape,
        current_decay=part(population.current_decay),
        membrane_decay=part(population.membrane_decay),
        thresholds=np.ascontiguousarray(rows[:, kept]).reshape(-1, *shape),
        bias_mantissa=part(population.bias_mantissa),
    )
    if not off:
        return left
    return replace(
        left,
        thresholds=np.full_like(left.thresholds, THRESHOLD_LIMIT),
        bias_mantissa=np.zeros_like(left.bias_mantissa),
    )


def _kept_synapses(
    link: Connection,
    network: ChipNetwork,
    kept: Mapping[str, Flags],
    fires: Mapping[str, Flags],
    off: frozenset[str],
) -> Connection:
    """The synapses of what stays; none where one end is off."""
    weights = link.weights
    if off & {link.source, link.target}:
        weights = np.zeros_like(weights)
    if link.kind.convolves:
        rows = kept[link.target].reshape(len(weights), -1)[:, 0]
        weights = weights[rows]
        if link.source != INPUT and link.groups == 1:
            columns = kept[link.source].reshape(network.shape_of(link.source)[0], -1)[:, 0]
            weights = weights[:, columns]
        return _stored(link, weights)
    # What never fires in a channel that is kept needs no synapses either.
    sends = fires[link.source]
    weights = np.where(sends, weights, 0)[kept[link.target]]
    if link.source != INPUT:
        weights = weights[:, kept[link.source]]
    return _stored(link, weights)


def _stored(link: Connection, weights: Integers) -> Connection:
    return replace(
        link, weights=np.ascontiguousarray(weights), kind=link.kind.without_zeros(weights)
    )


def _report(
    network: ChipNetwork,
    left: ChipNetwork,
    kept: Mapping[str, Flags],
    fires: Mapping[str, Flags],
    needed: Mapping[str, Flags],
) -> Pruning:
    populations = []
    for population in network.populations:
        silent = ~fires[population.name] & network.fires(population.name)
        unheard = ~needed[population.name] & ~silent
        populations.append(
            PrunedPopulation(
                population.name,
                population.size,
                left.population(population.name).size,
                int(silent.sum()),
                int(unheard.sum()),
            )
        )
    connections = tuple(
        PrunedConnection(
            one.name,
            int(fan_out(one, network.shape_of(one.source))[1].sum()),
            int(fan_out(other, left.shape_of(other.source))[1].sum()),
            not other.kind.stores_zeros,
        )
        for one, other in zip(network.connections, left.connections, strict=True)
    )
    used = np.zeros(network.input.shape, bool)
    for link in left.connections:
        if link.source == INPUT:
            used |= fan_out(link, network.input.shape)[1] > 0
    return Pruning(tuple(populations), connections, used.size, int((~used).sum()))

"""What else could take the same decision, priced on the same card.

The same topology without spikes: an int8 network that multiplies every synapse once, and the
quantised network whose activations have as many levels as a spiking neuron has spike counts,
ceil(log2(T + 1)) bits (Yan et al., arXiv 2409.08290). The latter also with its zeros skipped:
those of the neurons that sent no spike in a decision, as counted in play. Both also with a first
layer that is updated by what changed of the frame, and the latter with every layer so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import INPUT, ChipNetwork, fan_out
from mtspark.sim.energy.cards import PriceCard
from mtspark.sim.energy.memory_model import memory_baseline_terms
from mtspark.sim.energy.pricing import Bill, Device, EnergyTerm, Totals

INT8_MULTIPLICATION_PJ, INT8_ADDITION_PJ = 0.2, 0.03
"""Horowitz, ISSCC 2014, 45 nm."""


@dataclass(frozen=True)
class Baseline:
    """A network of the same topology without spikes, run once a decision.

    Attributes:
        name: shown to the user.
        weight_bits, activation_bits: of its integers.
        multiply_accumulates: by population, of its incoming synapses.
        neurons: by population.
        weights, sources: by population: stored weights and inputs, for models of memory.
    """

    name: str
    weight_bits: int
    activation_bits: int
    multiply_accumulates: dict[str, float]
    neurons: dict[str, int]
    weights: dict[str, int]
    sources: dict[str, int]

    @property
    def total(self) -> float:
        """Multiply-accumulates of a decision."""
        return sum(self.multiply_accumulates.values())


@dataclass(frozen=True)
class BaselineBill:
    """The dynamic energy of one decision of a baseline; None where the card cannot say."""

    baseline: Baseline
    energy_j_per_decision: float | None
    terms: tuple[EnergyTerm, ...]
    note: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without the single terms."""
        return {
            "name": self.baseline.name,
            "activation_bits": self.baseline.activation_bits,
            "multiply_accumulates": self.baseline.total,
            "energy_j_per_decision": self.energy_j_per_decision,
            "note": self.note,
        }


@dataclass(frozen=True)
class BreakEven:
    """Where the spiking network and a baseline cost the same, dynamic energy only.

    Attributes:
        activity_factor: by how much the network's own spikes would have to be multiplied; None
            where no activity reaches the baseline (its fixed part alone costs more).
        spikes_per_neuron_and_step: the mean rate of the hidden populations at that point.
        step_time_us: time of a step at which static energy uses up what the spiking network saves;
            None where nothing is saved or the card has no static power.
        static_equals_dynamic_us: time of a step at which static energy equals dynamic energy.
    """

    activity_factor: float | None
    spikes_per_neuron_and_step: float | None
    step_time_us: float | None
    static_equals_dynamic_us: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class HeadSynapses:
    """Synapses of a readout.

    A linear dueling head folds into one layer with as many synapses as the advantage stream
    has alone; unfolded, the value stream adds one output.

    Attributes:
        folded: of the readout as it is.
        advantage_alone: of the advantage stream without the value stream.
        unfolded_dueling: of both streams.
    """

    folded: int
    advantage_alone: int
    unfolded_dueling: int

    def to_json(self) -> dict[str, int]:
        """Return JSON values."""
        return asdict(self)


def quantised_bits(time_steps: int) -> int:
    """Bits that hold a spike count of 0 to T: ceil(log2(T + 1))."""
    return time_steps.bit_length()


def same_topology(network: ChipNetwork) -> Baseline:
    """The int8 network that multiplies every synapse once a decision, borders exact."""
    return _baseline(network, "int8 network, every synapse once", 8, None)


def quantised_network(network: ChipNetwork) -> Baseline:
    """The network whose activations are spike counts, in ceil(log2(T + 1)) bits."""
    bits = quantised_bits(network.time_steps)
    return _baseline(network, f"{bits}-bit activations, every synapse once", bits, None)


def zero_skipping_network(
    network: ChipNetwork, nonzero: dict[str, NDArray[np.float64]]
) -> Baseline:
    """The quantised network that skips activations of zero.

    Args:
        network: the spiking network.
        nonzero: by source, the mean number of decisions' activations that are not zero, of the
            source's shape: a neuron's share of decisions in which it sent a spike in its window.
    """
    bits = quantised_bits(network.time_steps)
    return _baseline(network, f"{bits}-bit activations, zeros skipped", bits, nonzero)


def incremental_network(network: ChipNetwork, changed: dict[str, NDArray[np.float64]]) -> Baseline:
    """The int8 network that updates what hears the input by what changed of the frame.

    Args:
        network: the spiking network.
        changed: by source, of its shape: share of decisions in which its value was another than
            in the decision before.
    """
    ones = {name: np.ones_like(share) for name, share in changed.items()}
    first = {**ones, INPUT: changed[INPUT]}
    return _baseline(network, "int8 network, first layer by changes", 8, first)


def zero_skipping_incremental_network(
    network: ChipNetwork,
    nonzero: dict[str, NDArray[np.float64]],
    changed: dict[str, NDArray[np.float64]],
) -> Baseline:
    """The quantised network that skips zeros, its first layer updated by changes of the frame.

    It never multiplies more than a rate code: that sends a message for every spike, this one for
    every neuron that has any.

    Args:
        network: the spiking network.
        nonzero: as for :func:`zero_skipping_network`.
        changed: as for :func:`incremental_network`.
    """
    bits = quantised_bits(network.time_steps)
    name = f"{bits}-bit activations, zeros skipped, first layer by changes"
    return _baseline(network, name, bits, {**nonzero, INPUT: changed[INPUT]})


def sigma_delta_network(network: ChipNetwork, changed: dict[str, NDArray[np.float64]]) -> Baseline:
    """The quantised network all of whose layers send changes (sigma-delta).

    An estimate: the spike counts of the spiking network stand in for the activations of a
    network that nobody trained, and no threshold keeps small changes back.

    Args:
        network: the spiking network.
        changed: as for :func:`incremental_network`.
    """
    bits = quantised_bits(network.time_steps)
    name = f"{bits}-bit activations, every layer by changes (sigma-delta, an estimate)"
    return _baseline(network, name, bits, changed)


def cheapest(bills: Sequence[BaselineBill]) -> BaselineBill | None:
    """Return the baseline of the least energy; None where the card prices none."""
    priced = [bill for bill in bills if bill.energy_j_per_decision is not None]
    return min(priced, key=lambda bill: bill.energy_j_per_decision or 0.0, default=None)


def _baseline(
    network: ChipNetwork, name: str, bits: int, nonzero: dict[str, NDArray[np.float64]] | None
) -> Baseline:
    products: dict[str, float] = {}
    weights: dict[str, int] = {}
    sources: dict[str, int] = {}
    for population in network.populations:
        products[population.name] = 0.0
        weights[population.name], sources[population.name] = 0, 0
    for link in network.connections:
        shape = network.shape_of(link.source)
        structural, _ = fan_out(link, shape)
        share = 1.0 if nonzero is None else nonzero[link.source]
        products[link.target] += float((structural * share).sum())
        weights[link.target] += link.stored_weights
        sources[link.target] += int(np.prod(shape))
    neurons = {population.name: population.size for population in network.populations}
    return Baseline(name, 8, bits, products, neurons, weights, sources)


def price_baseline(baseline: Baseline, card: PriceCard) -> BaselineBill:
    """Price a baseline on a card: multiply-accumulates, and one update a neuron.

    A card without a price for multiply-accumulates prices them as graded synaptic operations,
    and says so: one message with a payload for each activation is how such a network runs on
    a chip of this kind. On the card of int8 operations, fewer bits of an activation make the
    multiplication cheaper in proportion.
    """
    totals = Totals()
    if card.model == "memory":
        for term, _, count, cost in memory_baseline_terms(
            baseline.multiply_accumulates,
            baseline.neurons,
            baseline.weights,
            baseline.sources,
            card,
        ):
            totals.add(term, count, cost)
        terms = totals.terms(card)
        return BaselineBill(baseline, _sum(terms), terms, "the same model of memory")
    note = ""
    cost = card.terms.get("multiply_accumulate")
    if cost is None:
        _, cost = card.operation("graded_synaptic_operation", "conv")
        note = "a multiply-accumulate is priced as a graded synaptic operation"
    elif card.key == "ops45nm_int8" and baseline.activation_bits < 8:
        pj = INT8_MULTIPLICATION_PJ * baseline.activation_bits / 8 + INT8_ADDITION_PJ
        cost = replace(cost, price_pj=pj, low_pj=pj, high_pj=cost.price_pj)
        note = f"multiplication of 8 by {baseline.activation_bits} bits, in proportion"
    totals.add("multiply_accumulate", baseline.total, cost)
    totals.add(
        "neuron_update", float(sum(baseline.neurons.values())), card.terms.get("neuron_update")
    )
    terms = totals.terms(card)
    energy = None if cost is None else _sum(terms)
    return BaselineBill(baseline, energy, terms, note)


FIXED = ("graded", "neuron_update", "input_neuron_update")
"""Terms that do not grow with the spikes, by how they begin."""


def break_even(
    bill: Bill, baseline: BaselineBill, network: ChipNetwork, rate: float, device: Device | None
) -> BreakEven:
    """Where a bill meets a baseline's.

    Activity is scaled in all populations alike: binary operations, sent spikes, messages and
    hops grow with it, graded operations of the input and neuron updates stay.

    Args:
        bill: of the spiking network.
        baseline: priced on the same card.
        network: the spiking network.
        rate: its mean spikes a neuron and step, over the populations that spike.
        device: cores and chips, for static power.
    """
    factor = None
    if baseline.energy_j_per_decision is not None and bill.card.model == "events":
        moving = sum(
            line.energy_j_per_decision or 0.0
            for line in bill.terms
            if not line.term.startswith(FIXED)
        )
        fixed = bill.dynamic_j_per_decision - moving
        left = baseline.energy_j_per_decision - fixed
        if moving > 0 and left >= 0:
            factor = left / moving
    static, chips = bill.card.terms.get("static"), device.chips if device else 1
    watts = 0.0
    if static is not None:
        watts = (static.power_w_per_chip or 0.0) * chips
        watts += (static.power_w_per_core or 0.0) * (device.cores if device else 0)
    per_us = watts * network.steps_per_decision * 1e-6
    saved = (baseline.energy_j_per_decision or 0.0) - bill.dynamic_j_per_decision
    return BreakEven(
        activity_factor=factor,
        spikes_per_neuron_and_step=None if factor is None else factor * rate,
        step_time_us=saved / per_us if per_us and saved > 0 else None,
        static_equals_dynamic_us=bill.dynamic_j_per_decision / per_us if per_us else None,
    )


def head_synapses(network: ChipNetwork) -> HeadSynapses:
    """Count the synapses of the readout, and those of the head that it was before folding."""
    readout = network.readout.population
    links = [link for link in network.connections if link.target == readout]
    folded = sum(link.stored_weights for link in links)
    inputs = sum(int(np.prod(network.shape_of(link.source))) for link in links)
    return HeadSynapses(folded, folded, folded + inputs)


def _sum(terms: tuple[EnergyTerm, ...]) -> float:
    return sum(line.energy_j_per_decision or 0.0 for line in terms)

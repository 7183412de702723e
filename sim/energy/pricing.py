"""Energy is a view of counts: a price card turns counts into joules.

Dynamic energy is a sum over events; static energy is a power times the time of a decision and
is kept apart. What a card does not price, or nobody counted, is None and never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mtspark.core.chip_network import ChipNetwork
from mtspark.deploy.mapping import broken_limits
from mtspark.sim.counts import RunCounts
from mtspark.sim.energy.cards import OPERATIONS, PriceCard, TermPrice
from mtspark.sim.energy.events import Events, Line
from mtspark.sim.energy.memory_model import memory_terms

PICO = 1e-12
COMMUNICATION = ("message", "hop_east_west", "hop_north_south")
INPUT_UPDATE = "input_neuron_update"
OF_MAPPING = (*COMMUNICATION, INPUT_UPDATE)
"""Terms that only a network on the cores of a chip has."""


@dataclass(frozen=True)
class Device:
    """What of a chip a network takes under a mapping, and what it does there.

    Attributes:
        cores: that hold something.
        chips: likewise.
        step_time_us: modelled time of a step; None where nothing models it.
        messages: packets between cores in a mean decision; None where not counted.
        hops_east_west, hops_north_south: links that they cross.
        steps: of a decision, for the time of static power.
        input_neurons: on cores that hold and send the frame, updated at every step.
    """

    cores: int
    chips: int
    step_time_us: float | None
    messages: float | None
    hops_east_west: float | None
    hops_north_south: float | None
    steps: int
    input_neurons: int = 0

    def traffic(self, term: str) -> float | None:
        """The count that a term of communication prices."""
        counts = {
            "message": self.messages,
            "hop_east_west": self.hops_east_west,
            "hop_north_south": self.hops_north_south,
        }
        return counts[term]


@dataclass(frozen=True)
class EnergyTerm:
    """One line of a bill; None stands for what is not counted or not priced."""

    term: str
    count_per_decision: float | None
    price_pj: float | None
    energy_j_per_decision: float | None
    note: str
    low_j: float | None = None
    high_j: float | None = None


@dataclass(frozen=True)
class Bill:
    """An estimate of the energy of one decision under one card.

    Attributes:
        card: its prices and their source.
        hypothetical: limits of the card's chip that the network breaks; empty if it fits.
        terms: every dynamic term, priced or not.
        dynamic_j_per_decision: sum of the priced dynamic terms.
        dynamic_low_j, dynamic_high_j: the same at the card's lowest and highest prices.
        layers_j: dynamic energy by population, of the terms that belong to one.
        static_j_per_decision: power times time, or None.
        static_note: what it is, or why it is missing.
    """

    card: PriceCard
    hypothetical: tuple[str, ...]
    terms: tuple[EnergyTerm, ...]
    dynamic_j_per_decision: float
    dynamic_low_j: float
    dynamic_high_j: float
    layers_j: dict[str, float]
    static_j_per_decision: float | None
    static_note: str

    @property
    def total_j_per_decision(self) -> float | None:
        """Dynamic and static together; None where static energy is not known."""
        if self.static_j_per_decision is None:
            return None
        return self.dynamic_j_per_decision + self.static_j_per_decision

    @property
    def mapped(self) -> bool:
        """Whether the messages between cores were counted, which takes a mapping to a chip."""
        return any(
            line.term in COMMUNICATION and line.count_per_decision is not None
            for line in self.terms
        )

    @property
    def network_j_per_decision(self) -> float:
        """Dynamic energy without what a mapping adds, so of the network by itself."""
        return sum(
            line.energy_j_per_decision or 0.0 for line in self.terms if line.term not in OF_MAPPING
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: card, terms and sums."""
        values = {
            "card": self.card.name,
            "card_key": self.card.key,
            "chip": self.card.chip,
            "source": self.card.source,
            "evidence": self.card.evidence,
            "scope": self.card.scope,
            "hypothetical": bool(self.hypothetical),
            "hypothetical_because": list(self.hypothetical),
            "terms": [asdict(term) for term in self.terms],
            "dynamic_j_per_decision": self.dynamic_j_per_decision,
            "dynamic_low_j_per_decision": self.dynamic_low_j,
            "dynamic_high_j_per_decision": self.dynamic_high_j,
            "dynamic_j_per_decision_by_layer": self.layers_j,
            "static_j_per_decision": self.static_j_per_decision,
            "static_note": self.static_note,
            "total_j_per_decision": self.total_j_per_decision,
            "fitted": self.card.fitted,
        }
        if self.mapped:
            values["network_j_per_decision"] = self.network_j_per_decision
        return values

    @property
    def left_out(self) -> tuple[str, ...]:
        """Operations and updates that were counted and that the card has no price for."""
        main = (*OPERATIONS, "neuron_update")
        return tuple(
            line.term
            for line in self.terms
            if line.term.startswith(main) and line.count_per_decision and line.price_pj is None
        )


def price(
    counts: RunCounts, network: ChipNetwork, card: PriceCard, device: Device | None = None
) -> Bill:
    """Price the mean decision of a run.

    Args:
        counts: of the run.
        network: that ran.
        card: prices.
        device: the network's mapping; without it messages, hops and static power stay open.
    """
    return price_events(Events.of(counts, network), card, device)


def price_events(events: Events, card: PriceCard, device: Device | None = None) -> Bill:
    """Price a mean decision whose events are known."""
    lines = memory_terms(events, card) if card.model == "memory" else _event_terms(events, card)
    totals = Totals()
    layers: dict[str, float] = {}
    for term, layer, count, cost in lines:
        energy = totals.add(term, count, cost)
        if energy is not None:
            layers[layer] = layers.get(layer, 0.0) + energy
    if card.model == "events":
        if device is not None and device.input_neurons:
            updates = float(device.input_neurons * device.steps)
            totals.add(INPUT_UPDATE, updates, card.terms.get("neuron_update"))
        for term in COMMUNICATION:
            crossed = None if device is None else device.traffic(term)
            totals.add(term, crossed, card.terms.get(term))
    terms = totals.terms(card)
    static, note = static_energy(card, device)
    return Bill(
        card=card,
        hypothetical=tuple(broken_limits(events.network, card.chip)),
        terms=terms,
        dynamic_j_per_decision=sum(line.energy_j_per_decision or 0.0 for line in terms),
        dynamic_low_j=sum(line.low_j or 0.0 for line in terms),
        dynamic_high_j=sum(line.high_j or 0.0 for line in terms),
        layers_j=layers,
        static_j_per_decision=static,
        static_note=note,
    )


def _event_terms(events: Events, card: PriceCard) -> Iterable[Line]:
    for layer in events.layers:
        for part in layer.operations:
            term, cost = card.operation(OPERATIONS[part.graded], part.kind)
            yield Line(term, layer.name, part.operations, cost)
        update, spike = card.terms.get("neuron_update"), card.terms.get("spike_out")
        yield Line("neuron_update", layer.name, layer.updates, update)
        yield Line("spike_out", layer.name, layer.spikes, spike)


class Totals:
    """Adds up counts and energies by term, in the order in which they come."""

    def __init__(self) -> None:
        self._counts: dict[str, float | None] = {}
        self._prices: dict[str, set[float]] = {}
        self._energy: dict[str, list[float]] = {}
        self._notes: dict[str, str] = {}

    def add(self, term: str, count: float | None, cost: TermPrice | None) -> float | None:
        """Add to a term; returns the joules, None where not counted or not priced."""
        before = self._counts.get(term, 0.0)
        self._counts[term] = None if count is None or before is None else before + count
        if cost is None or cost.price_pj is None:
            return None
        assert cost.low_pj is not None
        assert cost.high_pj is not None
        self._prices.setdefault(term, set()).add(cost.price_pj)
        self._notes[term] = cost.note
        if count is None:
            return None
        spent = [count * pj * PICO for pj in (cost.price_pj, cost.low_pj, cost.high_pj)]
        sums = self._energy.setdefault(term, [0.0, 0.0, 0.0])
        self._energy[term] = [a + b for a, b in zip(sums, spent, strict=True)]
        return spent[0]

    def terms(self, card: PriceCard) -> tuple[EnergyTerm, ...]:
        """The lines of a bill."""
        lines = []
        for term, count in self._counts.items():
            prices, energy = self._prices.get(term, set()), self._energy.get(term)
            lines.append(
                EnergyTerm(
                    term=term,
                    count_per_decision=count,
                    price_pj=_mean_price(prices, energy, count),
                    energy_j_per_decision=None if energy is None else energy[0],
                    note=self._notes.get(term) or card.not_priced.get(term, ""),
                    low_j=None if energy is None else energy[1],
                    high_j=None if energy is None else energy[2],
                )
            )
        return tuple(lines)


def static_energy(card: PriceCard, device: Device | None) -> tuple[float | None, str]:
    """Static power over the modelled time of a decision, and a note on it."""
    cost = card.terms.get("static")
    if cost is None:
        return None, "not priced: " + card.not_priced.get("static", "this card has none")
    if device is None or device.step_time_us is None:
        return None, "not priced: it needs a mapping and the time of a step"
    seconds = device.step_time_us * 1e-6 * device.steps
    watts = (cost.power_w_per_chip or 0.0) * device.chips
    watts += (cost.power_w_per_core or 0.0) * device.cores
    note = f"{watts:.3g} W for {seconds * 1e6:,.0f} µs, modelled; {cost.note or cost.source}"
    return watts * seconds, note


def _mean_price(
    prices: set[float], energy: list[float] | None, count: float | None
) -> float | None:
    """The price of a term; the mean one where populations pay different prices."""
    if len(prices) == 1:
        return next(iter(prices))
    return energy[0] / count / PICO if energy and count else None

"""What a decision costs, in one sentence: joules, the cheapest rival, a fitting chip, time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.backend import Decision, Moment
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.digits import digits
from mtspark.core.errors import BadRequestError, one_line
from mtspark.core.files import AnyPath
from mtspark.deploy.chips import ChipModel
from mtspark.sim.counts import Counter, RunCounts, ShareCounter
from mtspark.sim.device import OnChip, mean_bill, mean_bill_on_chip
from mtspark.sim.energy import (
    DEFAULT_CARD,
    Baseline,
    BaselineBill,
    Bill,
    PriceCard,
    cheapest,
    incremental_network,
    load_card,
    price,
    price_baseline,
    quantised_network,
    same_topology,
    sigma_delta_network,
    zero_skipping_incremental_network,
    zero_skipping_network,
)
from mtspark.sim.latency import DecisionTime


@dataclass(frozen=True)
class Cost:
    """What a mean decision takes on a chip, beside a network that does not spike.

    Attributes:
        chip: name of the chip, or of the card where it is of no chip.
        dynamic_j: dynamic energy of a mean decision, joules.
        rival: the cheapest network of the same topology without spikes; empty: none is priced.
        rival_j: its dynamic energy on the same card.
        hypothetical: limits of the chip that the network breaks, a sentence each.
        cores, chips: that it takes; 0 where nothing was mapped.
        cores_per_chip: of the chip, where it says so.
        decision_us: modelled time of a decision; None where nothing models it.
        deadline_us: time until the next decision; None where nothing waits.
        place: the chip that it was mapped to, where the prices are of another or of none.
        late_because: the part of a decision that takes longest, where it comes too late.
    """

    chip: str
    dynamic_j: float
    rival: str = ""
    rival_j: float | None = None
    hypothetical: tuple[str, ...] = ()
    cores: int = 0
    chips: int = 0
    cores_per_chip: int | None = None
    decision_us: float | None = None
    deadline_us: float | None = None
    place: str = ""
    late_because: str = ""

    def sentence(self, what: str = "decision") -> str:
        """Say it in plain words.

        Args:
            what: is priced: a decision, a sample.
        """
        article = "An" if what[0] in "aeiou" else "A"
        head = (
            f"{article} {what} costs {micro_joules(self.dynamic_j)} of dynamic energy on "
            f"{self.chip} (estimate)"
        )
        return "; ".join(part for part in (head, self._beside(), self.fit) if part) + "."

    @property
    def tightness(self) -> tuple[bool, float]:
        """Orders costs of one network by how far they are from fitting and from real time."""
        share = (self.decision_us or 0.0) / (self.deadline_us or float("inf"))
        return bool(self.hypothetical), share

    def _beside(self) -> str:
        if self.rival_j is None:
            # Of a file of before, nobody knows.
            return "its card prices no network without spikes" if self.chips else ""
        word = "more" if self.rival_j > self.dynamic_j else "less"
        return (
            f"the cheapest network without spikes, {self.rival}, costs {word}: "
            f"{micro_joules(self.rival_j)}"
        )

    @property
    def fit(self) -> str:
        """Say whether the chip holds the network, and whether it is fast enough."""
        if not self.chips:
            return "" if self.rival_j is None else "its card is of no chip that it could fit"
        name = self.place or self.chip
        count = f"{self.cores:,} core" + "s" * (self.cores != 1)
        if self.cores_per_chip and self.chips == 1:
            count = f"{self.cores:,} of {self.cores_per_chip:,} cores"
        where = f"one {name}" if self.chips == 1 else f"{self.chips:,} chips of {name}"
        if self.hypothetical:
            more = len(self.hypothetical) - 1
            others = f" (and {more} more)" if more else ""
            reason = clause(self.hypothetical[0])
            return f"the spiking one does not fit {where}: {reason}{others}{self._time()}"
        return f"the spiking one fits {where} ({count}){self._time()}"

    def _time(self) -> str:
        if self.decision_us is None:
            return ", and its time is not modelled"
        took = milliseconds(self.decision_us)
        if self.deadline_us is None:
            return f", and it would take {took}"
        allowed = milliseconds(self.deadline_us)
        if self.decision_us <= self.deadline_us:
            return f", in real time: it takes {took} of the {allowed} until the next decision"
        mostly = f" ({self.late_because})" if self.late_because else ""
        return (
            f", not in real time: it takes {took}{mostly}, and the next decision is due in "
            f"{allowed}"
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cost:
        """Rebuild what :meth:`to_json` wrote, from values that were checked."""
        return cls(
            chip=data["chip"],
            dynamic_j=data["dynamic_j_per_decision"],
            rival=data["cheapest_baseline"] or "",
            rival_j=data["cheapest_baseline_j_per_decision"],
            hypothetical=tuple(data["hypothetical_because"]),
            cores=data["cores"],
            chips=data["chips"],
            cores_per_chip=data["cores_per_chip"],
            decision_us=data["decision_time_us"],
            deadline_us=data["deadline_us"],
            place=data.get("place", ""),
            late_because=data.get("late_because", ""),
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "chip": self.chip,
            "dynamic_j_per_decision": self.dynamic_j,
            "cheapest_baseline": self.rival or None,
            "cheapest_baseline_j_per_decision": self.rival_j,
            "hypothetical_because": list(self.hypothetical),
            "cores": self.cores,
            "chips": self.chips,
            "cores_per_chip": self.cores_per_chip,
            "decision_time_us": self.decision_us,
            "deadline_us": self.deadline_us,
            **({"place": self.place} if self.place else {}),
            **({"late_because": self.late_because} if self.late_because else {}),
        }


def costs_sentence(costs: Mapping[str, Cost], what: str = "decision") -> str:
    """Say what a mean decision of each task costs, in one sentence.

    Args:
        costs: by task, of one network under one card; not empty.
        what: is priced: a decision, a sample.
    """
    if len(costs) == 1:
        return next(iter(costs.values())).sentence(what)
    article = "An" if what[0] in "aeiou" else "A"
    own, rivals = [], []
    for task, cost in costs.items():
        own.append(f"{micro_joules(cost.dynamic_j)} in {task}")
        if cost.rival_j is not None:
            rivals.append(micro_joules(cost.rival_j))
    tightest = max(costs.values(), key=lambda cost: cost.tightness)
    parts = [
        f"{article} {what} costs {listed(own)} of dynamic energy on {tightest.chip} (estimate)",
        f"the cheapest networks without spikes cost {listed(rivals)}" if rivals else "",
        tightest.fit,
    ]
    return "; ".join(part for part in parts if part) + "."


def listed(words: Sequence[str]) -> str:
    """Write words with commas, and an "and" before the last."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def clause(text: str) -> str:
    """Return the part of a message before its remedy, to stand within a sentence."""
    return text.split(";")[0].rstrip(".").replace(". ", ", ")


def baselines_of(
    network: ChipNetwork,
    nonzero: Mapping[str, NDArray[np.float64]],
    changed: Mapping[str, NDArray[np.float64]],
) -> tuple[Baseline, ...]:
    """Return the networks of the same topology without spikes that everything is set beside.

    Args:
        network: the spiking one.
        nonzero, changed: shares of decisions, as :class:`mtspark.sim.counts.ShareCounter` has
            them.
    """
    sent, changes = dict(nonzero), dict(changed)
    return (
        same_topology(network),
        incremental_network(network, changes),
        quantised_network(network),
        zero_skipping_network(network, sent),
        zero_skipping_incremental_network(network, sent, changes),
        sigma_delta_network(network, changes),
    )


def cost_of(bill: Bill, rivals: Sequence[BaselineBill], on: OnChip | None) -> Cost:
    """Sum up a bill, its rivals and a mapping.

    Args:
        bill: of a mean decision.
        rivals: networks without spikes, under the same card.
        on: a chip that the network is mapped to; None where the card is of none.
    """
    best = cheapest(rivals)
    cost = Cost(
        chip=bill.card.name if on is None or bill.card.chip != on.chip.key else on.chip.name,
        dynamic_j=bill.dynamic_j_per_decision,
        rival="" if best is None else best.baseline.name,
        rival_j=None if best is None else best.energy_j_per_decision,
        hypothetical=tuple(bill.hypothetical),
    )
    if on is None:
        return cost
    broken = [violation.text for violation in on.mapping.violations]
    limit = on.chip.limit("cores_per_chip")
    return replace(
        cost,
        hypothetical=tuple(dict.fromkeys([*broken, *cost.hypothetical])),
        cores=on.device.cores,
        chips=on.device.chips,
        cores_per_chip=None if limit is None else int(limit),
        decision_us=on.time.total_us,
        deadline_us=on.time.deadline_us,
        place="" if cost.chip == on.chip.name else on.chip.name,
        late_because=_late_because(on.time),
    )


def _late_because(time: DecisionTime) -> str:
    """Name the part that takes longest of a decision that comes too late."""
    known = [(term.time_us, term.name) for term in time.terms if term.time_us is not None]
    if not known or time.total_us is None or time.deadline_us is None:
        return ""
    longest_us, name = max(known)
    if time.total_us <= time.deadline_us:
        return ""
    return f"{milliseconds(longest_us)} of it {name}"


def mean_cost(
    counts: RunCounts,
    network: ChipNetwork,
    card: PriceCard,
    sent: Mapping[str, Integers],
    shares: ShareCounter,
    task: str | None = None,
) -> tuple[Bill, Cost]:
    """Price the mean decision, and sum up what it costs.

    Args:
        counts, network, card, sent: as for :func:`mtspark.sim.device.mean_bill`.
        shares: of the same decisions.
        task: whose they are; None: of several.
    """
    bill, on = mean_bill_on_chip(counts, network, card, sent, task)
    rivals = baselines_of(network, shares.shares, shares.changed_shares)
    return bill, cost_of(bill, [price_baseline(one, card) for one in rivals], on)


class PricedSamples:
    """A result of samples that have nothing to do with each other, which can be priced.

    Attributes:
        network: that answered.
        task: whose thresholds were used, by name.
        backend: who ran it.
        counts: totals over all samples; a decision is one sample.
        sent: messages by source, over all samples; empty for a float network.
        shares: how often what is not zero, and changes; None for a float network.
    """

    network: ChipNetwork
    task: str
    backend: str
    counts: RunCounts
    sent: Mapping[str, Integers]
    shares: ShareCounter | None

    def energy(self, card: AnyPath = DEFAULT_CARD) -> Bill:
        """Price the mean sample.

        Args:
            card: prices, a name or a file.

        Raises:
            BadFileError: no such card.
        """
        return mean_bill(self.counts, self.network, load_card(card), self.sent)

    def cost(self, card: AnyPath = DEFAULT_CARD) -> tuple[Bill, Cost]:
        """Price the mean sample, beside networks that do not spike.

        Args:
            card: prices, a name or a file.

        Raises:
            BadFileError: no such card.
            BadRequestError: a float network ran, which no chip runs.
        """
        if self.shares is None:
            raise BadRequestError(f"{self.backend}: is no chip, so it has no cost on one")
        prices = load_card(card)
        return mean_cost(
            self.counts, self.network, prices, self.sent, self.shares, self.task or None
        )


class Costing:
    """Adds up what a chip does, to price the mean decision.

    Args:
        network: that the chip runs.
    """

    def __init__(self, network: ChipNetwork) -> None:
        self._network = network
        self._counter, self._shares = Counter(network), ShareCounter(network)

    def observe(self, moment: Moment) -> None:
        """Count a decision of the agent loop."""
        self.add(moment.decision, moment.frames, moment.episodes)

    def add(self, decision: Decision, frames: NDArray[Any], episodes: Integers | None) -> None:
        """Count one decision of every member of a batch; arguments as of :class:`ShareCounter`."""
        self._counter.add(decision.activity)
        self._shares.add(decision.activity.window, frames, episodes)

    def cost(self, card: PriceCard, task: str | None = None) -> Cost:
        """Price the mean of the decisions so far, on the chip of the card.

        Args:
            card: prices.
            task: whose decisions they are; None: of several.
        """
        counts, sent = self._counter.result(), self._counter.sent
        return mean_cost(counts, self._network, card, sent, self._shares, task)[1]


CARDS_OF_CHIPS = {"loihi2": "loihi2_pilotnet", "loihi1": "loihi1_davies2018"}
"""The main price card of each chip."""


def card_for(chip: ChipModel, name: AnyPath | None) -> PriceCard | None:
    """Return the card that a mapping to a chip is priced by; None where none is of that chip.

    Args:
        chip: that the network is mapped to.
        name: of a card, or its file; None for the chip's main one.

    Raises:
        BadFileError: no such card.
        BadRequestError: the card prices events of another chip.
    """
    if name is None:
        main = CARDS_OF_CHIPS.get(chip.key)
        return None if main is None else load_card(main)
    card = load_card(name)
    if card.chip not in ("", chip.key):
        raise BadRequestError(
            f"--card {one_line(os.fspath(name), 80)}: prices events on {card.chip}, and the "
            f"network is mapped to {chip.key}; choose a card and a chip (--chip) that fit"
        )
    return card


def cost_on(
    on: OnChip,
    counts: RunCounts,
    network: ChipNetwork,
    shares: ShareCounter,
    card: PriceCard | None,
) -> Cost | None:
    """Sum up what the mean decision costs under a mapping; None without a card.

    Args:
        on: the mapping, with what was sent.
        counts, network, shares: of the same decisions.
        card: of :func:`card_for`.
    """
    if card is None:
        return None
    rivals = baselines_of(network, shares.shares, shares.changed_shares)
    bill = price(counts, network, card, on.device)
    return cost_of(bill, [price_baseline(one, card) for one in rivals], on)


def micro_joules(joules: float) -> str:
    """Write joules as microjoules, three digits."""
    return f"{digits(joules * 1e6)} µJ"


def milliseconds(microseconds: float) -> str:
    """Write a time in milliseconds, three digits."""
    return f"{digits(microseconds / 1000)} ms"

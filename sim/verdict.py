"""What a decision costs, in one sentence: joules, the cheapest rival, a fitting chip, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import ChipNetwork
from mtspark.sim.counts import RunCounts, ShareCounter
from mtspark.sim.device import OnChip, mean_bill_on_chip
from mtspark.sim.energy import (
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

    def sentence(self, what: str = "decision") -> str:
        """Say it in plain words.

        Args:
            what: is priced: a decision, a sample.
        """
        article = "An" if what[0] in "aeiou" else "A"
        parts = [
            f"{article} {what} costs {micro_joules(self.dynamic_j)} of dynamic energy on "
            f"{self.chip} (estimate){self._beside()}"
        ]
        place = self._place()
        return ". ".join([*parts, *([place] if place else [])]) + "."

    def _beside(self) -> str:
        if self.rival_j is None:
            return ""
        word = "more" if self.rival_j > self.dynamic_j else "less"
        return (
            f"; the cheapest network without spikes, {self.rival}, costs "
            f"{word}: {micro_joules(self.rival_j)}"
        )

    def _place(self) -> str:
        if not self.chips:
            return ""
        count = f"{self.cores:,} core" + "s" * (self.cores != 1)
        if self.cores_per_chip and self.chips == 1:
            count = f"{self.cores:,} of {self.cores_per_chip:,} cores"
        where = f"one {self.chip}" if self.chips == 1 else f"{self.chips:,} chips of {self.chip}"
        if self.hypothetical:
            more = len(self.hypothetical) - 1
            others = f" (and {more} more)" if more else ""
            place = f"It does not fit {where}: {self.hypothetical[0].split(';')[0]}{others}"
        else:
            place = f"It fits {where} ({count})"
        return place + self._time()

    def _time(self) -> str:
        if self.decision_us is None:
            return "; its time is not modelled"
        took = milliseconds(self.decision_us)
        if self.deadline_us is None:
            return f"; it would take {took}"
        allowed = milliseconds(self.deadline_us)
        if self.decision_us <= self.deadline_us:
            return f", in real time: it takes {took} of the {allowed} until the next decision"
        return f", not in real time: it takes {took}, and the next decision is due in {allowed}"

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
        }


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
        on: the chip of the card; None where the card is of none.
    """
    best = cheapest(rivals)
    cost = Cost(
        chip=bill.card.name if on is None else on.chip.name,
        dynamic_j=bill.dynamic_j_per_decision,
        rival="" if best is None else best.baseline.name,
        rival_j=None if best is None else best.energy_j_per_decision,
        hypothetical=tuple(bill.hypothetical),
    )
    if on is None:
        return cost
    broken = [violation.text for violation in on.mapping.violations]
    limit = on.chip.limit("cores_per_chip")
    return Cost(
        **{
            **{name: getattr(cost, name) for name in ("chip", "dynamic_j", "rival", "rival_j")},
            "hypothetical": tuple(dict.fromkeys([*broken, *cost.hypothetical])),
        },
        cores=on.device.cores,
        chips=on.device.chips,
        cores_per_chip=None if limit is None else int(limit),
        decision_us=on.time.total_us,
        deadline_us=on.time.deadline_us,
    )


def mean_cost(
    counts: RunCounts,
    network: ChipNetwork,
    card: PriceCard,
    sent: Mapping[str, Integers],
    shares: ShareCounter,
) -> tuple[Bill, Cost]:
    """Price the mean decision, and sum up what it costs.

    Args:
        counts, network, card, sent: as for :func:`mtspark.sim.device.mean_bill`.
        shares: of the same decisions.
    """
    bill, on = mean_bill_on_chip(counts, network, card, sent)
    rivals = baselines_of(network, shares.shares, shares.changed_shares)
    return bill, cost_of(bill, [price_baseline(one, card) for one in rivals], on)


CARDS_OF_CHIPS = {"loihi2": "loihi2_pilotnet", "loihi1": "loihi1_davies2018"}
"""The main price card of each chip."""


def cost_on(
    on: OnChip, counts: RunCounts, network: ChipNetwork, shares: ShareCounter
) -> Cost | None:
    """Sum up what the mean decision costs under a mapping; None where no card is of its chip.

    Args:
        on: the mapping, with what was sent.
        counts, network, shares: of the same decisions.
    """
    name = CARDS_OF_CHIPS.get(on.chip.key)
    if name is None:
        return None
    card = load_card(name)
    rivals = baselines_of(network, shares.shares, shares.changed_shares)
    bill = price(counts, network, card, on.device)
    return cost_of(bill, [price_baseline(one, card) for one in rivals], on)


def micro_joules(joules: float) -> str:
    """Write joules as microjoules, three digits."""
    return f"{_digits(joules * 1e6)} µJ"


def milliseconds(microseconds: float) -> str:
    """Write a time in milliseconds, three digits."""
    return f"{_digits(microseconds / 1000)} ms"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""Energy is a view of counts: a price card turns counts into joules."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadFileError
from mtspark.deploy.loihi1 import loihi1_violations
from mtspark.sim.counts import RunCounts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TERMS = ("synaptic_operation", "neuron_update", "message_hop", "static")
CHIP_RULES = {"loihi1": loihi1_violations}


@dataclass(frozen=True)
class PriceCard:
    """Prices of a chip's events, with where they come from.

    Attributes:
        name: shown to the user.
        chip: whose limits decide whether a price is hypothetical.
        source: publication.
        evidence: how the prices were obtained.
        scope: what they include.
        price_pj: picojoules by term of :data:`TERMS`; a missing term is not priced.
        notes: by term.
    """

    name: str
    chip: str
    source: str
    evidence: str
    scope: str
    price_pj: dict[str, float]
    notes: dict[str, str]


@dataclass(frozen=True)
class EnergyTerm:
    """One line of a bill; None stands for what is not counted or not priced."""

    term: str
    count_per_decision: float | None
    price_pj: float | None
    energy_j_per_decision: float | None
    note: str


@dataclass(frozen=True)
class Bill:
    """An estimate of the dynamic energy of one decision under one card.

    Attributes:
        card: its prices and their source.
        hypothetical: limits of the card's chip that the network breaks; empty if it fits.
        terms: every term, priced or not.
        dynamic_j_per_decision: sum of the priced dynamic terms.
    """

    card: PriceCard
    hypothetical: tuple[str, ...]
    terms: tuple[EnergyTerm, ...]
    dynamic_j_per_decision: float


def load_card(name: str) -> PriceCard:
    """Load a card that ships with mtspark, by the name of its file.

    Raises:
        BadFileError: no such card, or one with missing or malformed fields.
    """
    folder = resources.files("mtspark.sim") / "price_cards"
    known = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())
    if name not in known:
        raise BadFileError(f"price card {name!r} does not exist; known cards: {', '.join(known)}")
    data: dict[str, Any] = tomllib.loads((folder / f"{name}.toml").read_text())
    try:
        card = PriceCard(**data)
    except TypeError as error:
        raise BadFileError(f"price card {name!r}: {error}") from error
    unknown = set(card.price_pj) - set(TERMS)
    if unknown or card.chip not in CHIP_RULES:
        raise BadFileError(f"price card {name!r}: unknown terms {unknown} or chip {card.chip!r}")
    return card


def price(counts: RunCounts, network: ChipNetwork, card: PriceCard) -> Bill:
    """Price the mean decision of a run; window and drain steps both cost."""
    decisions = max(counts.decisions, 1)
    counted: dict[str, float | None] = {
        "synaptic_operation": counts.synops_structural / decisions,
        "neuron_update": counts.neuron_updates / decisions,
        "message_hop": None,
        "static": None,
    }
    terms = []
    for term in TERMS:
        count, cost = counted[term], card.price_pj.get(term)
        energy = None if count is None or cost is None else count * cost * 1e-12
        terms.append(EnergyTerm(term, count, cost, energy, card.notes.get(term, "")))
    return Bill(
        card=card,
        hypothetical=tuple(CHIP_RULES[card.chip](network)),
        terms=tuple(terms),
        dynamic_j_per_decision=sum(line.energy_j_per_decision or 0.0 for line in terms),
    )

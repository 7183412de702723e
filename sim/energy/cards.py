"""Price cards: what a chip's events cost, each price with its source and how it was obtained.

A card is a TOML file. Its text says what it covers; `[terms.NAME]` prices one of :data:`TERMS`
and `[not_priced]` says why the others have no price::

    name = "A chip"
    chip = "loihi1"            # whose limits make a bill hypothetical; "" for none
    model = "events"           # or "memory", see mtspark.sim.energy.memory_model
    source = "..."
    evidence = "..."
    scope = "..."

    [terms.synaptic_operation]
    price_pj = 23.6
    low_pj = 23.6              # optional: what other sources say
    high_pj = 35.5
    source = "..."             # optional: where it differs from the card's
    note = "..."

    [terms.static]
    power_w_per_chip = 0.232   # or power_w_per_core

    [not_priced]
    message = "..."
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import AnyPath, current_policy, parse_toml, read_toml
from mtspark.deploy.chips import known_chips

KINDS = ("dense", "conv", "sparse", "sparse_conv")
OPERATIONS = ("synaptic_operation", "graded_synaptic_operation")
TERMS = (
    *OPERATIONS,
    *(f"{term}_{kind}" for term in OPERATIONS for kind in KINDS),
    "multiply_accumulate",
    "neuron_update",
    "spike_out",
    "message",
    "hop_east_west",
    "hop_north_south",
    "static",
)
"""What a card of the model "events" can price.

synaptic_operation: a binary message meets a synapse; graded_synaptic_operation: one with a
payload does; either may be priced by kind of connection. multiply_accumulate: of a network of
real-valued activations, the baselines. neuron_update: a neuron in a step. spike_out: a neuron
sends. message: a packet to another core. hop_*: a packet crosses a link of the mesh.
"""

PARAMETERS = ("access_pj", "access_pj_per_bit", "add_pj", "multiply_pj", "word_bits")
"""What a card of the model "memory" needs in its table [parameters]."""

TEXTS = ("name", "chip", "model", "source", "evidence", "scope")
LARGEST_PRICE = 1e15


@dataclass(frozen=True)
class TermPrice:
    """The price of one event, or a static power.

    Attributes:
        price_pj: picojoules an event; None for static power.
        low_pj, high_pj: what other sources or conditions say; the price itself where none does.
        power_w_per_chip, power_w_per_core: of the term "static".
        source, evidence: where it came from and how it was obtained.
        note: what to know about it.
    """

    price_pj: float | None
    low_pj: float | None
    high_pj: float | None
    power_w_per_chip: float | None
    power_w_per_core: float | None
    source: str
    evidence: str
    note: str


@dataclass(frozen=True)
class PriceCard:
    """Prices of a chip's events, with where they come from.

    Attributes:
        key: what the user calls it: the name of its file.
        name: shown to the user.
        chip: whose limits decide whether a price is hypothetical; "" for no particular chip.
        model: "events" multiplies counts; "memory" also prices every access to memory.
        source, evidence, scope: publication, how it was obtained, what it includes.
        terms: by name, of :data:`TERMS`.
        not_priced: why a term has no price.
        parameters: of the model "memory".
        fitted: what of it was fitted, and to which measurement; empty if nothing was.
    """

    key: str
    name: str
    chip: str
    model: str
    source: str
    evidence: str
    scope: str
    terms: dict[str, TermPrice]
    not_priced: dict[str, str]
    parameters: dict[str, float] = field(default_factory=dict)
    fitted: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: texts, and each price with its source."""
        return {
            "key": self.key,
            "name": self.name,
            "chip": self.chip,
            "model": self.model,
            "source": self.source,
            "evidence": self.evidence,
            "scope": self.scope,
            "fitted": self.fitted,
            "terms": {name: asdict(term) for name, term in self.terms.items()},
            "not_priced": dict(self.not_priced),
            "parameters": dict(self.parameters),
        }

    def operation(self, term: str, kind: str) -> tuple[str, TermPrice | None]:
        """The price of a synaptic operation on a kind of connection, and the term it is under.

        A kernel without its zeros costs as a sparse connection where it has no price of its own:
        both are lists of synapses.
        """
        kinds = (kind, "sparse") if kind == "sparse_conv" else (kind,)
        for special in (f"{term}_{one}" for one in kinds):
            if special in self.terms:
                return special, self.terms[special]
        return term, self.terms.get(term)


def known_cards() -> list[str]:
    """Names of the cards that ship with mtspark."""
    folder = resources.files("mtspark.sim.energy") / "price_cards"
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def load_card(name: AnyPath) -> PriceCard:
    """Load a card that ships with mtspark, or a file.

    Args:
        name: of a card, or the path of a TOML file (it ends in ".toml").

    Raises:
        BadFileError: no such card, or one with missing or malformed fields.
    """
    name = os.fspath(name)
    if name.endswith(".toml"):
        path = Path(name)
        try:
            data = read_toml(path)
        except BadFileError as error:
            raise BadFileError(f"price card {error}") from error
        return _checked_card(data, path.stem, f"price card {name}")
    if name not in known_cards():
        raise BadFileError(
            f"price card {one_line(name, 80)!r} does not exist; known cards: "
            f"{', '.join(known_cards())}, or give the path of a .toml file"
        )
    file = resources.files("mtspark.sim.energy") / "price_cards" / f"{name}.toml"
    return read_card(file.read_text(encoding="utf-8"), name, f"price card {name!r}")


def read_card(text: str, key: str, where: str) -> PriceCard:
    """Read a card; `where` names it in the error.

    Raises:
        BadFileError: no TOML, or a field is missing, unknown or of the wrong kind.
    """
    try:
        data = parse_toml(text, current_policy().limits)
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{where}: not TOML: {one_line(error)}") from error
    return _checked_card(data, key, where)


def _checked_card(data: dict[str, Any], key: str, where: str) -> PriceCard:
    try:
        return _card(data, key)
    except ValueError as error:
        reason = one_line(error, 200)
        raise BadFileError(f"{where}: {reason}; see docs/energy.md for the format") from error


def _card(data: dict[str, Any], key: str) -> PriceCard:
    _only(data, (*TEXTS, "terms", "not_priced", "parameters", "fitted"), "the card")
    texts = {entry: _text(data, entry, "the card") for entry in TEXTS}
    if texts["chip"] not in ("", *known_chips()):
        known = ", ".join(known_chips())
        raise ValueError(
            f"chip is {one_line(texts['chip'], 40)!r}; must be one of {known}, or '' for none"
        )
    if texts["model"] not in ("events", "memory"):
        raise ValueError(f"model is {one_line(texts['model'], 40)!r}; must be events or memory")
    terms = _table(data, "terms")
    _only(terms, TERMS, "terms")
    reasons = _table(data, "not_priced")
    _only(reasons, (*TERMS, "memory"), "not_priced")
    both = sorted(set(terms) & set(reasons))
    if both:
        raise ValueError(f"{both[0]} is both priced and in not_priced")
    parameters = _table(data, "parameters")
    _only(parameters, PARAMETERS, "parameters")
    if texts["model"] == "memory":
        missing = [entry for entry in PARAMETERS if entry not in parameters]
        if missing:
            raise ValueError(f"parameters.{missing[0]} is missing, which the model memory needs")
    elif parameters:
        raise ValueError("parameters belong to the model memory")
    elif not terms:
        raise ValueError("no term has a price")
    return PriceCard(
        key=key,
        **texts,
        terms={term: _term(terms, term, texts) for term in terms},
        not_priced={term: _text(reasons, term, "not_priced") for term in reasons},
        parameters={entry: _number(parameters, entry, "parameters") for entry in parameters},
        fitted=_text(data, "fitted", "the card") if "fitted" in data else "",
    )


def _term(terms: dict[str, Any], name: str, texts: dict[str, str]) -> TermPrice:
    entry, where = _table(terms, name), f"terms.{name}"
    notes = ("source", "evidence", "note")
    powers = ("power_w_per_chip", "power_w_per_core")
    prices = ("price_pj", "low_pj", "high_pj")
    _only(entry, (*(powers if name == "static" else prices), *notes), where)
    values = {key: _number(entry, key, where) for key in (*prices, *powers) if key in entry}
    if name == "static":
        if not values:
            raise ValueError(f"{where} needs power_w_per_chip or power_w_per_core")
    elif "price_pj" not in values:
        raise ValueError(f"{where}.price_pj is missing")
    price = values.get("price_pj")
    low, high = values.get("low_pj", price), values.get("high_pj", price)
    if price is not None and low is not None and high is not None and not low <= price <= high:
        raise ValueError(
            f"{where}: low_pj {low}, price_pj {price}, high_pj {high} are out of order"
        )
    return TermPrice(
        price_pj=price,
        low_pj=low,
        high_pj=high,
        power_w_per_chip=values.get("power_w_per_chip"),
        power_w_per_core=values.get("power_w_per_core"),
        source=_text(entry, "source", where) if "source" in entry else texts["source"],
        evidence=_text(entry, "evidence", where) if "evidence" in entry else texts["evidence"],
        note=_text(entry, "note", where) if "note" in entry else "",
    )


def _only(data: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in data:
        if key not in known:
            raise ValueError(f"{where} has an unknown field {one_line(key, 60)!r}")


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not a table")
    return value


def _text(data: dict[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    # What a card says reaches the terminal and the report.
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{where}: {key} is missing or no line of text")
    return value


def _number(data: dict[str, Any], key: str, where: str) -> float:
    value = data[key]
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(
            f"{where}.{key} is {one_line(str(value), 40)!r}, not a number of at least 0"
        )
    if value > LARGEST_PRICE:
        raise ValueError(f"{where}.{key} is {value:g}, {LARGEST_PRICE:g} is the limit")
    return float(value)

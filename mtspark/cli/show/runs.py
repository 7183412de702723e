"""Tables of runs in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mtspark.cli._console import console
from mtspark.cli.show.verdict import print_estimate, print_verdict
from mtspark.core.digits import decimals, percent
from mtspark.sim.results import COUNTED

if TYPE_CHECKING:
    from mtspark.core.chip_network import ChipNetwork


def short(value: float) -> str:
    """A count for people: 4 digits at most; the JSON has them all."""
    for size, unit in ((1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else 1e6):.3g} {unit}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else decimals(value, 1)


def print_ends(played: int, cut: int, limited: int, limit: str) -> None:
    """Say which of the episodes did not end by the rules of their game.

    Args:
        played: episodes in all.
        cut: those that the user cut off.
        limited: those that ended by a limit of their protocol or environment.
        limit: what it is.
    """
    for count, how in ((cut, "were cut off by --max-decisions"), (limited, f"ended by {limit}")):
        if count:
            console.print(f"{count:,} of {played:,} episodes {how}")


def print_drawn(result: dict[str, Any]) -> None:
    """Say that actions were drawn, where they were.

    Args:
        result: JSON values of a run, or of a point of hardware in the loop.
    """
    drawn = result.get("sampling")
    if drawn is not None:
        console.print(
            f"actions were drawn: seed {drawn['seed']}, temperature {drawn['temperature']:g}"
        )


def print_run(
    result: dict[str, Any], sentences: Iterable[str], network: ChipNetwork, *, details: bool
) -> None:
    """Scores, counts of a mean decision, and its bill.

    Args:
        result: JSON values of the run.
        sentences: that sum it up.
        network: that played.
        details: show counts and bill, too.
    """
    print_verdict(sentences, more=not details)
    print_drawn(result)
    if details:
        _print_details(result, network)


def _print_details(result: dict[str, Any], network: ChipNetwork) -> None:
    episodes = result["episodes"]
    scores = ", ".join(f"{episode['return']:g}" for episode in episodes)
    cut = sum(not episode["finished"] for episode in episodes)
    limited = sum(episode.get("truncated", False) for episode in episodes)
    limit = "the frame limit" if result["protocol"] is not None else "the time limit"
    ends = (f", {cut} cut off" if cut else "") + (
        f", {limited} ended by {limit}" if limited else ""
    )
    console.print(
        f"[bold]{escape(result['task'])}[/bold] on {escape(result['backend'])}: mean return "
        f"[bold]{result['mean_return']:g}[/bold] over {len(episodes)} episodes "
        f"({result['distinct_episodes']} distinct{ends}), "
        f"{result['decisions']} decisions"
        + (f", success rate {result['success_rate']:.1%}" if "success_rate" in result else ""),
        markup=True,
    )
    console.print(f"returns: {scores}")
    _print_clipped(result, network)
    print_counts(result, network)
    # A run of an earlier version, and one of a float network, has no bill on a chip.
    for bill in result.get("energy_on_chip") or result["energy"]:
        print_bill(bill)
    if result.get("energy_on_chip"):
        for bill in result["energy"]:
            console.print(
                "of this, without messages and the neurons that hold the frame (the network "
                f"alone): {decimals(bill['dynamic_j_per_decision'] * 1e6, 2)} µJ"
            )
    host = result["host_time"]
    console.print(
        f"this computer (game and simulation): {host['decisions_per_s']:g} decisions a second"
    )
    print_estimate()


def _print_clipped(result: dict[str, Any], network: ChipNetwork) -> None:
    """How many numbers of an environment lay beyond what can be sent."""
    clipped = result.get("clipped_values")
    if clipped is not None:
        seen = result["decisions"] * math.prod(network.input.shape)
        console.print(
            f"clipped: {clipped:,} of {seen:,} numbers ({percent(clipped / seen, 2)}) lay four "
            "deviations or more from their mean and were sent as the largest message"
        )


def print_counts(result: dict[str, Any], network: ChipNetwork) -> None:
    """Counts of a mean decision, layer by layer."""
    decisions = result["decisions"]
    steps = result["steps_per_decision"]
    title = f"A mean decision of {decisions:,} ({steps} chip steps)"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    table.add_column("layer")
    for column in ("neurons", "spikes", "rate", "drain", "synops", "nonzero", "updates", "silent"):
        table.add_column(column, justify="right")
    events = result["input_events"]["total"] / decisions
    sent = events / network.time_steps / math.prod(network.input.shape)
    table.add_row("input", "", short(events), percent(sent), "0", "", "", "", "")
    silent = 0
    for layer in result["layers"]:
        rate = layer["spikes_window"] / decisions / network.time_steps / layer["neurons"]
        counts = [short(layer[key] / decisions) for key in COUNTED]
        cells = [counts[0], percent(rate), *counts[1:], f"{layer['silent_neurons']:,}"]
        if network.fires(layer["name"]):
            silent += layer["silent_neurons"]
        else:
            # Its membranes are read: it has no spikes that could be missing.
            cells = ["", "", "", *counts[2:], ""]
        table.add_row(layer["name"], short(layer["neurons"]), *cells)
    table.add_section()
    total = {key: sum(layer[key] for layer in result["layers"]) for key in ("neurons", *COUNTED)}
    counts = [short(total[key] / decisions) for key in COUNTED]
    table.add_row("all", short(total["neurons"]), counts[0], "", *counts[1:], f"{silent:,}")
    console.print(table)
    console.print(
        "spikes: all sent (input: values sent); rate: of a neuron in a step of its window; drain: "
        "spikes outside the window; synops: synaptic operations, stored zeros included; nonzero: "
        "those on nonzero weights; silent: neurons without a spike in the window of any of the "
        f"{decisions:,} decisions"
    )


def print_bill(bill: dict[str, Any]) -> None:
    """The price of a mean decision under one card."""
    word = ", hypothetical" if bill["hypothetical"] else ""
    table = Table(title=f"Energy of a mean decision, estimate{word}", caption=bill["card"])
    table.add_column("term")
    for column in ("count", "price [pJ]", "energy [µJ]"):
        table.add_column(column, justify="right")
    for term in bill["terms"]:
        count, cost = term["count_per_decision"], term["price_pj"]
        energy = term["energy_j_per_decision"]
        table.add_row(
            term["term"].replace("_", " "),
            "not counted" if count is None else f"{count:,.0f}",
            "not priced" if cost is None else f"{cost:g}",
            "not priced" if energy is None else decimals(energy * 1e6, 2),
        )
    table.add_section()
    dynamic = bill["dynamic_j_per_decision"] * 1e6
    table.add_row("dynamic, priced terms", "", "", Text(decimals(dynamic, 2), "bold"))
    static = bill["static_j_per_decision"]
    table.add_row("static", "", "", "not priced" if static is None else decimals(static * 1e6, 2))
    console.print(table)
    console.print(f"source: {bill['source']}; {bill['evidence']}; {bill['scope']}")
    console.print(f"static: {bill['static_note']}")
    for term in bill["terms"]:
        if term["note"]:
            console.print(f"{term['term'].replace('_', ' ')}: {term['note']}")
    if bill["chip"] and any(
        term["term"] == "message" and term["count_per_decision"] is None for term in bill["terms"]
    ):
        console.print(
            "without a mapping to the chip: messages between cores, and updates of the neurons "
            "that hold the frame, are not in the sum"
        )
    for reason in bill["hypothetical_because"]:
        console.print(f"hypothetical: {reason}")

"""Tables of runs in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtspark.cli.common import console

if TYPE_CHECKING:
    from mtspark.core.chip_network import ChipNetwork


def print_run(result: dict[str, Any], network: ChipNetwork) -> None:
    """Scores, counts of a mean decision, and its bill."""
    episodes = result["episodes"]
    scores = ", ".join(f"{episode['return']:g}" for episode in episodes)
    cut = sum(not episode["finished"] for episode in episodes)
    console.print(
        f"[bold]{result['task']}[/bold] on {result['backend']}: mean return "
        f"[bold]{result['mean_return']:g}[/bold] over {len(episodes)} episodes "
        f"({result['distinct_episodes']} distinct{f', {cut} cut off' if cut else ''}), "
        f"{result['decisions']} decisions"
    )
    console.print(f"returns: {scores}")
    print_counts(result, network)
    for bill in result["energy"]:
        print_bill(bill)
    host = result["host_time"]
    console.print(
        f"this computer (game and simulation): {host['decisions_per_s']:g} decisions a second"
    )


def print_counts(result: dict[str, Any], network: ChipNetwork) -> None:
    """Counts of a mean decision, layer by layer."""
    decisions = result["decisions"]
    steps = result["steps_per_decision"]
    table = Table(title=f"A mean decision ({steps} chip steps)")
    table.add_column("layer")
    for column in ("neurons", "spikes", "rate", "drain", "synops", "nonzero", "updates", "silent"):
        table.add_column(column, justify="right")
    events = result["input_events"]["total"] / decisions
    sent = events / network.time_steps / max(_size(network.input.shape), 1)
    table.add_row("input", "", f"{events:,.0f}", f"{sent:.1%}", "0", "", "", "", "")
    for layer in result["layers"]:
        rate = layer["spikes_window"] / decisions / network.time_steps / layer["neurons"]
        table.add_row(
            layer["name"],
            f"{layer['neurons']:,}",
            f"{layer['spikes'] / decisions:,.1f}",
            f"{rate:.2%}",
            f"{layer['spikes_drain'] / decisions:,.1f}",
            f"{layer['synops_structural'] / decisions:,.0f}",
            f"{layer['synops_effective'] / decisions:,.0f}",
            f"{layer['neuron_updates'] / decisions:,.0f}",
            f"{layer['silent_neurons']:,}",
        )
    table.add_section()
    total = {
        key: sum(layer[key] for layer in result["layers"])
        for key in ("neurons", "spikes", "spikes_drain", "synops_structural", "synops_effective")
    }
    updates = sum(layer["neuron_updates"] for layer in result["layers"])
    table.add_row(
        "all",
        f"{total['neurons']:,}",
        f"{total['spikes'] / decisions:,.1f}",
        "",
        f"{total['spikes_drain'] / decisions:,.1f}",
        f"{total['synops_structural'] / decisions:,.0f}",
        f"{total['synops_effective'] / decisions:,.0f}",
        f"{updates / decisions:,.0f}",
        "",
    )
    console.print(table)
    console.print(
        "spikes: all sent (input: values sent); rate: of a neuron in a step of its window; drain: "
        "spikes outside the window; synops: synaptic operations, zero weights included; nonzero: "
        "those on nonzero weights; silent: neurons without one spike in the whole run"
    )


def print_bill(bill: dict[str, Any]) -> None:
    """The price of a mean decision under one card."""
    word = "ESTIMATE, HYPOTHETICAL" if bill["hypothetical"] else "ESTIMATE"
    table = Table(title=f"Energy of a mean decision: {bill['card']} ({word})")
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
            "not priced" if energy is None else f"{energy * 1e6:,.2f}",
        )
    table.add_section()
    dynamic = bill["dynamic_j_per_decision"] * 1e6
    table.add_row("dynamic, priced terms", "", "", f"[bold]{dynamic:,.2f}[/bold]")
    console.print(table)
    console.print(f"source: {bill['source']}; {bill['evidence']}; {bill['scope']}")
    for term in bill["terms"]:
        if term["note"]:
            console.print(f"{term['term'].replace('_', ' ')}: {term['note']}")
    for reason in bill["hypothetical_because"]:
        console.print(f"hypothetical: {reason}")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size

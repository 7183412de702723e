"""Agents and their cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mtspark.cli._console import console
from mtspark.cli.show.verdict import print_estimate, print_verdict

if TYPE_CHECKING:
    from mtspark.workflows.zoo import AgentCard, Averaged, Listing, Pulled, Pushed


def print_agents(listing: Listing, *, details: bool = False) -> None:
    """Print how many agents there are, and a row for each of their tasks.

    Args:
        listing: of an address.
        details: print each card instead.
    """
    count = len(listing.cards)
    agents = "1 agent" if count == 1 else f"{count or 'no'} agents"
    console.print(f"{listing.address}: {agents}.")
    if details:
        for card in listing.cards:
            console.print()
            print_card(card)
    elif listing.cards:
        console.print(_table(listing))
        console.print(
            "Scores of the chip; µJ of a decision on Loihi 2, and of the cheapest network without "
            "spikes.",
            style="dim",
        )
        console.print("(--details: intervals, protocol, training, licence, files)", style="dim")
    if any(task.cost is not None for card in listing.cards for task in card.tasks):
        print_estimate()
    for reason in listing.left_out:
        console.print(f"left out: {reason}")


def _table(listing: Listing) -> Table:
    table = Table()
    for column in ("agent", "task"):
        table.add_column(column)
    for column in ("score", "µJ", "rival", "MB"):
        table.add_column(column, justify="right")
    for card in listing.cards:
        for number, task in enumerate(card.tasks):
            first = number == 0
            table.add_row(
                escape(card.name) if first else "",
                escape(task.name),
                task.headline,
                "-" if task.cost is None else f"{task.cost.micro_joules:.2g}",
                "-" if task.cost is None else task.cost.rival_micro_joules,
                f"{card.size / 1e6:.2g}" if first else "",
            )
    return table


def print_card(card: AgentCard) -> None:
    """Print what a card says."""
    console.print(f"{card.name} ({card.licence or 'licence not stated'})", style="bold")
    print_verdict(card.sentences, more=False)
    lines = (*card.protocols, f"Trained: {card.trained}.", card.note, card.contents)
    print_verdict(lines, more=False)


def print_pushed(result: Pushed) -> None:
    """Say where an agent lies now, and what its card says."""
    done = "is there already, unchanged" if result.same else "pushed"
    console.print(f"{result.card.name}: {done}: {result.where}")
    print_card(result.card)


def print_pulled(result: Pulled) -> None:
    """Say where an agent lies now, what was checked, and what its card says."""
    done = "is here already, unchanged" if result.same else "pulled"
    console.print(f"{result.card.name}: {done}: {result.folder}")
    count = len(result.card.files)
    if not result.same:
        console.print(
            f"Sizes and SHA-256 of {count} file{'s' * (count != 1)}, tasks, scores and training "
            "are those of its card."
        )
    print_card(result.card)


def print_averaged(result: Averaged) -> None:
    """Say what was averaged, and what to do before the mean is used."""
    what = ", ".join(result.tasks)
    console.print(f"{result.file}: the mean of {len(result.of)} agents ({what}).")
    console.print("It has no scores yet: mtspark export it, then mtspark eval the bundle.")

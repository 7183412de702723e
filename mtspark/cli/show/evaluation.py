"""Rows of `mtspark eval`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtspark.cli._console import console
from mtspark.cli.show.runs import print_bill, print_counts, print_ends
from mtspark.cli.show.verdict import print_estimate, print_verdict
from mtspark.core.digits import percent

if TYPE_CHECKING:
    from mtspark.core.chip_network import ChipNetwork
    from mtspark.workflows.evaluate import Evaluation


def print_evaluation(result: Evaluation, *, details: bool) -> None:
    """Show returns and accuracies, and how often float network and chip agree.

    Args:
        result: all rows.
        details: show them as tables, too.
    """
    print_verdict(result.sentences, more=not details)
    if not details:
        return
    if result.games:
        _print_games(result.agent, [row.to_json() for row in result.games], result.numbers)
    if result.images:
        _print_images(result.agent, [row.to_json() for row in result.images])


def _print_games(agent: str, rows: list[dict[str, Any]], numbers: frozenset[str]) -> None:
    """Show returns, and how often float network and chip agree.

    Args:
        agent: its name.
        rows: JSON values.
        numbers: names of the tasks whose actions are numbers.
    """
    cuts = sorted({row["max_decisions"] for row in rows if "max_decisions" in row})
    lengths = f"cut off after {' or '.join(f'{cut:,}' for cut in cuts)} decisions"
    episodes = f"episodes {lengths}" if cuts else "full episodes"
    draws = {row["sampling"]["temperature"] for row in rows if "sampling" in row}
    acts = f"drawn at temperature {' or '.join(f'{one:g}' for one in sorted(draws))}"
    table = Table(title=f"{agent}: {acts if draws else 'greedy'}, {episodes}, unclipped returns")
    solved = ["success"] if any("success_rate" in row for row in rows) else []
    columns = ["task", "who", "sticky", "mean return", "95 %", *solved, "episodes", "distinct"]
    for column in (*columns, "agree"):
        table.add_column(column, justify="left" if column in ("task", "who") else "right")
    for row in rows:
        low, high = row["interval_95"]
        agreement = row["action_agreement"]
        table.add_row(
            row["task"],
            "float (torch)" if row["backend"] == "torch" else "chip (integers)",
            f"{row['sticky_action_probability']:g}",
            f"{row['mean_return']:.2f}",
            f"{low:.1f} to {high:.1f}",
            *([_share(row.get("success_rate"))] if solved else []),
            str(row["episodes"]),
            str(row["distinct_episodes"]),
            "" if agreement is None else percent(agreement),
        )
    console.print(table)
    played = sum(row["episodes"] for row in rows)
    ends = ("unfinished_episodes", "truncated_episodes")
    cut, limited = (sum(row.get(name, 0) for row in rows) for name in ends)
    limit = "a limit of time (frames of the protocol, or the environment's own), not by its rules"
    print_ends(played, cut, limited, limit)
    kinds = {row["task"] in numbers for row in rows if row["decisions_compared"]}
    same = "think the same action best" if draws else "take the same action"
    if kinds == {True}:
        same += ", each number within 5 % of its range"
    elif True in kinds:
        same += " (numbers: each within 5 % of its range)"
    _print_compared(rows, "decisions", same)


def _print_compared(rows: list[dict[str, Any]], what: str, same: str) -> None:
    """Say what the column `agree` is a share of, where something was compared."""
    compared = sum(row["decisions_compared"] or 0 for row in rows)
    if compared:
        console.print(f"agree: share of {what} in which float and chip {same}; {compared:,} in all")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _print_images(name: str, rows: list[dict[str, Any]]) -> None:
    """Show accuracies and how often float network and chip agree."""
    table = Table(title=f"{name}: test accuracy")
    for column in ("task", "who", "accuracy", "95 %", "images", "agree", "images from"):
        left = column in ("task", "who", "images from")
        table.add_column(column, justify="left" if left else "right")
    for row in rows:
        low, high = row["interval_95"]
        agreement = row["action_agreement"]
        table.add_row(
            row["task"],
            "float (torch)" if row["backend"] == "torch" else "chip (integers)",
            percent(row["accuracy"], 2),
            f"{percent(low)} to {percent(high)}",
            str(row["images"]),
            "" if agreement is None else percent(agreement, 2),
            row["origin"],
        )
    console.print(table)
    _print_compared(rows, "images", "give the same answer")


def print_data_evaluation(
    values: Mapping[str, Any],
    sentences: Iterable[str],
    network: ChipNetwork,
    *,
    details: bool | None,
) -> None:
    """Show accuracy of float network and chip on data, and what a sample costs.

    Args:
        values: JSON values of the evaluation.
        sentences: that sum it up.
        network: that ran.
        details: show counts and bill, too; None: the command has no such option.
    """
    print_verdict(sentences, more=details is False)
    if values.get("rounding"):
        console.print(
            f"Inputs were rounded to the chip's 8-bit messages, at most {values['rounding']:.2g} "
            "off; the float network took them as they are."
        )
    if not details:
        return
    print_counts({**values, "decisions": values["samples"]}, network)
    for bill in values["energy"]:
        print_bill(bill)
    print_estimate()

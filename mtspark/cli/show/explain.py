"""What each integer effect costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from mtspark.cli._console import console
from mtspark.cli.show.verdict import print_verdict
from mtspark.core.digits import percent

if TYPE_CHECKING:
    from mtspark.workflows.explain import EffectTable, Explanation


def print_explanation(result: Explanation, *, details: bool) -> None:
    """Print what costs most, and a table for each number of weight bits.

    Args:
        result: all effects.
        details: show the tables, too.
    """
    print_verdict(result.sentences, more=not details)
    if not details:
        return
    for table in result.tables:
        console.print(_table(table, result))
    console.print(
        f"same {result.answer}: share of {result.decisions:,} decisions"
        + (", each number within 5 % of its range" if result.numbers else "")
        + "; columns of layers: share of neurons whose number of spikes in a decision differs from "
        "the float network's; effects do not add up",
        soft_wrap=True,
    )
    if result.removed:
        console.print(
            f"layers count the {sum(result.removed.values()):,} neurons that --prune removed, too: "
            "effects are those of the network before, whose answers are the same",
            soft_wrap=True,
        )
    for layer in result.differences:
        console.print(str(layer), soft_wrap=True, markup=False)


def _table(part: EffectTable, result: Explanation) -> Table:
    table = Table(
        title=f"{result.task}, {result.decisions} decisions, {part.weight_bits}-bit weights"
    )
    table.add_column("switched on alone")
    table.add_column(f"same {result.answer} as float", justify="right")
    layers = list(part.rows[0].layers)
    for layer in layers:
        table.add_column(layer, justify="right")
    if result.episodes:
        table.add_column(f"mean return of {result.episodes}", justify="right")
    for row in part.rows:
        cells = [row.effect, percent(row.action_agreement)]
        cells += [percent(row.layers[layer], 2) for layer in layers]
        if result.episodes:
            cells.append("no game" if row.mean_return is None else f"{row.mean_return:g}")
        if row is part.rows[-1]:
            table.add_section()
        table.add_row(*cells)
    return table

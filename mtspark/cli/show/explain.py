"""What each effect of the chip costs."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from mtspark.cli._console import console


def print_explain(result: dict[str, Any]) -> None:
    """A table for each number of weight bits."""
    for part in result["tables"]:
        title = (
            f"{result['task']}, {result['decisions']} decisions, {part['weight_bits']}-bit weights"
        )
        table = Table(title=title)
        table.add_column("switched on alone")
        table.add_column("same action as float", justify="right")
        layers = list(part["rows"][0]["layers"])
        for layer in layers:
            table.add_column(layer, justify="right")
        if result["episodes"]:
            table.add_column(f"mean return of {result['episodes']}", justify="right")
        for row in part["rows"]:
            cells = [row["effect"], f"{row['action_agreement']:.1%}"]
            cells += [f"{row['layers'][layer]:.2%}" for layer in layers]
            if result["episodes"]:
                score = row["mean_return"]
                cells.append("no game" if score is None else f"{score:g}")
            if row["effect"].startswith("all"):
                table.add_section()
            table.add_row(*cells)
        console.print(table)
    console.print(
        "columns of layers: share of neurons whose number of spikes in a decision differs from the "
        "float network's; effects do not add up",
        soft_wrap=True,
    )

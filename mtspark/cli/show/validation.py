"""Predictions of PilotNet beside what Intel measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from mtspark.cli._console import console

if TYPE_CHECKING:
    from mtspark.sim.validation import Validation


def print_validation(validation: Validation) -> None:
    """Print a table of all predictions, and what was counted."""
    table = Table(title="PilotNet LIF, one recorded sample of 16 steps")
    table.add_column("quantity")
    table.add_column("predicted by")
    for column in ("predicted", "measured", "ratio"):
        table.add_column(column, justify="right")
    for row in validation.comparisons:
        table.add_row(
            row.quantity,
            row.how + (" (fitted to it)" if row.fitted else ""),
            f"{row.predicted:.4g}",
            f"{row.measured:.4g}",
            f"{row.ratio:.2f}",
        )
    console.print(table)
    console.print(
        f"counted: {validation.synops:,} synaptic operations, {validation.neuron_updates:,} neuron "
        f"updates, {validation.spikes:,} spikes. Intel measured one chip with the input repeated "
        "on it, and its static power of 0.232 W; so the total tests only the modelled time."
    )

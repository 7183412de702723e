"""The table of `mtspark plasticity`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mtspark.cli._console import console
from mtspark.core.digits import percent

if TYPE_CHECKING:
    from mtspark.train.plasticity import Plasticity


def print_plasticity(result: Plasticity) -> None:
    """Show the measures, those of layers and tasks one a row."""
    table = Table(title=f"plasticity on {result.samples:,} transitions")
    table.add_column("measure")
    table.add_column("of")
    table.add_column("value", justify="right")
    table.add_row("dormant neurons", "all layers", percent(result.dormant_ratio, 2))
    for name, share in result.dormant.items():
        table.add_row("", escape(name), percent(share, 2))
    table.add_row("effective rank", "last spiking layer", str(result.effective_rank))
    table.add_row("Fisher trace", "policy", f"{result.fisher_trace:.4g}")
    for title, norms in (
        ("weight norm", result.weight_norm),
        ("gradient norm", result.gradient_norm),
    ):
        for name, norm in norms.items():
            table.add_row(title, escape(name), f"{norm:.4g}")
    if result.gradient_cosine is not None and result.conflicts is not None:
        table.add_row("cosine of gradients", "pairs of tasks", f"{result.gradient_cosine:.3f}")
        table.add_row("gradients in conflict", "pairs of tasks", percent(result.conflicts, 0))
    console.print(table)

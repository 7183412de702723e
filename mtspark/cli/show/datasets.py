"""What `mtspark record` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mtspark.cli._console import console
from mtspark.core.digits import decimals

if TYPE_CHECKING:
    from mtspark.workflows.record import Recording


def print_recording(result: Recording) -> None:
    """A row for each dataset, and where it lies."""
    table = Table(title=escape(f"{result.agent} on {result.backend}, recorded"))
    table.add_column("dataset")
    table.add_column("episodes", justify="right")
    table.add_column("decisions", justify="right")
    table.add_column("mean return", justify="right")
    for one in result.tasks:
        table.add_row(
            escape(one.dataset),
            f"{one.episodes:,}",
            f"{one.decisions:,}",
            decimals(one.mean_return, 2),
        )
    console.print(table)
    for one in result.tasks:
        done = "wrote" if one.is_new else "recorded before:"
        console.print(f"{done} {one.path}", soft_wrap=True)

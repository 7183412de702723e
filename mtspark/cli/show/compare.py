"""The tables of `mtspark compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mtspark.cli._console import console

if TYPE_CHECKING:
    from mtspark.workflows.compare import RunComparison


def print_run_comparison(result: RunComparison) -> None:
    """Show a row for each method, and the notes."""
    from mtspark.workflows.compare import rows_of, title_of

    rows = rows_of(result)
    table = Table(title=escape(title_of(result)))
    for name in rows[0]:
        table.add_column(escape(name), justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(*map(escape, row.values()))
    console.print(table)
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)

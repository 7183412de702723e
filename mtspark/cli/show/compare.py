"""The tables of `mtspark compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from mtspark.cli._console import console

if TYPE_CHECKING:
    from mtspark.workflows.compare import RunComparison


def print_run_comparison(result: RunComparison) -> None:
    """Show the verdict, a row for each method, those of many tasks, and the notes."""
    from mtspark.workflows.compare import rows_of, rows_of_tasks, sentences_of, title_of

    console.print(" ".join(sentences_of(result)), markup=False)
    title = title_of(result)
    for rows in filter(None, (rows_of(result), rows_of_tasks(result))):
        table = Table(title=escape(title))
        for number, name in enumerate(rows[0]):
            table.add_column(escape(name), justify="right" if number else "left")
        for row in rows:
            table.add_row(*map(escape, row.values()))
        console.print(table)
        title = f"{title}, by task"
    for note in result.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)

"""What ``mtspark report`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtspark.cli._console import console
from mtspark.cli.show.runs import print_run

if TYPE_CHECKING:
    from mtspark.workflows.report import ReportPage, StoredReport


def print_stored(report: StoredReport) -> None:
    """Print tables of the latest runs."""
    for result in report.runs:
        console.rule(f"{result['task']}, {result['backend']}, {result['date']}")
        print_run(result, report.network)
    if report.other_runs:
        console.print(
            f"{report.other_runs} runs of an earlier network in {report.folder} are left out"
        )


def print_page(written: ReportPage, *, say_left_out: bool) -> None:
    """Print which files were written.

    Args:
        written: the page.
        say_left_out: name what the cards do not price, too.
    """
    for report in written.data.tasks[0].energy if say_left_out else ():
        bill = report.bill
        if bill.left_out:
            terms = ", ".join(bill.left_out).replace("_", " ")
            console.print(
                f"{bill.card.name}: no price for {terms}; its sum is without", markup=False
            )
    for path in (written.page, written.data_path):
        console.print(f"wrote {path}", soft_wrap=True)

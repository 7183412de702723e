"""What ``mtspark report`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mtspark.cli._console import console
from mtspark.cli.show.evaluation import print_data_evaluation
from mtspark.cli.show.runs import print_run, short
from mtspark.cli.show.verdict import print_estimate, print_verdict
from mtspark.sim.verdict import micro_joules, milliseconds

if TYPE_CHECKING:
    from mtspark.workflows.report import Compared, Comparison, ReportPage, StoredReport


def print_stored(report: StoredReport, *, details: bool) -> None:
    """Print what the latest runs and evaluations say.

    Args:
        report: of them.
        details: show counts and bills, too.
    """
    print_verdict(report.verdict, more=not details)
    for result, sentences in zip(report.runs, report.sentences, strict=True) if details else ():
        console.rule(f"{result['task']}, {result['backend']}, {result['date'][:16]}")
        print_run(result, sentences, report.network, details=True)
    evaluations = zip(report.evaluations, report.evaluation_sentences, strict=True)
    for values, sentences in evaluations if details else ():
        console.rule(f"{values['task']}, {values['backend']}, {values['date'][:16]}")
        print_data_evaluation(values, sentences, report.network, details=True)
    if report.other_runs:
        console.print(
            f"{report.other_runs} runs of an earlier network in {report.folder} are left out"
        )


def print_comparison(result: Comparison) -> None:
    """Print which bundle is better and what each costs, then a column for each in each task."""
    print_verdict(result.sentences, more=False)
    for task in dict.fromkeys(row.task for row in result.rows):
        rows = [row for row in result.rows if row.task == task]
        table = Table(title=task, box=SIMPLE_HEAD, padding=(0, 1))
        table.add_column("")
        for row in rows:
            table.add_column(Path(row.bundle).name, justify="right", overflow="fold")
        for label, cells in _lines(rows).items():
            table.add_row(label, *cells)
        console.print(table)
    print_estimate()


def _lines(rows: list[Compared]) -> dict[str, list[str]]:
    def joules(value: float | None) -> str:
        return "not priced" if value is None else micro_joules(value)

    return {
        "on the chip": [row.score for row in rows],
        "float network": [row.float_score for row in rows],
        "games or samples": [f"{row.samples:,}" for row in rows],
        "energy of a decision": [joules(row.dynamic_j) for row in rows],
        "without spikes, from": [joules(row.rival_j) for row in rows],
        "modelled time": [
            "not modelled" if row.decision_us is None else milliseconds(row.decision_us)
            for row in rows
        ],
        "cores": ["" if row.cores is None else f"{row.cores:,}" for row in rows],
        "spikes": [short(row.spikes) for row in rows],
        "synaptic operations": [short(row.synops) for row in rows],
        "neurons": [f"{row.neurons:,}" for row in rows],
        "weight bits": [row.weight_bits for row in rows],
        "encoder": [row.encoder for row in rows],
    }


def print_page(written: ReportPage, *, say_left_out: bool, verdict: bool = True) -> None:
    """Print which files were written.

    Args:
        written: the page.
        say_left_out: name what the cards do not price, too.
        verdict: print it, where none has been printed of the same inputs.
    """
    if verdict:
        print_verdict(written.sentences, more=False)
    for report in written.data.tasks[0].energy if say_left_out else ():
        bill = report.bill
        if bill.left_out:
            terms = ", ".join(bill.left_out).replace("_", " ")
            console.print(
                f"{bill.card.name}: no price for {terms}; its sum is without", markup=False
            )
    for path in (written.page, written.data_path):
        console.print(f"wrote {path}", soft_wrap=True)

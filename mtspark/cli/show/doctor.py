"""The state of an installation, part by part."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from mtspark.cli._console import new_console
from mtspark.workflows.doctor import Examination

COLOURS = {"ok": "green", "missing": "yellow", "too old": "yellow", "broken": "red"}


def print_examination(examination: Examination) -> None:
    """Print a table of all parts, the machine, and a line for each part that has a remedy."""
    table = Table("part", "", "found", "needed for")
    for finding in examination.findings:
        colour = "red" if finding.essential and finding.status != "ok" else COLOURS[finding.status]
        # Text, not markup: a path or a message may hold square brackets.
        table.add_row(
            finding.name, Text(finding.status, colour), Text(finding.found), finding.disables
        )
    new_console().print(table)
    machine = examination.machine
    memory = machine.memory_bytes
    size = "unknown" if memory is None else f"{memory / 2**30:.1f} GiB"
    print(f"processors: {machine.processors}, memory: {size}")
    print(f"python: {machine.python}")
    for finding in examination.findings:
        if finding.fix:
            # Plain lines, so that a command can be copied whole however narrow the terminal is.
            print(f"to get {finding.name}: {finding.fix}")
    if examination.works:
        print("All essential parts work.")
    else:
        print("An essential part is missing, too old or broken: see above.")

"""What a network made of recorded inputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from mtspark.cli._console import console
from mtspark.cli.show.verdict import print_verdict


def print_recorded(
    result: dict[str, Any], sentences: Iterable[str], output: Path | None, *, details: bool
) -> None:
    """Spikes of every layer, and the values of the first samples.

    Args:
        result: JSON values of the run.
        sentences: that sum it up.
        output: file of spikes and values that was written.
        details: show them, too.
    """
    print_verdict(sentences, more=not details)
    if details:
        _print_spikes(result)
    episodes = result.get("decision_values")
    for index, values in enumerate(result["values"][:8]):
        where = f"sample {index}"
        if episodes is not None:
            where = f"episode {index}, after decision {len(episodes[index])}"
        console.print(f"{where}: {values}", markup=False, soft_wrap=True)
    if output is not None:
        console.print(f"wrote {output}", soft_wrap=True)


def _print_spikes(result: dict[str, Any]) -> None:
    title = f"{result['samples']} samples of {result['time_steps']} steps"
    if "decision_values" in result:
        title = f"{result['samples']} episodes of {len(result['decision_values'][0])} decisions"
    table = Table(title=title)
    table.add_column("layer")
    table.add_column("spikes in its window", justify="right")
    for name, total in result["spikes"].items():
        table.add_row(name, f"{total:,}")
    console.print(table)

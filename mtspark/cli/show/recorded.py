"""What a network made of recorded inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from mtspark.cli._console import console


def print_recorded(result: dict[str, Any], output: Path | None) -> None:
    """Spikes of every layer, and the values of the first samples."""
    table = Table(title=f"{result['samples']} samples of {result['time_steps']} steps")
    table.add_column("layer")
    table.add_column("spikes in its window", justify="right")
    for name, total in result["spikes"].items():
        table.add_row(name, f"{total:,}")
    console.print(table)
    for index, values in enumerate(result["values"][:8]):
        console.print(f"sample {index}: {values}", markup=False, soft_wrap=True)
    if output is not None:
        console.print(f"wrote {output}", soft_wrap=True)

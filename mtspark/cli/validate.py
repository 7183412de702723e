"""The command ``mtspark validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import console, one_thread_each
from mtspark.core.files.atomic import check_target, write_json


def validate_command(
    folder: Annotated[
        Path,
        typer.Argument(help="lava-dl's PilotNet LIF: network.net and the recordings beside it."),
    ],
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the comparison to this file.")
    ] = None,
) -> None:
    """Compare energy, step time and cores with what Intel measured of PilotNet on Loihi 2."""
    one_thread_each()
    from rich.table import Table

    from mtspark.sim.validation.compare import validate

    check_target(json_out)
    found = validate(folder)
    table = Table(title="PilotNet LIF, one recorded sample of 16 steps")
    table.add_column("quantity")
    table.add_column("predicted by")
    for column in ("predicted", "measured", "ratio"):
        table.add_column(column, justify="right")
    for row in found.comparisons:
        table.add_row(
            row.quantity,
            row.how + (" (fitted to it)" if row.fitted else ""),
            f"{row.predicted:.4g}",
            f"{row.measured:.4g}",
            f"{row.ratio:.2f}",
        )
    console.print(table)
    console.print(
        f"counted: {found.synops:,} synaptic operations, {found.neuron_updates:,} neuron updates, "
        f"{found.spikes:,} spikes. Measured by Intel on one chip, input repeated on it; static "
        "power of 0.232 W was measured there, too, so the total tests the modelled time only."
    )
    if json_out is not None:
        write_json(json_out, found.to_json())

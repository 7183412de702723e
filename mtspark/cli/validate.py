"""The command ``mtspark validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import one_thread_each
from mtspark.core.files import check_json_target, write_json


def validate_command(
    folder: Annotated[
        Path,
        typer.Argument(help="lava-dl's PilotNet LIF: network.net and the recordings beside it."),
    ],
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the comparison to this file.")
    ] = None,
) -> None:
    """Compare predicted energy, step time and cores with measurements of PilotNet on Loihi 2.

    Intel published the measurements.
    """
    one_thread_each()
    from mtspark.cli.show import print_validation
    from mtspark.sim.validation import validate

    check_json_target(json_out)
    validation = validate(folder)
    print_validation(validation)
    if json_out is not None:
        write_json(json_out, validation.to_json())

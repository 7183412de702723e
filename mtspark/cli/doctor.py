"""The command ``mtspark doctor``."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List what is installed, what is missing, and the command that installs it."""
    from mtspark.workflows import doctor

    examination = doctor.examine()
    if as_json:
        print(json.dumps(examination.to_json(), indent=2))
    else:
        from mtspark.cli.show import print_examination

        print_examination(examination)
    if not examination.works:
        raise typer.Exit(1)

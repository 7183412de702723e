"""The command ``mtspark doctor``."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List what is installed, what is missing, and the command that installs it."""
    from mtspark.cli._progress import progress_bar
    from mtspark.core.progress import begin
    from mtspark.workflows import doctor

    with progress_bar() as progress:
        begin(progress, "importing every part in a Python of its own", "numba")
        examination = doctor.examine()
    if as_json:
        print(json.dumps(examination.to_json(), indent=2))
    else:
        from mtspark.cli.show import print_examination

        print_examination(examination)
    if not examination.works:
        raise typer.Exit(1)

"""The command ``mtspark install-lava``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.core.files import check_target, write_json


def install_lava_command(
    json_out: Annotated[
        Path | None,
        typer.Option("--json", help="Write what was installed to this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Install the Lava backend (lava-nc 0.10.0) in this environment and check that it imports."""
    from mtspark.deploy.lava import install_lava

    check_target(json_out)
    installed = install_lava()
    state = "installed" if installed.installed_now else "already there"
    typer.echo(
        f"lava-nc {installed.version} {state}: imports on Python {installed.python} with numpy "
        f"{installed.numpy}; the backends lava and lava-stock are available"
    )
    if json_out is not None:
        write_json(json_out, installed.to_json())

"""The commands ``mtspark install-lava`` and ``mtspark install-lava-dl``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import console
from mtspark.core.files import check_json_target, write_json


def install_lava_command(
    json_out: Annotated[
        Path | None,
        typer.Option("--json", help="Write what was installed to this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Install the Lava backend (lava-nc 0.10.0) in this environment and check that it imports."""
    from mtspark.deploy.lava import install_lava

    check_json_target(json_out)
    installed = install_lava()
    state = "installed" if installed.installed_now else "already there"
    typer.echo(
        f"lava-nc {installed.version} {state}: imports on Python {installed.python} with numpy "
        f"{installed.numpy}; the backends lava and lava-stock are available"
    )
    if json_out is not None:
        write_json(json_out, installed.to_json())


def install_lava_dl_command(
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of the environment (default: in the user's cache)."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(help="A Python 3.10 (default: one on the PATH, or from pyenv)."),
    ] = None,
    json_out: Annotated[
        Path | None,
        typer.Option("--json", help="Write what was installed to this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Build lava-dl's own environment, in which netx runs for `mtspark diff --against netx`.

    lava-dl 0.6.0 needs Python 3.10, torch 2.3 and numpy 1: 5.7 GB, some minutes.
    """
    from mtspark.deploy.lava import PYTHON_VARIABLE, default_folder, install_lava_dl

    check_json_target(json_out)
    with console.status("installing lava-dl"):
        installed = install_lava_dl(python, folder)
    state = "installed" if installed.installed_now else "already there"
    typer.echo(
        f"lava-dl {installed.lava_dl} {state}: netx imports on Python {installed.version} with "
        f"numpy {installed.numpy}, in {installed.python.parent.parent}"
    )
    if folder is not None and folder.resolve() != default_folder().resolve():
        typer.echo(f"set {PYTHON_VARIABLE}={installed.python} for mtspark diff to find it")
    if json_out is not None:
        write_json(json_out, installed.to_json())

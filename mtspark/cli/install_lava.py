"""The command ``mtspark install-lava``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def install_lava_command(
    json_out: Annotated[
        Path | None,
        typer.Option("--json", help="Write what was installed to this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Bring the Lava backend (lava-nc 0.10.0) into this environment and prove that it imports."""
    import json
    from dataclasses import asdict

    from mtspark.core.errors import BadFileError
    from mtspark.deploy.lava_install import install_lava

    found = install_lava()
    state = "installed" if found.installed_now else "already there"
    typer.echo(
        f"lava-nc {found.version} {state}: imports on Python {found.python} with numpy "
        f"{found.numpy}; the backends lava and lava-stock are available"
    )
    if json_out is not None:
        try:
            json_out.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise BadFileError(f"{json_out}: cannot be written ({error.strerror})") from error

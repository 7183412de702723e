"""The command ``mtspark watch``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import console, one_thread_each
from mtspark.cli._playing import MaxDecisions, Seed, Sticky
from mtspark.cli._progress import progress_bar
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, write_json
from mtspark.sim.energy import DEFAULT_CARD


def watch_command(
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which game to play.")] = None,
    seed: Seed = 0,
    max_decisions: MaxDecisions = None,
    sticky: Sticky = None,
    speed: Annotated[float, typer.Option(help="Times the game's own speed, at most.")] = 1.0,
    card: Annotated[str, typer.Option(help="Prices, a card's name or .toml file.")] = DEFAULT_CARD,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page, or only print its address.")] = True,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the page's address to this file, too.")
    ] = None,
) -> None:
    """Play games on a page of this machine: picture, spikes and energy as they happen.

    The page pauses, steps and breaks the chip. Ctrl-C ends it, with exit code 130.
    """
    one_thread_each()
    from mtspark.deploy.bundle import load_bundle
    from mtspark.sim.hil import end_on_sigterm
    from mtspark.workflows.watch import Session, WatchRequest, served_page

    check_json_target(json_out)
    network = load_bundle(folder).network
    if task is None and len(network.tasks) == 1:
        task = network.tasks[0].name
    if task is None:
        known = ", ".join(one.name for one in network.tasks)
        raise BadRequestError(f"{folder}: name the game to watch, --task NAME; it knows {known}")
    request = WatchRequest(task, seed, max_decisions, sticky, speed, card)
    with progress_bar() as progress:
        session = Session(network, request, progress=progress)
    end_on_sigterm()
    with served_page(session, port) as served:
        if json_out is not None:
            write_json(json_out, served.to_json())
        console.print(f"{task} at {served.address}", soft_wrap=True)
        console.print("Ctrl-C ends it; whoever has the address can use the page.")
        if browser and _has_display():
            import webbrowser

            webbrowser.open(served.address)
        session.wait()


def _has_display() -> bool:
    """Whether a browser can open a window, rather than take this terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""The command ``mtspark diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import MOST_RECORDED, one_thread_each, refuse_given
from mtspark.core.files import check_json_target, write_json
from mtspark.sim.energy import DEFAULT_CARD


def diff_command(
    context: typer.Context,
    first: Annotated[
        Path,
        typer.Argument(
            metavar="X",
            help="A bundle made by mtspark export, or a file: checkpoint (.pt), NIR (.nir), ONNX "
            "(.onnx), netx (.net).",
        ),
    ],
    against: Annotated[
        str,
        typer.Option(
            metavar="Y",
            help="reference, engine, lava, lava-stock, torch, twin (the network that learned "
            "quantised), netx (lava-dl), onnx (ONNX Runtime), or another bundle or file. Backends "
            "are compared with the reference; the reference and torch with the engine.",
        ),
    ],
    task: Annotated[str | None, typer.Option(help="Which task (default: the first).")] = None,
    decisions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_RECORDED,
            help="How many (default: 1000; lava and another bundle 50; files, netx and onnx 20; "
            "lava-stock 3).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the game, or of random frames.")] = 0,
    card: Annotated[str, typer.Option(help="Prices, a card's name or .toml file.")] = DEFAULT_CARD,
    details: Annotated[
        bool, typer.Option("--details", help="Show every layer, and the first difference in full.")
    ] = False,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.")
    ] = None,
) -> None:
    """Find the first spike or membrane in which two simulations of a network differ.

    Both get the same frames: of the task's game, played by the engine, or random ones where the
    task is no game. Exit code 0: all equal; 1: a difference. Floats and integers always differ in
    some spikes, so comparing them ends with exit code 0.
    """
    one_thread_each()
    from mtspark.cli._progress import progress_bar
    from mtspark.cli.show import print_diff, print_diff_verdict
    from mtspark.workflows.diff import diff

    check_json_target(json_out)
    with progress_bar() as progress:
        result = diff(
            first, against, task, decisions=decisions, seed=seed, card=card, progress=progress
        )
    if not result.costs:
        refuse_given(context, "prices a network of a chip, and neither side is one", "card")
    print_diff_verdict(result, details=details)
    if details:
        print_diff(result)
    if json_out is not None:
        write_json(json_out, result.to_json())
    if result.fault:
        raise typer.Exit(1)

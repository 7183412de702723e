"""The command ``mtspark explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import DETAILS, MOST, MOST_RECORDED, one_thread_each, refuse_given
from mtspark.core.files import check_json_target, write_json
from mtspark.sim.energy import DEFAULT_CARD


def explain_command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which task (default: the first).")] = None,
    decisions: Annotated[
        int, typer.Option(min=1, max=MOST_RECORDED, help="Recorded decisions to compare.")
    ] = 500,
    episodes: Annotated[
        int,
        typer.Option(
            min=0, max=MOST, help="Also play this many episodes with every effect (minutes each)."
        ),
    ] = 0,
    weight_bits: Annotated[
        str | None,
        typer.Option(help="Explain these instead of the bundle's, for example 8,6,4."),
    ] = None,
    by_layer: Annotated[
        bool, typer.Option(help="Weight rounding in each layer alone, too.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "--inputs",
            help="Inputs to compare on, .npy of frames (batch, ...) or series (batch, T, ...), "
            "where the task is no game.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the game that gives the frames.")] = 0,
    card: Annotated[str, typer.Option(help="Prices, a card's name or .toml file.")] = DEFAULT_CARD,
    details: Annotated[bool, typer.Option("--details", help=DETAILS)] = False,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write the result to this file, row by row; run again with the same file to "
            "resume a run that was stopped.",
        ),
    ] = None,
) -> None:
    """Find what costs a chip network its agreement with the float network, and its score.

    The float network answers recorded decisions of the task; then each integer effect is
    switched on alone: weight rounding, threshold rounding, palette, biases, decays, sums that
    lose bits, saturation, the value stream, the input's encoder. Effects do not add up: some
    hide others.
    """
    one_thread_each()
    from mtspark.cli._progress import progress_bar
    from mtspark.cli.show import print_explanation
    from mtspark.workflows.explain import explain

    check_json_target(json_out)
    if inputs is not None and not episodes:
        refuse_given(context, "is of the game, and the inputs are those of --input", "seed")
    bits = parse_bits(weight_bits)
    with progress_bar() as progress:
        result = explain(
            folder,
            task,
            decisions=decisions,
            episodes=episodes,
            weight_bits=bits,
            by_layer=by_layer,
            inputs=inputs,
            seed=seed,
            card=card,
            store=json_out,
            progress=progress,
        )
    print_explanation(result, details=details)
    if json_out is not None:
        write_json(json_out, result.to_json())


def parse_bits(text: str | None) -> list[int] | None:
    """Read weight bits from a list like 8,6,4.

    Raises:
        BadRequestError: anything but numbers from 2 to 8.
    """
    from mtspark.core.errors import BadRequestError

    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() and 2 <= int(part) <= 8 for part in parts):
        raise BadRequestError(f"--weight-bits {text!r}: give numbers from 2 to 8, such as 8,6,4")
    return [int(part) for part in parts]

"""The command ``mtspark map``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import DETAILS, MOST, console, one_thread_each, refuse_given
from mtspark.cli._progress import progress_bar
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, write_json


class DivisionName(str, Enum):
    """How layers are divided over cores."""

    FEWEST = "fewest"
    INTEL = "intel"


class InputName(str, Enum):
    """Who sends the frame."""

    CORES = "cores"
    HOST = "host"


def map_command(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="A bundle made by mtspark export.")] = None,
    chip: Annotated[
        str | None,
        typer.Option(
            help="loihi1, loihi2, or the path of a chip description (.toml); default: the chip of "
            "--card, else loihi2."
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw the chip: .png, .svg or .pdf.")
    ] = None,
    details: Annotated[bool, typer.Option("--details", help=DETAILS)] = False,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the mapping to this file.")
    ] = None,
    division: Annotated[
        DivisionName, typer.Option(help="As few cores as fit, or as Intel's compiler divides.")
    ] = DivisionName.FEWEST,
    input_from: Annotated[
        InputName | None,
        typer.Option(
            "--input", help="Cores that hold the frame, or the host in every step sends it."
        ),
    ] = None,
    spread_thresholds: Annotated[
        bool,
        typer.Option(
            "--spread-thresholds",
            help="Take more cores where neurons have more thresholds than a core has registers.",
        ),
    ] = False,
    task: Annotated[
        str | None, typer.Option(help="Play this game first: counts messages, models the time.")
    ] = None,
    max_decisions: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="Cut that game off after this many decisions."),
    ] = None,
    decisions: Annotated[int | None, typer.Option(min=1, max=MOST, hidden=True)] = None,
    seed: Annotated[int, typer.Option(help="Of that game.")] = 0,
    times: Annotated[
        str | None, typer.Option(help="Which of the chip's sets of times (default: its first).")
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(help="Prices, a card's name or .toml file (default: the chip's main one)."),
    ] = None,
    pilotnet: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a bundle: lava-dl's folder of PilotNet LIF, beside Intel's figures."
        ),
    ] = None,
) -> None:
    """Map an agent to the cores of a chip: what fits, what does not, and what to do about it.

    Exit code 1 when it does not fit; picture and file are written all the same.
    """
    one_thread_each()
    if (folder is None) == (pilotnet is None):
        raise BadRequestError("name either a bundle or --pilotnet FOLDER")
    if None not in (decisions, max_decisions) and decisions != max_decisions:
        raise BadRequestError("--decisions is the former name of --max-decisions; give the latter")
    from mtspark.workflows.map import check_picture

    check_json_target(json_out)
    check_picture(picture)
    if pilotnet is not None:
        own = ("pilotnet", "picture", "json_out")
        refuse_given(context, "is of a bundle, and --pilotnet maps another network", but=own)
        _map_pilotnet(pilotnet, picture, json_out)
        return
    assert folder is not None, "checked above"
    if task is None:
        refuse_given(context, "is of the game of --task", "seed", "max_decisions", "decisions")
    from mtspark.cli.show import print_map
    from mtspark.deploy.bundle import load_bundle
    from mtspark.workflows.map import MapRequest, map_bundle, save_picture

    request = MapRequest(
        chip=chip,
        division=division.value,
        input_place=None if input_from is None else input_from.value,
        spread_thresholds=spread_thresholds,
        task=task,
        decisions=decisions if max_decisions is None else max_decisions,
        seed=seed,
        times=times,
        card=card,
    )
    with progress_bar() as progress:
        result = map_bundle(load_bundle(folder), request, progress=progress)
    print_map(result, details=details)
    if picture is not None:
        save_picture(result, picture)
        console.print(f"wrote {picture}", soft_wrap=True)
    if json_out is not None:
        write_json(json_out, result.to_json())
    if not result.fits:
        raise typer.Exit(1)


def _map_pilotnet(folder: Path, picture: Path | None, json_out: Path | None) -> None:
    from mtspark.cli.show import print_pilotnet
    from mtspark.workflows.map import compare_with_pilotnet, save_picture

    comparison = compare_with_pilotnet(folder)
    print_pilotnet(comparison)
    if picture is not None:
        save_picture(comparison, picture)
        console.print(f"wrote {picture}", soft_wrap=True)
    if json_out is not None:
        write_json(json_out, comparison.to_json())

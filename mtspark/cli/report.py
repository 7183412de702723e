"""The command ``mtspark report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import (
    DETAILS,
    MOST,
    MOST_RECORDED,
    console,
    one_thread_each,
    refuse_given,
)
from mtspark.cli.measuring import LABELS, typed_command, written_page
from mtspark.core.chip_network import Encoder
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, write_json


def report_command(
    context: typer.Context,
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE...",
            help="A bundle made by mtspark export; several: what was measured, side by side.",
        ),
    ],
    page: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Play once more with everything recorded and write this page (.html), "
            "and its data beside it (.json).",
        ),
    ] = None,
    details: Annotated[bool, typer.Option("--details", help=DETAILS)] = False,
    json_out: Annotated[
        Path | None,
        typer.Option("--json", help="Without -o: write the stored runs' report to this file."),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="With -o: this task only; may be repeated.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=MOST, help="With -o: games a task.")] = 1,
    seed: Annotated[
        int | None,
        typer.Option(help="With -o: of the first game (default: the latest run's, else 0)."),
    ] = None,
    max_decisions: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="With -o: cut games off after this many decisions."),
    ] = None,
    card: Annotated[
        list[str] | None,
        typer.Option(
            help="With -o: a price card's name or .toml file; may be repeated, the first one is "
            "the main one (default: all that ship)."
        ),
    ] = None,
    encoder: Annotated[
        Encoder | None,
        typer.Option(
            help="With -o: how frames reach the chip, in all bills (default: as exported)."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=60, help="With -o: of play that the page shows.")
    ] = 10.0,
    times: Annotated[
        str | None,
        typer.Option(help="With -o: set of times of the chips (default: the fitted one, if any)."),
    ] = None,
    pilotnet: Annotated[
        Path | None,
        typer.Option(help="With -o: lava-dl's PilotNet LIF, to print predicted over measured."),
    ] = None,
    neurobench: Annotated[
        int,
        typer.Option(
            min=0, max=MOST_RECORDED, help="With -o: decisions a task that NeuroBench counts, too."
        ),
    ] = 0,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="With -o, where the task is no game: inputs with labels as of mtspark eval --data "
            "(default: what it kept in the bundle), or the folder of an image set.",
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help=LABELS)] = None,
    images: Annotated[
        int, typer.Option(min=1, max=MOST, help="With -o: test images a task that is an image set.")
    ] = 300,
) -> None:
    """Show spikes, operations and energy of the latest runs, or write a page about them."""
    one_thread_each()
    check_json_target(json_out)
    folder = folders[0]
    given = (task, seed, max_decisions, card, times, pilotnet, data, labels)
    asked = any(value is not None for value in given) or episodes != 1 or neurobench > 0
    if len(folders) > 1:
        if asked:
            raise BadRequestError(
                "several bundles are compared by what was measured already; leave that option out"
            )
        why = "several bundles are compared by what was measured already"
        refuse_given(context, why, but=("folders", "page", "json_out"))
        _compare(folders, page, json_out)
        return
    if page is None:
        if asked:
            raise BadRequestError("that option belongs to a page: add -o report.html")
        belongs = ("folders", "details", "json_out")
        refuse_given(context, "belongs to a page, -o report.html", but=belongs)
        _report_stored(folder, json_out, details=details)
        return
    if json_out is not None:
        raise BadRequestError("-o writes its data beside the page; leave --json out")
    refuse_given(context, "is of the terminal, and the page shows all", "details")
    if data is None:
        refuse_given(context, "belongs to inputs, --data FILE.npy", "labels")
    from mtspark.workflows.report import ReportRequest

    request = ReportRequest(
        tasks=tuple(task or ()),
        episodes=episodes,
        seed=seed,
        max_decisions=max_decisions,
        cards=tuple(card or ()),
        encoder=encoder,
        seconds=seconds,
        times=times,
        pilotnet=pilotnet,
        neurobench=neurobench,
        data=data,
        labels=labels,
        images=images,
        command=typed_command(),
    )
    written_page(folder, page, request, say_left_out=bool(card))


def _compare(folders: list[Path], page: Path | None, json_out: Path | None) -> None:
    """Set bundles side by side."""
    from mtspark.cli.show import print_comparison
    from mtspark.workflows.report import compare_bundles, write_comparison

    result = compare_bundles(folders)
    print_comparison(result)
    if json_out is not None:
        write_json(json_out, result.to_json())
    if page is not None:
        for path in write_comparison(result, page):
            console.print(f"wrote {path}", soft_wrap=True)


def _report_stored(folder: Path, json_out: Path | None, *, details: bool) -> None:
    """Print tables of the latest runs in a bundle."""
    from mtspark.cli.show import print_stored
    from mtspark.workflows.report import stored_report

    report = stored_report(folder)
    print_stored(report, details=details)
    if json_out is not None:
        write_json(json_out, report.to_json())

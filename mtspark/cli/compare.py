"""The command ``mtspark compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mtspark.cli._console import console
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, check_target, write_json


def compare_command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS...",
            help="Folders of mtspark train --seeds, one a method; the first is the baseline.",
        ),
    ],
    score: Annotated[
        Literal["return", "success"],
        typer.Option(help="Mean return of each task's last episodes, or the share solved."),
    ] = "return",
    scales: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="TASK=LOW:HIGH",
            help="Scale a task's scores: LOW becomes 0 and HIGH becomes 1; may be repeated.",
        ),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Count the scores of this file of mtspark eval --json in each run's folder, "
            "instead of those of training.",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --scores: who played, where the file has several."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Write the tables here (.md), and a picture beside them (.png)."
        ),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.")
    ] = None,
) -> None:
    """Compare training runs of several methods over seeds and tasks.

    Interquartile means with 95 % bootstrap intervals, differences from the first method in pairs of
    the same seed, dormant neurons and effective rank (where plasticity.measure_every was set). All
    are compared after the decisions of the run that has gone least far, so runs that still train
    can be looked at.
    """
    from mtspark.cli.show import print_run_comparison
    from mtspark.workflows.compare import check_page, compare_runs, write_comparison

    check_json_target(json_out)
    if page is not None:
        check_page(page)
        for path in (page, page.with_suffix(".png")):
            check_target(path)
    result = compare_runs(
        folders,
        score=score,
        ranges=_ranges(scales or []),
        scores_file=scores,
        backend=backend,
    )
    print_run_comparison(result)
    if json_out is not None:
        write_json(json_out, result.to_json())
    if page is not None:
        for path in write_comparison(result, page):
            console.print(f"wrote {path}", soft_wrap=True)


def _ranges(texts: list[str]) -> dict[str, tuple[float, float]]:
    """Parse the range of each task."""
    ranges: dict[str, tuple[float, float]] = {}
    for text in texts:
        task, ends = _range(text)
        if task in ranges:
            raise BadRequestError(f"--range {text}: {task} has a range already; give it one")
        ranges[task] = ends
    return ranges


def _range(text: str) -> tuple[str, tuple[float, float]]:
    """Parse TASK=LOW:HIGH."""
    task, _, ends = text.rpartition("=")
    low, _, high = ends.partition(":")
    try:
        return task, (float(low), float(high))
    except ValueError as error:
        raise BadRequestError(f"--range {text}: must be TASK=LOW:HIGH, as pong=-21:21") from error

"""The command ``mtspark record``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import MOST, one_thread_each
from mtspark.cli._playing import MaxDecisions, Sample, Seed, Sticky, Temperature
from mtspark.cli._progress import progress_bar
from mtspark.core.files import check_json_target
from mtspark.workflows.backends import BackendName


def record_command(
    agent: Annotated[
        Path,
        typer.Argument(
            metavar="AGENT",
            help="An agent file (.pt), whose float network plays, or a bundle made by mtspark "
            "export.",
        ),
    ],
    folder: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the datasets, one for each task.")
    ],
    task: Annotated[
        list[str] | None, typer.Option(help="Only this task; repeat for several (all).")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, max=MOST, help="Games of each task.")] = 30,
    seed: Seed = 0,
    backend: Annotated[
        BackendName | None,
        typer.Option(help="Who decides (default: engine of a bundle, torch of an agent file)."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Replace this share of the best actions by random ones.")
    ] = None,
    sample: Sample = None,
    temperature: Temperature = 1.0,
    max_decisions: MaxDecisions = None,
    sticky: Sticky = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file, too.")
    ] = None,
) -> None:
    """Record an agent's play as datasets of minari, to learn from without the games.

    Observations are stored as the environment shows them, a row of numbers or a stack of frames,
    with actions, unclipped rewards, ends and seeds. The same call writes the same data.
    mtspark train learns from them with algorithm = "iql"; any program reads them with minari.
    """
    one_thread_each()
    from mtspark.cli.show import print_recording
    from mtspark.core.files import write_json
    from mtspark.workflows.record import RecordRequest, exploring_of, record_play

    check_json_target(json_out)
    request = RecordRequest(
        tasks=tuple(task or ()),
        episodes=episodes,
        seed=seed,
        backend=backend,
        exploring=exploring_of(sample, temperature, epsilon),
        max_decisions=max_decisions,
        sticky=sticky,
    )
    with progress_bar() as progress:
        result = record_play(agent, folder, request, progress=progress)
    print_recording(result)
    if json_out is not None:
        write_json(json_out, result.to_json())

"""The command ``mtspark record``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import MOST, one_thread_each
from mtspark.cli._progress import progress_bar
from mtspark.core.files import check_target
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
    seed: Annotated[int, typer.Option(help="Of the first game; the next has seed + 1.")] = 0,
    backend: Annotated[
        BackendName | None,
        typer.Option(help="Who decides (default: engine of a bundle, torch of an agent file)."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Replace this share of the best actions by random ones.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**63 - 1, help="Draw actions with this seed instead of taking the best."
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="With --sample: values are divided by it before the softmax.")
    ] = 1.0,
    max_decisions: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="Cut every game off after this many decisions."),
    ] = None,
    sticky: Annotated[
        float | None, typer.Option(help="Sticky action probability (default: the agent's own).")
    ] = None,
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

    check_target(json_out)
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

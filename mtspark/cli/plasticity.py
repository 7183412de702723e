"""The command ``mtspark plasticity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import MOST, one_thread_each
from mtspark.cli._progress import progress_bar
from mtspark.core.files import check_json_target


def plasticity_command(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="An agent file (.pt).")],
    decisions: Annotated[
        int, typer.Option(min=1, max=MOST, help="Decisions of each task to measure on.")
    ] = 256,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of games and random actions.")
    ] = 0,
    threshold: Annotated[
        float,
        typer.Option(help="A neuron is dormant if its activity is at most this share of the mean."),
    ] = 0.001,
    delta: Annotated[
        float, typer.Option(help="Share of the singular values that the rank leaves out.")
    ] = 0.01,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.")
    ] = None,
) -> None:
    """Measure how much an agent's network can still learn, on frames of its own games.

    Dormant neurons, effective rank, the Fisher information of its policy, norms of weights and
    gradients, and whether the gradients of its tasks are in conflict. The file is not changed.
    Agents with network.stateful are refused: single decisions are measured, without memory of
    those before.
    """
    one_thread_each()
    from mtspark.cli.show import print_plasticity
    from mtspark.core.files import write_json
    from mtspark.workflows.plasticity import measure_checkpoint

    check_json_target(json_out)
    with progress_bar() as progress:
        result = measure_checkpoint(
            checkpoint,
            decisions=decisions,
            seed=seed,
            threshold=threshold,
            delta=delta,
            progress=progress,
        )
    print_plasticity(result)
    if json_out is not None:
        write_json(json_out, result.to_json())

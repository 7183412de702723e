"""The command ``mtspark demo``: the main job, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import console, one_thread_each
from mtspark.cli._progress import progress_bar
from mtspark.workflows.backends import BackendName

SHIPPED_AGENT = Path("examples/agents/pong/pong.pt")
SCENES = 160


def demo_command(
    checkpoint: Annotated[Path, typer.Argument(help="A trained agent (.pt).")] = SHIPPED_AGENT,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for everything that it makes.")
    ] = Path("demo-output"),
    lava_decisions: Annotated[
        int, typer.Option(min=1, help="Decisions to compare with Lava on our processes.")
    ] = 50,
    stock_decisions: Annotated[
        int, typer.Option(min=1, help="Decisions to compare with stock Lava.")
    ] = 3,
) -> None:
    """Export an agent, prove the chip equal to Lava, play a full game, count and show it."""
    one_thread_each()
    from mtspark.cli.show.diff import print_diff
    from mtspark.cli.show.export import print_export
    from mtspark.cli.show.runs import print_run
    from mtspark.core.errors import BackendFailedError, BackendMissingError
    from mtspark.deploy.lava.shim import installed_lava
    from mtspark.sim.recording.film import FilmRecorder
    from mtspark.sim.recording.stage import save_still, save_video
    from mtspark.workflows.diff.comparison import diff
    from mtspark.workflows.export.pipeline import export_to
    from mtspark.workflows.export.request import ExportRequest
    from mtspark.workflows.run.games import run_games, store_run

    if installed_lava() is None:
        raise BackendMissingError("the demo compares with Lava; run `mtspark install-lava` first")
    console.rule("1  from PyTorch to integers")
    request = ExportRequest(source=checkpoint)
    exported = export_to(request, output / f"{checkpoint.stem}.deploy", overwrite=True)
    print_export(exported)
    bundle = exported.bundle
    task = bundle.network.tasks[0].name
    console.rule("2  is it what Lava computes?")
    for against, decisions in (
        (BackendName.ENGINE, lava_decisions),
        (BackendName.LAVA_STOCK, stock_decisions),
        (BackendName.LAVA, lava_decisions),
    ):
        result = diff(bundle, against, task, decisions=decisions)
        print_diff(result)
        if not result.equal:
            raise BackendFailedError(
                f"the reference differs from {against.value}; see the first difference above"
            )
    console.rule(f"3  a game of {task} on the simulated chip")
    recorder = FilmRecorder(bundle.network, SCENES, counts=True)
    with progress_bar() as progress:
        run = run_games(bundle, task, observe=recorder, progress=progress)
    stored = store_run(bundle, run)
    print_run(run.to_json(), bundle.network)
    console.rule("4  to look at")
    with console.status("drawing the last seconds of the game"):
        still, video = output / f"{task}.png", output / f"{task}.gif"
        save_still(recorder, task, still)
        save_video(recorder, task, video)
    for path in (video, still, stored):
        console.print(f"wrote {path}", soft_wrap=True)

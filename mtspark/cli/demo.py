"""The command ``mtspark demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtspark.cli._console import MOST_RECORDED, console, one_thread_each
from mtspark.cli._progress import progress_bar

SHIPPED_AGENT = Path("examples/agents/pong/pong.pt")


def demo_command(
    checkpoint: Annotated[Path, typer.Argument(help="A trained agent (.pt).")] = SHIPPED_AGENT,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for all files of the demo.")
    ] = Path("demo-output"),
    lava_decisions: Annotated[
        int,
        typer.Option(
            min=1, max=MOST_RECORDED, help="Decisions to compare with Lava on our processes."
        ),
    ] = 50,
    stock_decisions: Annotated[
        int, typer.Option(min=1, max=MOST_RECORDED, help="Decisions to compare with stock Lava.")
    ] = 3,
) -> None:
    """Export an agent, prove the chip equal to Lava, play a full game, count and show it."""
    one_thread_each()
    from mtspark.cli.show import print_diff, print_export, print_run
    from mtspark.workflows import demo
    from mtspark.workflows.report import run_sentences

    demo.require_lava()
    console.rule("1  from PyTorch to integers")
    console.print(
        "frames are sent at every step (mtspark export --encoder every-step): stock Lava has no "
        "neurons for the default, which sends only what changed",
        soft_wrap=True,
    )
    exported = demo.export_agent(checkpoint, output)
    print_export(exported)
    bundle = exported.bundle
    task = bundle.network.tasks[0].name
    console.rule("2  is it what Lava computes?")
    with progress_bar() as progress:
        for result in demo.compare_with_lava(
            bundle,
            lava_decisions=lava_decisions,
            stock_decisions=stock_decisions,
            progress=progress,
        ):
            print_diff(result)
        console.rule(f"3  a game of {task} on the simulated chip")
        game = demo.film_game(bundle, task, progress=progress)
        values = game.run.to_json()
        print_run(values, run_sentences(bundle, values), bundle.network, details=True)
        console.rule("4  to look at")
        pictures = demo.draw_game(game, output, progress=progress)
    for path in (*pictures, game.stored):
        console.print(f"wrote {path}", soft_wrap=True)

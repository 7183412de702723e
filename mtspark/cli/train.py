"""The command ``mtspark train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_command(
    recipe: Annotated[
        str, typer.Argument(help="A TOML file, or the name of a shipped recipe, e.g. pong.")
    ] = "pong",
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder of the run; an existing run goes on (runs/RECIPE)."
        ),
    ] = None,
    game: Annotated[
        list[str] | None, typer.Option(help="ALE game instead of the recipe's; repeat for several.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Agent decisions over all games.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of weights, games and exploration.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    compiled: Annotated[
        bool, typer.Option(help="Fuse neurons with torch.compile: twice as fast after a minute.")
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field: name=value, e.g. network.hidden=512."),
    ] = None,
    list_fields: Annotated[
        bool, typer.Option("--show", help="Print the whole configuration and stop.")
    ] = False,
) -> None:
    """Train a spiking agent on Atari games; stop any time, the same command goes on.

    Progress shows each game's mean unclipped return; the folder gets agent.pt every five
    minutes, log.jsonl and TensorBoard's files. The fields of a recipe are documented in
    mtspark.train.config.
    """
    from dataclasses import asdict

    from mtspark.cli.common import console
    from mtspark.train.recipe import override, read_recipe, to_config
    from mtspark.train.start import check_compiler, check_device, check_folder, check_games

    fields = read_recipe(recipe)
    if game:
        fields = {
            key: value
            for key, value in fields.items()
            if key not in ("teachers", "reward_scales", "games_per_task")
        }
        fields["games"] = list(game)
        fields["network"] = {**fields.get("network", {}), "tasks": len(game)}
    given = {"total_steps": steps, "seed": seed, "device": device, "compiled": compiled or None}
    fields.update({key: value for key, value in given.items() if value is not None})
    config = to_config(override(fields, assignments or []), recipe)
    if list_fields:
        console.print_json(data=asdict(config))
        return
    target = folder or Path("runs") / Path(recipe).stem
    check_device(config.device)
    check_games(config.games)
    check_folder(target)
    if config.compiled:
        check_compiler()
    from mtspark.train.run import train

    console.print(f"wrote {train(config, target)}", soft_wrap=True)

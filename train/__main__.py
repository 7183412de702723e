"""``python -m mtspark.train``: train a spiking agent on one or several Atari games."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mtspark.train.config import TrainConfig
from mtspark.train.network import NATURE_CONVOLUTIONS, SMALL_CONVOLUTIONS, NetworkConfig


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the run; an existing run goes on.")],
    game: Annotated[list[str] | None, typer.Option(help="ALE game; repeat for several.")] = None,
    steps: Annotated[int, typer.Option(help="Agent decisions over all games.")] = 2_500_000,
    games_per_task: Annotated[int, typer.Option(help="Copies of each game.")] = 64,
    wide: Annotated[bool, typer.Option(help="Convolutions 32/64/64, hidden 512.")] = False,
    rescale_values: Annotated[bool, typer.Option(help="For games of unlike returns.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, games and exploration.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    compiled: Annotated[bool, typer.Option(help="Fuse neurons with torch.compile.")] = False,
) -> None:
    """Train until the planned number of decisions; stop any time, start again to go on."""
    from mtspark.train.run import train

    games = tuple(game or ["pong"])
    network = NetworkConfig(
        convolutions=NATURE_CONVOLUTIONS if wide else SMALL_CONVOLUTIONS,
        hidden=512 if wide else 256,
        tasks=len(games),
    )
    config = replace(
        TrainConfig(),
        games=games,
        total_steps=steps,
        games_per_task=games_per_task,
        rescale_values=rescale_values,
        seed=seed,
        threads=threads,
        compiled=compiled,
        network=network,
    )
    print(train(config, folder))


if __name__ == "__main__":
    typer.run(main)

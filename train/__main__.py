"""``python -m mtspark.train``: train a spiking agent on one or several Atari games."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from mtspark.core.console import errors_as_one_line, run_program
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.games import task_for_game
from mtspark.train.config import TrainConfig
from mtspark.train.network import NATURE_CONVOLUTIONS, SMALL_CONVOLUTIONS, NetworkConfig

STATE = ("network", "target", "optimizer", "steps", "updates", "episodes", "returns")
"""What the saved state of a run holds."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train_command(
    folder: Annotated[Path, typer.Argument(help="Folder of the run; an existing run goes on.")],
    game: Annotated[list[str] | None, typer.Option(help="ALE game; repeat for several.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Agent decisions over all games.")] = 2_500_000,
    games_per_task: Annotated[int, typer.Option(min=1, help="Copies of each game.")] = 64,
    wide: Annotated[bool, typer.Option(help="Convolutions 32/64/64, hidden 512.")] = False,
    rescale_values: Annotated[bool, typer.Option(help="For games of unlike returns.")] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of weights, games and exploration.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="CPU threads.")] = 1,
    compiled: Annotated[bool, typer.Option(help="Fuse neurons with torch.compile.")] = False,
) -> None:
    """Train until the planned number of decisions; stop any time, start again to go on."""
    with errors_as_one_line():
        games = tuple(game or ["pong"])
        check_games(games)
        check_folder(folder)
        if compiled:
            check_compiler()
        network = NetworkConfig(
            convolutions=NATURE_CONVOLUTIONS if wide else SMALL_CONVOLUTIONS,
            hidden=512 if wide else 256,
            tasks=len(games),
        )
        config = replace(
            TrainConfig(),
            games=games,
            total_steps=steps,
            games_per_task=(games_per_task,),
            rescale_values=rescale_values,
            seed=seed,
            threads=threads,
            compiled=compiled,
            network=network,
        )
        from mtspark.train.run import train

        print(train(config, folder))


def check_compiler() -> None:
    """Check that torch.compile can work here.

    Raises:
        BadRequestError: no C++ compiler, or PyTorch lies under a path with a space in it,
            which its compiler calls cannot take.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise BadRequestError("--compiled: no C++ compiler (g++); install one or leave it out")
    if " " in torch.__file__:
        raise BadRequestError(
            f"--compiled: PyTorch cannot compile under a path with a space ({torch.__file__}); "
            "leave it out"
        )


def check_games(games: tuple[str, ...]) -> None:
    """Check that every game exists and is named once.

    Raises:
        BadRequestError: unknown, or named twice.
    """
    for game in games:
        task_for_game(game)
        if games.count(game) > 1:
            raise BadRequestError(
                f"--game {game}: given {games.count(game)} times, each game once; remove the others"
            )


def check_folder(folder: Path) -> None:
    """Check that a run can go on, or start, in a folder.

    Raises:
        BadFileError: it is a file or cannot be written, or its resume.pt holds no run.
    """
    whole = folder.absolute()
    nearest = next(path for path in (whole, *whole.parents) if path.exists())
    if not nearest.is_dir():
        raise BadFileError(f"{nearest}: a file, not a folder; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise BadFileError(f"{nearest}: no permission to write there; choose another folder")
    resume = folder / "resume.pt"
    if resume.exists():
        from mtspark.train.checkpoint import load_plain
        from mtspark.train.run import RUN_FORMAT

        state = load_plain(resume, RUN_FORMAT).get("state")
        missing = [key for key in STATE if not isinstance(state, dict) or key not in state]
        if missing:
            raise BadFileError(
                f"{resume}: a training run without {', '.join(missing)}; remove it to start again"
            )


if __name__ == "__main__":
    run_program(partial(app, prog_name="python -m mtspark.train"))

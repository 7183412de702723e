"""Checks of a request that need no PyTorch, so that what cannot work fails at once."""

from __future__ import annotations

import os
from pathlib import Path

from mtspark.core.environments import task_for_game
from mtspark.core.errors import BadFileError
from mtspark.train.config import RunConfig, TrainConfig, check_sizes

ARCHIVE = b"PK"
"""How a file of torch.save begins."""


def check_request(config: RunConfig, folder: Path) -> None:
    """Check games, sizes and folder of a run.

    Raises:
        BadRequestError: no such game, or the run does not fit into memory or onto the disk.
        BadFileError: the folder cannot be written, or its resume.pt is no checkpoint.
    """
    if isinstance(config, TrainConfig):
        check_games(config.games)
    check_writable(folder)
    if isinstance(config, TrainConfig):
        check_sizes(config, folder)


def check_games(games: tuple[str, ...]) -> None:
    """Check that every game exists.

    Raises:
        BadRequestError: ALE has no such game.
    """
    for game in games:
        task_for_game(game)


def check_writable(folder: Path) -> None:
    """Check that a run can write its folder, and that what it would resume is an archive.

    Raises:
        BadFileError: it is a file or cannot be written, or its resume.pt is no checkpoint.
    """
    whole = folder.absolute()
    nearest = next(path for path in (whole, *whole.parents) if path.exists())
    if not nearest.is_dir():
        raise BadFileError(f"{nearest}: a file, not a folder; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise BadFileError(f"{nearest}: no permission to write there; choose another folder")
    resume = folder / "resume.pt"
    if resume.is_file():
        with resume.open("rb") as file:
            begins = file.read(len(ARCHIVE))
        if begins != ARCHIVE:
            raise BadFileError(
                f"{resume}: not a PyTorch checkpoint, as a training run writes it; remove it to "
                "start again, or choose another folder"
            )

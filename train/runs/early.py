"""Checks of a request that need no PyTorch, so that what cannot work fails at once."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

from mtspark.core.datasets import dataset_folder
from mtspark.core.environments import task_for_game, world_task
from mtspark.core.errors import BadFileError, BadRequestError, MtsparkError
from mtspark.core.files import FileLimits, read_guarded
from mtspark.train.config import (
    ImageConfig,
    RunConfig,
    TrainConfig,
    check_sizes,
    run_environments,
)
from mtspark.train.runs.log import LOG_FILE, is_log_of_another_run
from mtspark.train.runs.same import check_same_run

ARCHIVE = b"PK"
"""How a file of torch.save begins."""
FORMATS: dict[type, str] = {TrainConfig: "mtspark-training", ImageConfig: "mtspark-images"}
"""The format name in resume.pt for each kind of run."""


def check_request(config: RunConfig, folder: Path) -> None:
    """Check games, sizes and folder of a run.

    Raises:
        BadRequestError: no such game, the run does not fit into memory or onto the disk, or the
            folder holds another run.
        BadFileError: the folder cannot be written, or its resume.pt is no checkpoint.
    """
    if isinstance(config, TrainConfig):
        check_games(config)
        check_data(config)
    check_writable(folder)
    check_run_held(config, folder)
    if isinstance(config, TrainConfig):
        check_sizes(config, folder)


def check_games(config: TrainConfig) -> None:
    """Check that every game exists, and every environment with its settings.

    Raises:
        BadRequestError: there is no such game, or an agent cannot see or act in an environment.
    """
    if not config.worlds:
        for game in config.games:
            task_for_game(game)
        return
    for one in run_environments(config.games, config.environments, config.task_context):
        # Environments with a name were looked at with the recipe.
        if not one.name:
            world_task(one)


def check_data(config: TrainConfig) -> None:
    """Check that there is a dataset of every game that a run learns from.

    Raises:
        BadFileError: there is none.
    """
    if not config.learns_offline:
        return
    names = config.games
    if config.worlds:
        found = run_environments(config.games, config.environments, config.task_context)
        names = tuple(one.task_name for one in found)
    for folder, name in zip(config.data_folders, names, strict=True):
        dataset_folder(folder, name)


def check_writable(folder: Path) -> None:
    """Check that a run can write its folder, and that what it would resume is an archive.

    Raises:
        BadFileError: it is a file or cannot be written, or its resume.pt is no checkpoint.
        BadRequestError: it holds an agent or a log of something else than a run.
    """
    whole = folder.absolute()
    nearest = next(path for path in (whole, *whole.parents) if path.exists())
    if not nearest.is_dir():
        raise BadFileError(f"{nearest}: a file, not a folder; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise BadFileError(f"{nearest}: no permission to write there; choose another folder")
    resume, agent = folder / "resume.pt", folder / "agent.pt"
    if os.path.lexists(agent) and not resume.exists():
        raise BadRequestError(
            f"{agent}: an agent without the run that trained it (resume.pt), which a new run would "
            "overwrite; move it elsewhere, or choose another folder"
        )
    log = folder / LOG_FILE
    if log.is_file() and not resume.exists() and is_log_of_another_run(log):
        raise BadRequestError(
            f"{log}: a log without the run that wrote it (resume.pt), which a new run would "
            "replace; move it elsewhere, or choose another folder"
        )
    if resume.is_file():
        with resume.open("rb") as file:
            begins = file.read(len(ARCHIVE))
        if begins != ARCHIVE:
            raise BadFileError(
                f"{resume}: not a PyTorch checkpoint, as a training run writes it; remove it to "
                "start again, or choose another folder"
            )


def check_run_held(config: RunConfig, folder: Path) -> None:
    """Check that a folder's resume.pt, if it can be read without PyTorch, is of this run.

    Raises:
        BadRequestError: it is of another kind or configuration.
    """
    path, expected = folder / "resume.pt", FORMATS.get(type(config))
    if expected is None or not path.is_file():
        return
    try:
        saved = read_guarded(str(path), lambda limits: _plain_part(path, limits))
    except MtsparkError:
        return  # With PyTorch, it is said what is wrong with it.
    if saved["format"] in FORMATS.values() and saved["format"] != expected:
        raise BadRequestError(
            f"{folder}: holds a run of another kind ({saved['format']}); choose another folder"
        )
    if saved["format"] == expected:
        check_same_run(saved["config"], config, folder)


class _Ignored:
    """Stands for everything in a pickle that is no plain value."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...


class _PlainValues(pickle.Unpickler):
    """Reads plain values; no class or function that a pickle names is looked up or called."""

    def find_class(self, module: str, name: str) -> Any:
        """Stand in for every class and function."""
        return _Ignored

    def persistent_load(self, place: Any) -> Any:
        """Stand in for the numbers of every tensor."""
        return _Ignored()


def _plain_part(path: Path, limits: FileLimits) -> dict[str, Any]:
    """Format and configuration in a file of torch.save."""
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if archive.getinfo(name).file_size > limits.text_bytes:
            raise BadFileError(f"{path}: more plain values than a run has")
        with archive.open(name) as file:
            content = _PlainValues(file).load()
    return {"format": content["format"], "config": content["config"]}

"""Train an agent by a recipe: the one call for games, images and the ablation grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.train.ablation import FORMAT as ABLATION_FORMAT
from mtspark.train.ablation import AblationResult, draw, draw_curves, run_grid
from mtspark.train.config import (
    TASKS,
    AblationSettings,
    ImageConfig,
    RunConfig,
    TrainConfig,
    config_of,
)
from mtspark.train.images import RUN_FORMAT as IMAGES_FORMAT
from mtspark.train.images import SPLITS, ImageSet, ImageTrainingResult, load_images, train_images
from mtspark.train.images import STATE as IMAGES_STATE
from mtspark.train.rl import RUN_FORMAT as GAMES_FORMAT
from mtspark.train.rl import TrainingResult, train
from mtspark.train.runs import STATE as GAMES_STATE
from mtspark.train.runs import (
    RunCallback,
    check_compiler,
    check_device,
    check_folder,
    check_request,
    only_run_in,
)

RunResult = TrainingResult | ImageTrainingResult | AblationResult


@overload
def train_agent(
    recipe: TrainConfig,
    folder: AnyPath,
    *,
    progress: ProgressCallback = ...,
    callbacks: Sequence[RunCallback] = ...,
) -> TrainingResult: ...


@overload
def train_agent(
    recipe: ImageConfig,
    folder: AnyPath,
    *,
    data: AnyPath | None = ...,
    progress: ProgressCallback = ...,
    callbacks: Sequence[RunCallback] = ...,
) -> ImageTrainingResult: ...


@overload
def train_agent(
    recipe: AblationSettings,
    folder: AnyPath,
    *,
    data: AnyPath | None = ...,
    progress: ProgressCallback = ...,
) -> AblationResult: ...


@overload
def train_agent(
    recipe: AnyPath | Mapping[str, Any] | RunConfig,
    folder: AnyPath,
    *,
    data: AnyPath | None = ...,
    progress: ProgressCallback = ...,
    callbacks: Sequence[RunCallback] = ...,
) -> RunResult: ...


def train_agent(
    recipe: AnyPath | Mapping[str, Any] | RunConfig,
    folder: AnyPath,
    *,
    data: AnyPath | None = None,
    progress: ProgressCallback = no_progress,
    callbacks: Sequence[RunCallback] = (),
) -> RunResult:
    """Train by a recipe, or resume the run that `folder` holds.

    Args:
        recipe: the name of a shipped recipe, the path of a TOML file, a recipe's fields, or a
            configuration.
        folder: of the run; its files are described at :func:`mtspark.train.rl.run.train`,
            :func:`mtspark.train.images.run.train_images` and
            :func:`mtspark.train.ablation.grid.run_grid`, whose figures are drawn, too.
        data: folder with image sets; None: download them. Of recipes for images only.
        progress: receives decisions, epochs or runs.
        callbacks: called at every update; see :mod:`mtspark.train.runs.callbacks`. The ablation
            grid, which is many runs, takes none.

    Returns:
        Path of the agent file with decisions and returns, or epochs and accuracies; path and
        tables of the grid.

    Raises:
        BadRequestError: a recipe that cannot be trained here, or a folder with another run.
        BadFileError: a file that cannot be read or written.
        KeyboardInterrupt: on Ctrl-C, with a message that says where the run resumes.
    """
    config, folder = config_of(recipe), Path(folder)
    check_run(config, folder)
    if isinstance(config, TrainConfig):
        if data is not None:
            raise BadRequestError("data: is of image sets, this recipe plays games; leave it out")
        with only_run_in(folder):
            progress(Progress("preparing", 0, None, "decisions"))
            return train(config, folder, progress=progress, callbacks=callbacks)
    if isinstance(config, ImageConfig):
        training, test = _image_sets(config.tasks, data, progress)
        with only_run_in(folder):
            return train_images(
                config, training, test, folder, progress=progress, callbacks=callbacks
            )
    if callbacks:
        raise BadRequestError("callbacks: of one run, this recipe is a grid of runs; pass none")
    training, test = _image_sets(TASKS, data, progress)
    with only_run_in(folder):
        result = run_grid(folder, config, training, test, progress=progress)
        draw(result, folder / "ablation.png")
        draw_curves(result, folder / "ablation-curves.png")
        return result


def check_run(config: RunConfig, folder: AnyPath) -> None:
    """Check that a configuration can be trained here and that its run can write its folder.

    Raises:
        BadRequestError: no such device or game, torch.compile cannot work, or the run does not
            fit into memory or onto the disk.
        BadFileError: the folder cannot be written, or its resume.pt holds no such run.
    """
    folder = Path(folder)
    check_request(config, folder)
    if isinstance(config, AblationSettings):
        check_folder(folder, ABLATION_FORMAT, ())
        return
    check_device(config.device)
    if config.compiled:
        check_compiler()
    if isinstance(config, ImageConfig):
        check_folder(folder, IMAGES_FORMAT, IMAGES_STATE)
        return
    check_folder(folder, GAMES_FORMAT, GAMES_STATE)


def _image_sets(
    tasks: tuple[str, ...], data: AnyPath | None, progress: ProgressCallback
) -> tuple[list[ImageSet], list[ImageSet]]:
    """Training and test images of every task."""
    splits: list[list[ImageSet]] = []
    for split in SPLITS:
        splits.append([])
        for name in tasks:
            done = len(tasks) * (len(splits) - 1) + len(splits[-1])
            progress(Progress("loading images", done, 2 * len(tasks), "sets", name))
            splits[-1].append(load_images(name, split, data))
    training, test = splits
    return training, test

"""One recipe with several seeds: runs of their own, here or by workers, equal either way."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.executor import Job, Package, check_executor, finished_jobs
from mtspark.core.files import AnyPath, current_policy, write_text
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.train.config import (
    AblationSettings,
    ImageConfig,
    RunConfig,
    TrainConfig,
    check_seeds,
    config_of,
    config_to_json,
    to_config,
)
from mtspark.train.images import ImageTrainingResult
from mtspark.train.rl import TrainingResult
from mtspark.train.runs import reached_of
from mtspark.train.training import check_run, train_agent

SeedResult = TrainingResult | ImageTrainingResult
RECIPE = "recipe.json"
TOKEN = ".job"
"""A file in the folder of each run that its worker has to find there."""
LOOK_S = 1.0
"""Between two looks into the logs of the runs."""


@dataclass(frozen=True)
class SeedRun:
    """A finished run of one seed.

    Attributes:
        seed: of weights, tasks and exploration.
        result: what :func:`mtspark.train_agent` returns of it.
    """

    seed: int
    result: SeedResult

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"seed": self.seed, **self.result.to_json()}


def train_seeds(
    recipe: AnyPath | RunConfig | dict[str, Any],
    folder: AnyPath,
    seeds: Sequence[int],
    *,
    executor: str | None = None,
    data: AnyPath | None = None,
    progress: ProgressCallback = no_progress,
) -> tuple[SeedRun, ...]:
    """Train by a recipe once for each seed, or resume these runs; each is that of its seed alone.

    The run of seed N lies in the folder ``seed-N``. Workers write into these folders themselves:
    they lie where all machines see them. A worker that dies leaves its checkpoint, from which
    another one resumes.

    Args:
        recipe: as of :func:`mtspark.train_agent`; its own seed is not looked at.
        folder: of the folders of the runs.
        seeds: which; in the order in which they are begun.
        executor: workers that train, as of :func:`mtspark.core.executor.parse_executor`; None:
            this process, one seed after the other.
        data: folder with image sets; None: download them. Of recipes for images only.
        progress: receives decisions or epochs of all runs together.

    Returns:
        The runs, in the order of the seeds.

    Raises:
        BadRequestError: seeds that cannot be, a recipe of a grid, or what
            :func:`mtspark.train_agent` refuses.
        BadFileError: a folder that cannot be written, or that a worker does not see.
        BackendMissingError: the executor's package is not installed.
        BackendFailedError: workers that cannot be had, or that die of a run again and again.
        KeyboardInterrupt: on Ctrl-C; the same call resumes the runs.
    """
    check_seeds(seeds)
    check_executor(executor)
    config, folder = config_of(recipe), Path(folder)
    if isinstance(config, AblationSettings):
        raise BadRequestError("seeds: this recipe is a grid of runs; set its field seeds instead")
    if isinstance(config, TrainConfig) and data is not None:
        raise BadRequestError("data: is of image sets, this recipe plays games; leave it out")
    runs = {seed: replace(config, seed=seed) for seed in seeds}
    for seed, one in runs.items():
        check_run(one, folder_of_seed(folder, seed))
    if executor is None:
        trained = _here(runs, folder, data, progress)
    else:
        trained = _elsewhere(runs, folder, data, executor, progress)
    return tuple(SeedRun(seed, trained[seed]) for seed in runs)


def folder_of_seed(folder: Path, seed: int) -> Path:
    """Where the run of a seed lies."""
    return folder / f"seed-{seed}"


def train_seed(
    package: Path, folder: str, token: str, directory: str, data: str | None
) -> dict[str, Any]:
    """Train one run, or resume it; runs on a worker.

    Args:
        package: folder with the recipe.
        folder: of the run.
        token: what the command has written there.
        directory: in which the command works: paths of the recipe, as of teachers, start there.
        data: see :func:`train_seeds`.

    Returns:
        The fields of the result.

    Raises:
        BadFileError: this machine does not see the folder of the command.
    """
    try:
        os.chdir(directory)
        seen = (Path(folder) / TOKEN).read_text(encoding="utf-8")
    except OSError:
        seen = ""
    if seen != token:
        raise BadFileError(
            f"{folder}: its worker does not see this folder; choose one that all machines share"
        )
    config = to_config(json.loads((package / RECIPE).read_text(encoding="utf-8")), "recipe")
    result = train_agent(config, folder, data=data)
    return {**asdict(result), "path": str(result.path)}


def _here(
    runs: dict[int, Any], folder: Path, data: AnyPath | None, progress: ProgressCallback
) -> dict[int, SeedResult]:
    """Train one run after the other."""
    trained = {}
    for number, (seed, config) in enumerate(runs.items(), 1):

        def report(part: Progress, prefix: str = f"seed {seed} ({number} of {len(runs)})") -> None:
            progress(replace(part, stage=f"{prefix}: {part.stage}"))

        trained[seed] = train_agent(
            config, folder_of_seed(folder, seed), data=data, progress=report
        )
    return trained


def _elsewhere(
    runs: dict[int, Any],
    folder: Path,
    data: AnyPath | None,
    executor: str,
    progress: ProgressCallback,
) -> dict[int, SeedResult]:
    """Let workers train."""
    token = os.urandom(16).hex()
    folders = {seed: folder_of_seed(folder, seed) for seed in runs}
    trained: dict[int, SeedResult] = {}
    try:
        for run in folders.values():
            run.mkdir(parents=True, exist_ok=True)
            write_text(run / TOKEN, token)
        jobs = [
            Job(
                f"seed {seed}",
                train_seed,
                {
                    "folder": str(folders[seed]),
                    "token": token,
                    "directory": str(Path.cwd()),
                    "data": None if data is None else str(data),
                },
                _package(config),
            )
            for seed, config in runs.items()
        ]
        with _watched(runs, folders, lambda: len(trained), progress):
            # What a run has reached lies in its folder, so no answer is kept beside it.
            for index, fields in finished_jobs(executor, jobs, keep=False):
                seed = list(runs)[index]
                kind = (
                    TrainingResult if isinstance(runs[seed], TrainConfig) else ImageTrainingResult
                )
                trained[seed] = kind(
                    **{**fields, "path": Path(fields["path"]), "notes": tuple(fields["notes"])}
                )
    finally:
        for run in folders.values():
            (run / TOKEN).unlink(missing_ok=True)
    return trained


def _package(config: TrainConfig | ImageConfig) -> Package:
    """The configuration, with the modules of the user's own that it names."""
    kind = "games" if isinstance(config, TrainConfig) else "images"
    fields = {**config_to_json(config), "kind": kind}
    modules: set[str] = set()
    if isinstance(config, TrainConfig) and current_policy().trust:
        named = [*(one.id for one in config.environments), *config.games]
        modules = {name.partition(":")[0] for name in named if ":" in name}
    return Package({RECIPE: json.dumps(fields).encode()}, tuple(sorted(modules)))


@contextmanager
def _watched(
    runs: dict[int, Any],
    folders: dict[int, Path],
    finished: Callable[[], int],
    progress: ProgressCallback,
) -> Iterator[None]:
    """Report what all runs have reached, by their logs, until the block ends."""
    over = threading.Event()
    games = all(isinstance(config, TrainConfig) for config in runs.values())
    total = sum(one.total_steps if games else one.passes for one in runs.values())
    unit = "decisions" if games else "epochs"

    def report() -> None:
        reached = [reached_of(run) for run in folders.values()]
        detail = f"{finished()} of {len(runs)} seeds finished"
        progress(Progress("training", min(sum(reached), total), total, unit, detail))

    def look() -> None:
        while not over.wait(LOOK_S):
            report()

    report()
    thread = threading.Thread(target=look, name="runs of seeds", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    report()

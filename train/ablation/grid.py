"""What dendrites, a dueling head and spikes each add on images, and what is forgotten.

The grid trains small networks: plain, with active dendrites (AD), with a dueling head (D), with
both (ADD); each spiking and not; on MNIST and CIFAR-10 interleaved, and one after the other; with
several seeds. A class is chosen as an action is: the head learns the value of naming a class, 1 if
right and 0 if wrong (squared error). Under cross-entropy the value stream of a dueling head
cancels, and D would equal plain by design.
"""

from __future__ import annotations

import itertools
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadFileError
from mtspark.core.files import AnyPath, write_json
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.train.config import (
    NETWORKS,
    NEURONS,
    SCHEDULES,
    TASKS,
    AblationSettings,
    Cell,
    grid,
    run_config,
)
from mtspark.train.images import ImageSet, ImageTrainer, accuracy
from mtspark.train.runs import check_same_run

FORMAT = "mtspark-ablation"
VERSION = 1
RESULT_FILE = "ablation.json"
KEPT = "finished runs are kept, the same command goes on with the others"
POINTS_PER_PASS = 4
"""Points of a learning curve for each pass over the images."""


@dataclass(frozen=True)
class AblationResult:
    """All runs of a grid.

    Attributes:
        path: of the result file.
        settings: the budget of every run.
        images: origin of every image set.
        cells: mean and standard deviation over seeds, see :func:`summarise`.
        runs: one entry a run, see :func:`run_cell`.
    """

    path: Path
    settings: AblationSettings
    images: dict[str, str]
    cells: list[dict[str, Any]]
    runs: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The content of ``ablation.json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "settings": asdict(self.settings),
            "tasks": list(TASKS),
            "images": self.images,
            "cells": self.cells,
            "runs": self.runs,
        }


def run_cell(
    cell: Cell, settings: AblationSettings, training: list[ImageSet], test: list[ImageSet]
) -> dict[str, Any]:
    """Train the network of one cell.

    Returns:
        The cell, with its learning curve (accuracy on all tasks at :data:`POINTS_PER_PASS` points
        of every pass) and, after every phase, its accuracy on each task learned so far.
    """
    trainer = ImageTrainer(run_config(cell, settings), training)
    phases: list[dict[str, float]] = []
    curve: list[dict[str, float]] = []
    learned: list[int] = []

    def add_point(share: float) -> None:
        passes = trainer.epoch + share
        if POINTS_PER_PASS * passes < len(curve) + 1:
            return
        trainer.network.eval()
        by_task = {name: accuracy(trainer.network, test[i], i) for i, name in enumerate(TASKS)}
        trainer.network.train()
        curve.append({"passes": passes, **by_task})

    while not trainer.finished:
        phase = trainer.config.phases[trainer.phase]
        trainer.run_epoch(add_point)
        if trainer.epoch % settings.epochs == 0:
            learned += phase
            phases.append({TASKS[i]: accuracy(trainer.network, test[i], i) for i in learned})
    forgotten = None
    if cell.schedule == "sequential":
        forgotten = phases[0][TASKS[0]] - phases[-1][TASKS[0]]
    weights = sum(weight.numel() for weight in trainer.network.parameters())
    return {
        **asdict(cell),
        "parameters": weights,
        "curve": curve,
        "after_phase": phases,
        "accuracy": phases[-1],
        "forgotten": forgotten,
    }


def run_grid(
    folder: AnyPath,
    settings: AblationSettings,
    training: list[ImageSet],
    test: list[ImageSet],
    *,
    progress: ProgressCallback = no_progress,
) -> AblationResult:
    """Run the cells of the grid that `folder` lacks, and write ``ablation.json``.

    Args:
        folder: of the grid; the result of every finished run is kept in it.
        settings: the budget of every run.
        training: an image set for each of :data:`mtspark.train.config.ablation.TASKS`.
        test: likewise; a part of each is used.
        progress: receives the runs.

    Raises:
        BadRequestError: the folder holds a grid of another budget.
        BadFileError: a result in it is damaged.
        KeyboardInterrupt: on Ctrl-C, with a message that says where the grid resumes.
    """
    folder = Path(folder)
    test = [part.subset(settings.test_images, seed=0) for part in test]
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    stored = folder / "settings.json"
    if stored.exists():
        check_same_run(_read_json(stored), settings, folder)
    write_json(stored, asdict(settings))
    rows, cells = [], grid(settings)
    for done, cell in enumerate(cells):
        name = f"{cell.network}, {cell.neurons}, {cell.schedule}, seed {cell.seed}"
        progress(Progress("ablation", done, len(cells), "runs", name))
        path = runs / cell.file_name
        if not path.exists():
            try:
                write_json(path, run_cell(cell, settings, training, test))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(KEPT) from None
        rows.append(_read_json(path))
    progress(Progress("ablation", len(cells), len(cells), "runs"))
    origins = {part.name: part.origin for part in training}
    result = AblationResult(folder / RESULT_FILE, settings, origins, summarise(rows), rows)
    write_json(result.path, result.to_json())
    return result


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds of every cell."""
    cells = []
    for network, neurons, schedule in itertools.product(NETWORKS, NEURONS, SCHEDULES):
        same = [
            row
            for row in rows
            if (row["network"], row["neurons"], row["schedule"]) == (network, neurons, schedule)
        ]
        if not same:
            continue
        columns = {f"{name} accuracy": [row["accuracy"][name] for row in same] for name in TASKS}
        if schedule == "sequential":
            columns["forgotten"] = [row["forgotten"] for row in same]
        cells.append(
            {
                "network": network,
                "neurons": neurons,
                "schedule": schedule,
                "seeds": len(same),
                "parameters": same[0]["parameters"],
                "mean": {name: statistics.fmean(values) for name, values in columns.items()},
                "deviation": {
                    name: statistics.stdev(values) if len(values) > 1 else 0.0
                    for name, values in columns.items()
                },
            }
        )
    return cells


def as_markdown(result: AblationResult) -> str:
    """The grid as a table, in percent: mean and standard deviation over seeds."""
    lines = [
        "| schedule | neurons | network | parameters | MNIST % | CIFAR-10 % | MNIST forgotten % |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    order = sorted(result.cells, key=lambda cell: SCHEDULES.index(cell["schedule"]))
    for cell in order:
        shares = [
            f"{100 * cell['mean'][name]:.1f} ± {100 * cell['deviation'][name]:.1f}"
            if name in cell["mean"]
            else ""
            for name in ("mnist accuracy", "cifar10 accuracy", "forgotten")
        ]
        lines.append(
            f"| {cell['schedule']} | {cell['neurons']} | {cell['network']} | "
            f"{cell['parameters']:,} | " + " | ".join(shares) + " |"
        )
    return "\n".join(lines) + "\n"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: damaged ({error}); remove it to run it again") from error

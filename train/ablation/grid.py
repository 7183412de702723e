"""What dendrites, dueling and spikes each add on images, and what is forgotten.

``mtspark train ablation`` trains small networks: plain, with active dendrites (AD), with a dueling
head (D), with both (ADD); each spiking and not; MNIST and CIFAR-10 interleaved, and one after the
other; several seeds. Classes are chosen as actions are: the head's
outputs are learned as the value of naming a class, 1 if right and 0 if wrong (squared error).
Under cross-entropy the value stream of a dueling head cancels, and D would be plain by design.
"""

from __future__ import annotations

import itertools
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files.atomic import write_json
from mtspark.train.images.data import CLASSES, IMAGE_SHAPE, ImageSet
from mtspark.train.images.trainer import ImageConfig, ImageTrainer, accuracy
from mtspark.train.networks.config import ConvSize, NetworkConfig

TASKS = ("mnist", "cifar10")
NETWORKS = {"plain": (0, False), "AD": (1, False), "D": (0, True), "ADD": (1, True)}
"""Dendritic segments a neuron, and whether the head is dueling."""
NEURONS = {"spiking": "lif", "not spiking": "relu"}
SCHEDULES = ("interleaved", "sequential")
FORMAT = "mtspark-ablation"
LOOKS = 4
"""Points of a learning curve for each pass over the images."""


@dataclass(frozen=True)
class AblationSettings:
    """The budget of every run of the grid.

    Attributes:
        seeds: runs of each cell; seeds are 1, 2, ...
        images: training images of each task, the same in all runs.
        epochs: passes over them; in sequential runs, for each task.
        test_images: of each task, the same in all runs.
        hidden: width of the fully connected layer.
        threads: CPU threads.

    Raises:
        ValueError: a number below 1.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    seeds: int = 3
    images: int = 10_000
    epochs: int = 2
    test_images: int = 2_500
    hidden: int = 128
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse a budget of nothing."""
        for name, value in asdict(self).items():
            if not value >= 1:
                raise ValueError(f"{name} is {value}, must be at least 1")


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    network: str
    neurons: str
    schedule: str
    seed: int

    @property
    def file_name(self) -> str:
        """Where its result is kept."""
        neurons = self.neurons.replace(" ", "-")
        return f"{self.network}_{neurons}_{self.schedule}_{self.seed}.json"


def grid(settings: AblationSettings) -> list[Cell]:
    """All runs, one seed after the other, so that a stopped grid has whole seeds."""
    seeds = range(1, settings.seeds + 1)
    return [
        Cell(network, neurons, schedule, seed)
        for seed, network, neurons, schedule in itertools.product(
            seeds, NETWORKS, NEURONS, SCHEDULES
        )
    ]


def run_config(cell: Cell, settings: AblationSettings) -> ImageConfig:
    """The training run of a cell: all cells differ in nothing else than what they compare."""
    segments, dueling = NETWORKS[cell.network]
    return ImageConfig(
        tasks=TASKS,
        epochs=settings.epochs,
        images_per_epoch=(0,) * len(TASKS),
        train_images=settings.images,
        loss="squared_error",
        schedule=cell.schedule,
        seed=cell.seed,
        threads=settings.threads,
        network=NetworkConfig(
            observation_shape=IMAGE_SHAPE,
            convolutions=(ConvSize(16, 6, 3), ConvSize(32, 3, 2)),
            hidden=settings.hidden,
            actions=CLASSES,
            tasks=len(TASKS),
            dendrite_segments=segments,
            dueling=dueling,
            neuron=NEURONS[cell.neurons],
        ),
    )


def run_cell(
    cell: Cell, settings: AblationSettings, training: list[ImageSet], test: list[ImageSet]
) -> dict[str, Any]:
    """Train one network; its test accuracy on every task seen so far, after every phase.

    And its learning curve: the accuracy on all tasks at each of :data:`LOOKS` of a pass.
    """
    trainer = ImageTrainer(run_config(cell, settings), training)
    phases: list[dict[str, float]] = []
    curve: list[dict[str, float]] = []
    seen: list[int] = []

    def look(share: float) -> None:
        at = trainer.epoch + share
        if LOOKS * at < len(curve) + 1:
            return
        trainer.network.eval()
        named = {name: accuracy(trainer.network, test[i], i) for i, name in enumerate(TASKS)}
        trainer.network.train()
        curve.append({"passes": at, **named})

    while not trainer.finished:
        phase = trainer.config.phases[trainer.phase]
        trainer.run_epoch(look)
        if trainer.epoch % settings.epochs == 0:
            seen += phase
            phases.append({TASKS[i]: accuracy(trainer.network, test[i], i) for i in seen})
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
    folder: Path, settings: AblationSettings, training: list[ImageSet], test: list[ImageSet]
) -> dict[str, Any]:
    """Run what of the grid is not done yet; write ``ablation.json`` and its two pictures.

    Raises:
        BadRequestError: the folder holds a grid of another budget.
        BadFileError: a result in it is damaged.
    """
    from rich.progress import track

    from mtspark.train.ablation.plots import draw, draw_curves

    test = [part.subset(settings.test_images, seed=0) for part in test]
    done_folder = folder / "runs"
    done_folder.mkdir(parents=True, exist_ok=True)
    _check_same_settings(folder / "settings.json", settings)
    rows = []
    for cell in track(grid(settings), description="ablation"):
        path = done_folder / cell.file_name
        if not path.exists():
            write_json(path, run_cell(cell, settings, training, test))
        rows.append(_read_json(path))
    result = {
        "format": FORMAT,
        "version": 1,
        "settings": asdict(settings),
        "tasks": list(TASKS),
        "images": {part.name: part.origin for part in training},
        "cells": summarise(rows),
        "runs": rows,
    }
    write_json(folder / "ablation.json", result)
    draw(result, folder / "ablation.png")
    draw_curves(result, folder / "ablation-curves.png")
    return result


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of every cell of the grid."""
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


def as_markdown(result: dict[str, Any]) -> str:
    """The grid as a table, in percent: mean and standard deviation over seeds."""
    lines = [
        "| schedule | neurons | network | parameters | MNIST % | CIFAR-10 % | MNIST forgotten % |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    order = sorted(result["cells"], key=lambda cell: SCHEDULES.index(cell["schedule"]))
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


def _check_same_settings(path: Path, settings: AblationSettings) -> None:
    if path.exists() and _read_json(path) != asdict(settings):
        raise BadRequestError(f"{path.parent}: holds a grid of another budget; choose another")
    write_json(path, asdict(settings))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: damaged ({error}); remove it to run it again") from error

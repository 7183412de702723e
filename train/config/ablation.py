"""Configuration of the ablation grid: its budget, its cells, and the training run of each cell."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from mtspark.train.config.checks import MOST_IMAGES, MOST_PASSES, MOST_THREADS, check_at_most
from mtspark.train.config.images import CLASSES, IMAGE_SHAPE, ImageConfig
from mtspark.train.networks import ConvSize, NetworkConfig

TASKS = ("mnist", "cifar10")
NETWORKS = {"plain": (0, False), "AD": (1, False), "D": (0, True), "ADD": (1, True)}
"""Dendritic segments a neuron, and whether the head is dueling."""
NEURONS = {"spiking": "lif", "not spiking": "relu"}
SCHEDULES = ("interleaved", "sequential")

LARGEST = {
    "seeds": 1000,
    "images": MOST_IMAGES,
    "epochs": MOST_PASSES,
    "test_images": MOST_IMAGES,
    "threads": MOST_THREADS,
}


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
        ValueError: a number below 1, or above what a run can have.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    seeds: int = 3
    images: int = 10_000
    epochs: int = 2
    test_images: int = 2_500
    hidden: int = 128
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse a budget of nothing, and one without end."""
        for name, value in asdict(self).items():
            if not value >= 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        check_at_most(self, LARGEST)


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

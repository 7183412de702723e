"""Configuration of a training run on image sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from mtspark.core.errors import BadRequestError
from mtspark.train.config.checks import (
    LARGEST_BATCH,
    MOST_IMAGES,
    MOST_PASSES,
    MOST_THREADS,
    check_above_zero,
    check_at_most,
    check_finite,
    check_seed,
)
from mtspark.train.networks import ConvSize, NetworkConfig

IMAGE_SHAPE = (3, 32, 32)
"""Channels, height and width of every image."""
CLASSES = 10
GREY_IMAGES_PER_PASS = 15_000
"""Grey sets are learned from fewer images a pass than CIFAR-10."""


LARGEST = {
    "epochs": MOST_PASSES,
    "images_per_epoch": MOST_IMAGES,
    "train_images": MOST_IMAGES,
    "batch": LARGEST_BATCH,
    "threads": MOST_THREADS,
}


@dataclass(frozen=True)
class ImageConfig:
    """A training run on images.

    Attributes:
        tasks: image sets, in the order of the task context.
        epochs: passes; in a sequential run, for each task.
        images_per_epoch: images of each task in one pass, drawn anew each time; 0: all; no
            entry: all of CIFAR-10's, 15,000 of a grey set's, which is learned from fewer.
        train_images: use only so many training images a task, the same in all passes; 0: all.
        batch: images a step; interleaved batches mix the tasks.
        learning_rate: RAdam's at the start; it falls to 0 along a half cosine, in each phase.
        gradient_norm: gradients are clipped to this norm.
        loss: cross_entropy on the action values, or squared_error against 1 for the right class
            and 0 for the others, which is the value of naming a class if the right one is
            rewarded with 1.
        schedule: interleaved, or sequential: one task after the other.
        seed: of weights, order and augmentation.
        device: cpu or cuda.
        threads: CPU threads.
        bfloat16: products in bfloat16; membranes stay float32.
        compiled: fuse the neurons' steps with torch.compile.
        network: the network; its `tasks` is the number of tasks.
    """

    # An unknown field of a recipe, here or in a table, is an error.
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    tasks: tuple[str, ...] = ("mnist", "cifar10")
    epochs: int = 5
    images_per_epoch: tuple[int, ...] = ()
    train_images: int = 0
    batch: int = 128
    learning_rate: float = 3e-3
    gradient_norm: float = 5.0
    loss: str = "cross_entropy"
    schedule: str = "interleaved"
    seed: int = 1
    device: str = "cpu"
    threads: int = 1
    bfloat16: bool = True
    compiled: bool = False
    network: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(
            observation_shape=IMAGE_SHAPE,
            convolutions=(ConvSize(32, 4, 2), ConvSize(64, 3, 2), ConvSize(64, 3, 1)),
            hidden=256,
            actions=CLASSES,
            tasks=2,
            dueling=False,
        )
    )

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: a number out of range.
        """
        check_finite(self)
        check_seed(self.seed)
        check_above_zero(self, ("learning_rate", "gradient_norm"))
        check_at_most(self, LARGEST)
        for name, counts in (
            ("images_per_epoch", self.images_per_epoch),
            ("train_images", (self.train_images,)),
        ):
            if min(counts, default=0) < 0:
                raise ValueError(f"{name} is {min(counts)}, must be 0 (all of them) or more")
        if self.network.stateful:
            raise ValueError("network.stateful: images are no course of an episode; leave it out")

    @property
    def images_per_pass(self) -> tuple[int, ...]:
        """Images of each task in one pass; 0: all."""
        usual = tuple(0 if name == "cifar10" else GREY_IMAGES_PER_PASS for name in self.tasks)
        return self.images_per_epoch or usual

    @property
    def phases(self) -> tuple[tuple[int, ...], ...]:
        """Which tasks are learned together, phase after phase."""
        everything = tuple(range(len(self.tasks)))
        return (everything,) if self.schedule == "interleaved" else tuple((i,) for i in everything)

    @property
    def passes(self) -> int:
        """Epochs of all phases."""
        return self.epochs * len(self.phases)


def check_image_config(config: ImageConfig) -> None:
    """Check the choices of a run on images.

    Raises:
        BadRequestError: an unknown choice, or numbers that do not fit each other.
    """
    if config.loss not in ("cross_entropy", "squared_error"):
        raise BadRequestError(f"loss {config.loss!r}: choose cross_entropy or squared_error")
    if config.schedule not in ("interleaved", "sequential"):
        raise BadRequestError(f"schedule {config.schedule!r}: choose interleaved or sequential")
    if not config.tasks or len(set(config.tasks)) < len(config.tasks):
        raise BadRequestError(f"tasks {list(config.tasks)}: at least one, each once")
    if len(config.images_per_pass) != len(config.tasks):
        raise BadRequestError(
            f"{len(config.images_per_pass)} numbers of images per epoch for "
            f"{len(config.tasks)} tasks; give one each"
        )
    if config.network.tasks != len(config.tasks):
        raise BadRequestError(
            f"the network has {config.network.tasks} tasks, the run {len(config.tasks)}"
        )
    if config.network.observation_shape != IMAGE_SHAPE or config.network.actions < CLASSES:
        raise BadRequestError(
            f"network.observation_shape {config.network.observation_shape}, network.actions "
            f"{config.network.actions}: images have {IMAGE_SHAPE} and {CLASSES} classes"
        )
    if min(config.epochs, config.batch, config.threads) < 1:
        raise BadRequestError(
            f"{config.epochs} epochs, batches of {config.batch}, {config.threads} threads: "
            "1 or more"
        )

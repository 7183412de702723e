"""One spiking network for several image sets: direct training, task by context signal.

``mtspark train images`` trains the shipped image agent.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.agent import Agent, load_plain, save_agent, save_whole
from mtspark.train.config.checks import check_above_zero, check_finite, check_seed
from mtspark.train.images.data import CLASSES, IMAGE_SHAPE, ImageSet
from mtspark.train.networks.network import ConvSize, MTSparkNetwork, NetworkConfig
from mtspark.train.runs.folder import (
    check_same_run,
    damaged_state,
    interruption_tells,
    prepare_folder,
)
from mtspark.train.runs.setup import prepare_torch

RUN_FORMAT = "mtspark-images"
STATE = ("network", "optimizer", "epoch")
"""What the saved state of a run holds."""
GREY_LOOKS = 15_000
SHIFT = {"cifar10": 4}
"""Largest shift of a training image in pixels; 2 where none is given."""
MIRRORED = ("cifar10", "fashion-mnist")
"""Sets whose training images are mirrored left to right half of the time."""


@dataclass(frozen=True)
class ImageConfig:
    """A training run on images.

    Attributes:
        tasks: image sets, in the order of the task context.
        epochs: passes; in a sequential run, for each task.
        images_per_epoch: images of each task in one pass, drawn anew each time; 0: all; no
            entry: all of CIFAR-10's, 15,000 of the grey sets', which are learned in fewer looks.
        train_images: use only so many training images a task, the same in all passes; 0: all.
        batch: images a step; interleaved batches mix the tasks.
        learning_rate: RAdam's at the start; it falls to 0 along a half cosine, in each phase.
        gradient_norm: gradients are clipped to this norm.
        loss: cross_entropy on the action values, or squared_error against 1 for the right class
            and 0 for the others: the value of naming a class that is rewarded with 1 if right.
        schedule: interleaved, or sequential: one task after the other.
        seed: of weights, order and augmentation.
        device: cpu or cuda.
        threads: CPU threads.
        bfloat16: products in bfloat16; membranes stay float32.
        compiled: fuse the neurons' steps with torch.compile.
        network: the network; its `tasks` is the number of tasks.
    """

    # Of recipes: a field that does not exist, here or in a table, is told.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

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
        """Refuse numbers that nothing can be learned with.

        Raises:
            ValueError: a number out of range.
        """
        check_finite(self)
        check_seed(self.seed)
        check_above_zero(self, ("learning_rate", "gradient_norm"))
        for name, counts in (
            ("images_per_epoch", self.images_per_epoch),
            ("train_images", (self.train_images,)),
        ):
            if min(counts, default=0) < 0:
                raise ValueError(f"{name} is {min(counts)}, must be 0 (all of them) or more")

    @property
    def looks(self) -> tuple[int, ...]:
        """Images of each task in one pass; 0: all."""
        usual = tuple(0 if name == "cifar10" else GREY_LOOKS for name in self.tasks)
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


def check_config(config: ImageConfig) -> None:
    """Check what a run is made of.

    Raises:
        BadRequestError: an unknown choice, or numbers that do not fit each other.
    """
    if config.loss not in ("cross_entropy", "squared_error"):
        raise BadRequestError(f"loss {config.loss!r}: choose cross_entropy or squared_error")
    if config.schedule not in ("interleaved", "sequential"):
        raise BadRequestError(f"schedule {config.schedule!r}: choose interleaved or sequential")
    if not config.tasks or len(set(config.tasks)) < len(config.tasks):
        raise BadRequestError(f"tasks {list(config.tasks)}: at least one, each once")
    if len(config.looks) != len(config.tasks):
        raise BadRequestError(
            f"{len(config.looks)} numbers of images per epoch for {len(config.tasks)} tasks; "
            "give one each"
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


def augment(images: Tensor, set_name: str, generator: torch.Generator) -> Tensor:
    """Shift each image by a few pixels over black, and mirror some: uint8 in and out."""
    reach = SHIFT.get(set_name, 2)
    count, _, height, width = images.shape
    padded = functional.pad(images, (reach,) * 4)
    offsets = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    rows = offsets[0][:, None] + torch.arange(height)
    columns = offsets[1][:, None] + torch.arange(width)
    if set_name in MIRRORED:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def accuracy(network: MTSparkNetwork, images: ImageSet, task: int, batch: int = 500) -> float:
    """Share of a set's images that the float network names rightly."""
    right, device = 0, network.advantage.weight.device
    with torch.no_grad():
        for start in range(0, len(images.labels), batch):
            part = torch.from_numpy(images.images[start : start + batch]).to(device)
            named = network(part, torch.full((len(part),), task, device=device)).argmax(1).cpu()
            right += int((named.numpy() == images.labels[start : start + batch]).sum())
    return right / len(images.labels)


class ImageTrainer:
    """One run: call :meth:`run_epoch` until :attr:`finished`."""

    def __init__(self, config: ImageConfig, training: list[ImageSet]) -> None:
        check_config(config)
        self.device = prepare_torch(config.device, config.seed, config.threads)
        self.config = config
        self.training = [part.subset(config.train_images, seed=0) for part in training]
        self.network = MTSparkNetwork(config.network)
        if config.network.context == "prototype":
            self.network.context.set_prototypes(
                [torch.from_numpy(part.subset(1_000, seed=0).images) for part in self.training]
            )
        for convolution in self.network.convolutions:
            # Module.to(memory_format) is missing from torch's type stubs.
            convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network.compiled = config.compiled
        self.network.to(self.device)
        self.optimizer = torch.optim.RAdam(self.network.parameters(), lr=config.learning_rate)
        self.epoch = 0

    @property
    def finished(self) -> bool:
        """All planned epochs are done."""
        return self.epoch >= self.config.passes

    @property
    def phase(self) -> int:
        """Index of the phase that the next epoch belongs to."""
        return self.epoch // self.config.epochs

    def run_epoch(self, show: Callable[[float], None] | None = None) -> float:
        """Learn for one epoch; return the mean loss.

        All randomness comes from the seed and the epoch's number, so that a resumed run gives
        the weights of an uninterrupted one. `show` is told the share of the epoch that is done.
        """
        config = self.config
        seeds = np.random.SeedSequence([config.seed, self.epoch]).generate_state(2)
        order = np.random.default_rng(seeds[0])
        generator = torch.Generator().manual_seed(int(seeds[1]))
        batches = self._batches(order)
        if self.epoch % config.epochs == 0:
            # Momentum of another phase's task would carry over into this one.
            self.optimizer = torch.optim.RAdam(self.network.parameters(), lr=config.learning_rate)
        losses = []
        self.network.train()
        for number, batch in enumerate(batches):
            done = self.epoch % config.epochs + number / len(batches)
            for group in self.optimizer.param_groups:
                group["lr"] = (
                    config.learning_rate * (1 + math.cos(math.pi * done / config.epochs)) / 2
                )
            losses.append(self._learn(batch, generator))
            if show is not None:
                show((number + 1) / len(batches))
        self.network.eval()
        self.epoch += 1
        return float(torch.stack(losses).mean())

    def _batches(self, order: np.random.Generator) -> list[list[tuple[int, np.ndarray]]]:
        """Batches of an epoch: of each task, the indices of its images."""
        config = self.config
        entries = []
        for task in config.phases[self.phase]:
            count = len(self.training[task].labels)
            wanted = config.looks[task] or count
            picked = order.permutation(count)[:wanted]
            entries.append(np.stack([np.full(len(picked), task), picked], axis=1))
        everything = np.concatenate(entries)
        everything = everything[order.permutation(len(everything))]
        size = min(config.batch, len(everything))
        count = len(everything) // size
        return [
            [(int(task), part[part[:, 0] == task, 1]) for task in np.unique(part[:, 0])]
            for part in np.split(everything[: count * size], count)
        ]

    def _learn(self, batch: list[tuple[int, np.ndarray]], generator: torch.Generator) -> Tensor:
        config = self.config
        images, labels, tasks = [], [], []
        for task, picked in batch:
            source = self.training[task]
            plain = torch.from_numpy(source.images[picked])
            images.append(augment(plain, source.name, generator))
            labels.append(torch.from_numpy(source.labels[picked]))
            tasks.append(torch.full((len(picked),), task))
        answers = torch.cat(labels).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=config.bfloat16):
            values = self.network(
                torch.cat(images).to(self.device), torch.cat(tasks).to(self.device)
            )
        if config.loss == "cross_entropy":
            loss = functional.cross_entropy(values, answers)
        else:
            wanted = functional.one_hot(answers, values.shape[1]).float()
            loss = functional.mse_loss(values, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_norm)
        self.optimizer.step()
        return loss.detach()

    def agent(self) -> Agent:
        """The network as it is now, with its tasks: image sets are tasks without a game."""
        network = MTSparkNetwork(self.config.network)
        network.load_state_dict(self.network.state_dict())
        tasks = tuple(Task(name, "", tuple(range(CLASSES))) for name in self.config.tasks)
        training = {
            "config": asdict(self.config),
            "epochs": self.epoch,
            "images": {part.name: part.origin for part in self.training},
        }
        return Agent(network.eval(), tasks, None, training)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = int(state["epoch"])


def train_images(
    config: ImageConfig, training: list[ImageSet], test: list[ImageSet], folder: Path
) -> Path:
    """Train, or go on with what `folder` holds; returns the path of the agent.

    Writes ``log.jsonl`` (a line an epoch, with test accuracies), TensorBoard's files,
    ``resume.pt`` (every epoch) and, at the end, ``agent.pt``.

    Raises:
        BadRequestError: the folder holds a run with another configuration.
        BadFileError: its checkpoint is damaged.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from tensorboardX import SummaryWriter

    trainer = ImageTrainer(config, training)
    resume, log, agent_path = folder / "resume.pt", folder / "log.jsonl", folder / "agent.pt"
    plain_config = json.loads(json.dumps(asdict(config)))
    if resume.exists():
        saved = load_plain(resume, RUN_FORMAT)
        check_same_run(saved.get("config"), config, folder)
        try:
            trainer.restore(saved["state"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise damaged_state(resume, error) from error
    prepare_folder(folder, "epoch", trainer.epoch)
    columns = (TextColumn("images"), BarColumn(), TextColumn("{task.fields[now]}"))
    board = SummaryWriter(str(folder / "tensorboard"), purge_step=trainer.epoch + 1)
    with (
        Progress(*columns, TimeRemainingColumn()) as bar,
        log.open("a") as lines,
        board,
        interruption_tells("epoch", trainer.epoch) as kept,
    ):
        entry = bar.add_task("epochs", total=config.passes, completed=trainer.epoch, now="")
        while not trainer.finished:
            started, before = time.monotonic(), trainer.epoch

            def show(share: float, before: int = before) -> None:
                bar.update(entry, completed=before + share)

            loss = trainer.run_epoch(show)
            accuracies = {
                part.name: round(accuracy(trainer.network, part, index), 4)
                for index, part in enumerate(test)
            }
            record = {
                "epoch": trainer.epoch,
                "loss": round(loss, 5),
                "test_accuracy": accuracies,
                "seconds": round(time.monotonic() - started, 1),
            }
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            board.add_scalar("training/loss", loss, trainer.epoch)
            for name, share in accuracies.items():
                board.add_scalar(f"test accuracy/{name}", share, trainer.epoch)
            now = "  ".join(f"{name} {share:.1%}" for name, share in accuracies.items())
            bar.update(entry, completed=trainer.epoch, now=now)
            save_whole(
                {"format": RUN_FORMAT, "config": plain_config, "state": trainer.state()}, resume
            )
            kept.reached = trainer.epoch
    save_agent(trainer.agent(), agent_path)
    return agent_path

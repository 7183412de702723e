"""One spiking network learns several image sets; the context signal names the task."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtspark.core.arrays import Integers
from mtspark.core.environments import Task
from mtspark.train.checkpoint import Agent
from mtspark.train.config import CLASSES, ImageConfig, check_image_config, config_to_json
from mtspark.train.images.data import ImageSet
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.runs import check_finite, descend, prepare_network, prepare_torch

SHIFT = {"cifar10": 4}
"""Largest shift of a training image in pixels; 2 where none is given."""
MIRRORED = ("cifar10", "fashion-mnist")
"""Sets whose training images are mirrored left to right half of the time."""


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
    samples = torch.arange(count)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def accuracy(network: MTSparkNetwork, images: ImageSet, task: int, batch: int = 500) -> float:
    """Accuracy of the float network on a set: the share of images that it classifies correctly."""
    right, device = 0, network.advantage.weight.device
    with torch.no_grad():
        for start in range(0, len(images.labels), batch):
            part = torch.from_numpy(images.images[start : start + batch]).to(device)
            tasks = torch.full((len(part),), task, device=device)
            classes = network(part, tasks).argmax(1).cpu()
            right += int((classes.numpy() == images.labels[start : start + batch]).sum())
    return right / len(images.labels)


class ImageTrainer:
    """One run: call :meth:`run_epoch` until :attr:`finished`."""

    def __init__(self, config: ImageConfig, training: list[ImageSet]) -> None:
        check_image_config(config)
        self.device = prepare_torch(config.device, config.seed, config.threads)
        self.config = config
        self.training = [part.subset(config.train_images, seed=0) for part in training]
        self.network = MTSparkNetwork(config.network)
        if config.network.context == "prototype":
            self.network.context.set_prototypes(
                [torch.from_numpy(part.subset(1_000, seed=0).images) for part in self.training]
            )
        prepare_network(self.network, self.device, compiled=config.compiled)
        self.optimizer = torch.optim.RAdam(self.network.parameters(), lr=config.learning_rate)
        self.epoch = 0
        self._batches_done = 0
        self._losses: list[Tensor] = []
        self._generator = torch.Generator()

    @property
    def finished(self) -> bool:
        """Whether all planned epochs are done."""
        return self.epoch >= self.config.passes

    @property
    def phase(self) -> int:
        """Index of the phase that the next epoch belongs to."""
        return self.epoch // self.config.epochs

    def run_epoch(self, on_batch: Callable[[float], None] | None = None) -> float:
        """Learn for one epoch, or the rest of one, and return the mean loss.

        All randomness comes from the seed and the epoch's number, so that a resumed run gives
        the weights of an uninterrupted one. `on_batch` is called after every batch with the share
        of the epoch that is done; :meth:`state` may be taken in it, and it may raise.
        """
        config = self.config
        seeds = np.random.SeedSequence([config.seed, self.epoch]).generate_state(2)
        batches = self._batches(np.random.default_rng(seeds[0]))
        if not self._batches_done:
            self._losses = []
            self._generator.manual_seed(int(seeds[1]))
            if self.epoch % config.epochs == 0:
                # Momentum of another phase's task would carry over into this one.
                self.optimizer = torch.optim.RAdam(
                    self.network.parameters(), lr=config.learning_rate
                )
        self.network.train()
        while self._batches_done < len(batches):
            done = self.epoch % config.epochs + self._batches_done / len(batches)
            for group in self.optimizer.param_groups:
                group["lr"] = (
                    config.learning_rate * (1 + math.cos(math.pi * done / config.epochs)) / 2
                )
            self._losses.append(self._learn(batches[self._batches_done], self._generator))
            self._batches_done += 1
            if on_batch is not None:
                on_batch(self._batches_done / len(batches))
        self.network.eval()
        self.epoch += 1
        self._batches_done = 0
        return float(torch.stack(self._losses).mean())

    def _batches(self, order: np.random.Generator) -> list[list[tuple[int, Integers]]]:
        """Batches of an epoch, each as pairs of a task and the indices of its images."""
        config = self.config
        entries = []
        for task in config.phases[self.phase]:
            count = len(self.training[task].labels)
            wanted = config.images_per_pass[task] or count
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

    def _learn(self, batch: list[tuple[int, Integers]], generator: torch.Generator) -> Tensor:
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
        descend(self.network, self.optimizer, loss, config.gradient_norm)
        return loss.detach()

    def agent(self) -> Agent:
        """The agent as it is now; image sets are tasks without a game."""
        network = MTSparkNetwork(self.config.network)
        network.load_state_dict(self.network.state_dict())
        tasks = tuple(Task(name, "", tuple(range(CLASSES))) for name in self.config.tasks)
        training = {
            "config": config_to_json(self.config),
            "epochs": self.epoch,
            "images": {part.name: part.origin for part in self.training},
        }
        return Agent(network.eval(), tasks, None, training)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        partial = {
            "batches": self._batches_done,
            "losses": [float(loss) for loss in self._losses],
            "generator": self._generator.get_state(),
        }
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            # Of an epoch that is under way.
            **(partial if self._batches_done else {}),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from :meth:`state`."""
        check_finite(state["network"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = int(state["epoch"])
        self._batches_done = int(state.get("batches", 0))
        if self._batches_done:
            self._losses = [torch.tensor(loss, device=self.device) for loss in state["losses"]]
            self._generator.set_state(state["generator"])

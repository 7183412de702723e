"""Accuracy on the test images of a set: float network and chip."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import AgentBackend, greedy_actions
from mtspark.core.chip_network import check_forgets
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.sim.verdict import Cost, Costing
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.evaluate.rows import ImageRow

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.energy import PriceCard
    from mtspark.train.checkpoint import Agent
    from mtspark.train.images import ImageSet

BATCH = 100


def image_rows(
    bundle: Bundle,
    task: str,
    data: AnyPath | None,
    images: int,
    quantisation: Mapping[str, str | None],
    card: PriceCard,
    progress: ProgressCallback = no_progress,
) -> tuple[list[ImageRow], Cost]:
    """Name the test images of a set with the float network and with the chip.

    Args:
        bundle: of an agent whose task is an image set.
        task: its name, which is the set's.
        data: folder with the images; None downloads them.
        images: how many of the test images, chosen at random but always the same ones; 0: all.
        quantisation: goes into every row.
        card: prices of the mean image.
        progress: called before every batch.

    Returns:
        A row of each, and what an image costs on the chip.

    Raises:
        BadRequestError: no image set has that name, or it cannot be had.
        BadFileError: its files are missing or damaged.
    """
    network = bundle.network
    row = network.task_index(task)
    check_forgets(network, "images are no course of an episode")
    test = load_test_images(task, data, images, network.input.shape)
    legal = network.tasks[row].legal_actions or tuple(range(network.readout.scale.size))
    costing = Costing(network)
    named = {}
    with open_backend(BackendName.TORCH, bundle, task, all_neurons=True) as backend:
        named["torch"] = _answers(backend, test, row, legal, progress)
    with open_backend(BackendName.ENGINE, bundle, task) as backend:
        named["engine"] = _answers(backend, test, row, legal, progress, costing)
    on_torch, on_chip = (
        replace(_row(test, task, name, actions, bundle.network_hash), quantisation=quantisation)
        for name, actions in named.items()
    )
    agreement = float((named["torch"] == named["engine"]).mean())
    compared = len(test.labels)
    on_chip = replace(on_chip, action_agreement=agreement, decisions_compared=compared)
    return [on_torch, on_chip], costing.cost(card)


def float_image_row(
    agent: Agent,
    row: int,
    data: AnyPath | None,
    images: int,
    sha256: str,
    progress: ProgressCallback = no_progress,
) -> ImageRow:
    """As :func:`image_rows`, of an agent's float network alone; `sha256` names its file."""
    from mtspark.train.backend import TorchBackend

    task, config = agent.tasks[row], agent.network.config
    test = load_test_images(task.name, data, images, config.observation_shape)
    legal = task.legal_actions or tuple(range(config.actions))
    with closing(TorchBackend(agent)) as backend:
        named = _answers(backend, test, row, legal, progress)
    return _row(test, task.name, TorchBackend.name, named, sha256)


def load_test_images(
    task: str, data: AnyPath | None, images: int, shape: tuple[int, ...]
) -> ImageSet:
    """Load the test images of a task, chosen at random but always the same ones.

    Args:
        task: its name, which is the set's.
        data: folder with the images; None downloads them.
        images: how many; 0: all.
        shape: that the network takes.

    Raises:
        BadRequestError: no image set has that name, it cannot be had, or its images have another
            shape.
        BadFileError: its files are missing or damaged.
    """
    from pathlib import Path

    from mtspark.train.images import OPENML, load_images

    if task not in OPENML:
        raise BadRequestError(
            f"task {task!r} is neither a game nor an image set ({', '.join(OPENML)}); its inputs "
            "are not known here; score it on your own: mtspark eval BUNDLE --data x.npy --labels "
            "y.npy"
        )
    folder = None if data is None else Path(data)
    test = load_images(task, "test", folder).subset(images, seed=0)
    if test.images.shape[1:] != shape:
        raise BadRequestError(
            f"{task}: images of {test.images.shape[1:]}, the network takes {shape}"
        )
    return test


def _answers(
    backend: AgentBackend,
    test: ImageSet,
    row: int,
    legal: tuple[int, ...],
    progress: ProgressCallback,
    costing: Costing | None = None,
) -> NDArray[np.int64]:
    parts, count, stage = [], len(test.labels), f"{test.name}, {backend.name}"
    for start in range(0, count, BATCH):
        progress(Progress(stage, start, count, "images"))
        images = test.images[start : start + BATCH]
        # Images are no course of a game: each is sent whole.
        backend.start(len(images))
        decision = backend.decide(images, row)
        if costing is not None:
            costing.add(decision, images, None)
        parts.append(greedy_actions(decision.values, legal))
    progress(Progress(stage, count, count, "images"))
    return np.concatenate(parts)


def _row(
    test: ImageSet, task: str, backend: str, answers: NDArray[np.int64], sha256: str
) -> ImageRow:
    right = int((answers == test.labels).sum())
    return ImageRow(task, backend, sha256, test.origin, len(test.labels), right)

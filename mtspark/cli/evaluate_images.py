"""``mtspark eval`` for tasks that are image sets: accuracy of the float network and the chip."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli._console import console
from mtspark.workflows.backends import BackendName, open_backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.core.backend import AgentBackend
    from mtspark.deploy.bundle import Bundle
    from mtspark.train.checkpoint.agent import Agent
    from mtspark.train.images.data import ImageSet

BATCH = 100


def image_rows(
    bundle: Bundle, task: str, data: Path | None, images: int, quantisation: dict[str, Any]
) -> list[dict[str, Any]]:
    """Name the test images of a set with the float network and with the chip.

    Args:
        bundle: of an agent whose task is an image set.
        task: its name, which is the set's.
        data: folder with the images; None downloads them.
        images: how many of the test images, chosen at random but always the same ones; 0: all.
        quantisation: goes into every row.

    Raises:
        BadRequestError: no image set has that name, or it cannot be had.
        BadFileError: its files are missing or damaged.
    """
    network = bundle.network
    row = network.task_index(task)
    test = _test_images(task, data, images, network.input.shape)
    legal = network.tasks[row].legal_actions or tuple(range(network.readout.scale.size))
    named = {}
    for name in (BackendName.TORCH, BackendName.ENGINE):
        with open_backend(name, bundle, task) as backend:
            named[name.value] = _answers(backend, test, row, legal)
    rows = [
        {**_row(test, task, name, answers, bundle.network_hash), **quantisation}
        for name, answers in named.items()
    ]
    agreement = float((named["torch"] == named["engine"]).mean())
    rows[1].update(action_agreement=agreement, decisions_compared=len(test.labels))
    return rows


def float_image_row(
    agent: Agent, row: int, data: Path | None, images: int, sha256: str
) -> dict[str, Any]:
    """As :func:`image_rows`, of an agent's float network alone; `sha256` names its file."""
    from mtspark.train.backend import TorchBackend

    task, config = agent.tasks[row], agent.network.config
    test = _test_images(task.name, data, images, config.observation_shape)
    legal = task.legal_actions or tuple(range(config.actions))
    with closing(TorchBackend(agent)) as backend:
        answers = _answers(backend, test, row, legal)
    return _row(test, task.name, TorchBackend.name, answers, sha256)


def _test_images(task: str, data: Path | None, images: int, shape: tuple[int, ...]) -> ImageSet:
    from mtspark.core.errors import BadRequestError
    from mtspark.train.images.data import OPENML, load_images

    if task not in OPENML:
        raise BadRequestError(
            f"task {task!r} is neither a game nor an image set ({', '.join(OPENML)}); its inputs "
            "are not known here"
        )
    test = load_images(task, "test", data).subset(images, seed=0)
    if test.images.shape[1:] != shape:
        raise BadRequestError(
            f"{task}: images of {test.images.shape[1:]}, the network takes {shape}"
        )
    return test


def _answers(
    backend: AgentBackend, test: ImageSet, row: int, legal: tuple[int, ...]
) -> NDArray[np.int64]:
    import numpy as np
    from rich.progress import track

    from mtspark.core.backend import greedy_actions

    starts = range(0, len(test.labels), BATCH)
    title = f"{test.name}, {backend.name}"
    return np.concatenate(
        [
            greedy_actions(backend.decide(test.images[start : start + BATCH], row).values, legal)
            for start in track(starts, description=title, console=console, transient=True)
        ]
    )


def _row(
    test: ImageSet, task: str, backend: str, answers: NDArray[np.int64], sha256: str
) -> dict[str, Any]:
    right = int((answers == test.labels).sum())
    return {
        "task": task,
        "backend": backend,
        "network_sha256": sha256,
        "origin": test.origin,
        "images": len(test.labels),
        "right": right,
        "accuracy": right / len(test.labels),
        "interval_95": list(wilson_interval(right, len(test.labels))),
        "action_agreement": None,
        "decisions_compared": None,
    }


def wilson_interval(right: int, asked: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = 1.959964
    share = right / asked
    centre = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * math.sqrt(share * (1 - share) / asked + (z / (2 * asked)) ** 2)
    return centre - half, centre + half

"""``mtspark eval`` for tasks that are image sets: accuracy of the float network and the chip."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli.common import BackendName, console, open_backend

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle

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
    import numpy as np
    from rich.progress import track

    from mtspark.core.agent import greedy_actions
    from mtspark.core.errors import BadRequestError
    from mtspark.train.images_data import OPENML, load_images

    network = bundle.network
    if task not in OPENML:
        raise BadRequestError(
            f"task {task!r} is neither a game nor an image set ({', '.join(OPENML)}); its inputs "
            "are not known here"
        )
    test = load_images(task, "test", data).subset(images, seed=0)
    if test.images.shape[1:] != network.input.shape:
        raise BadRequestError(
            f"{task}: images of {test.images.shape[1:]}, the network takes {network.input.shape}"
        )
    row = network.task_index(task)
    legal = network.tasks[row].legal_actions or tuple(range(network.readout.scale.size))
    named: dict[str, Any] = {}
    for name in (BackendName.TORCH, BackendName.ENGINE):
        with open_backend(name, bundle, task) as backend:
            starts = range(0, len(test.labels), BATCH)
            title = f"{task}, {name.value}"
            named[name.value] = np.concatenate(
                [
                    greedy_actions(
                        backend.decide(test.images[start : start + BATCH], row).values, legal
                    )
                    for start in track(starts, description=title, console=console, transient=True)
                ]
            )
    agreement = float((named["torch"] == named["engine"]).mean())
    rows = []
    for backend_name, answers in named.items():
        right = int((answers == test.labels).sum())
        chip = backend_name == "engine"
        rows.append(
            {
                "task": task,
                "backend": backend_name,
                "network_sha256": bundle.network_hash,
                **quantisation,
                "origin": test.origin,
                "images": len(test.labels),
                "right": right,
                "accuracy": right / len(test.labels),
                "interval_95": list(wilson_interval(right, len(test.labels))),
                "action_agreement": agreement if chip else None,
                "decisions_compared": len(test.labels) if chip else None,
            }
        )
    return rows


def wilson_interval(right: int, asked: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    z = 1.959964
    share = right / asked
    centre = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z / (1 + z * z / asked) * math.sqrt(share * (1 - share) / asked + (z / (2 * asked)) ** 2)
    return centre - half, centre + half


def print_image_rows(name: str, rows: list[dict[str, Any]]) -> None:
    """Show accuracies and how often float network and chip agree."""
    from rich.table import Table

    table = Table(title=f"{name}: test accuracy")
    for column in ("task", "who", "accuracy", "95 %", "images", "agree", "images from"):
        left = column in ("task", "who", "images from")
        table.add_column(column, justify="left" if left else "right")
    for row in rows:
        low, high = row["interval_95"]
        agreement = row["action_agreement"]
        table.add_row(
            row["task"],
            "float (torch)" if row["backend"] == "torch" else "chip (integers)",
            f"{row['accuracy']:.2%}",
            f"{low:.1%} to {high:.1%}",
            str(row["images"]),
            "" if agreement is None else f"{agreement:.2%}",
            row["origin"],
        )
    console.print(table)

"""Figures of the ablation grid: final accuracies and learning curves."""

from __future__ import annotations

import io
import itertools
import statistics
from typing import TYPE_CHECKING

from mtspark.core.files import AnyPath, write_bytes
from mtspark.train.ablation.grid import AblationResult
from mtspark.train.config import NETWORKS, NEURONS, SCHEDULES, TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(result: AblationResult, path: AnyPath) -> None:
    """Draw the mean test accuracy of every cell as a bar, with a dot for every seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(SCHEDULES), len(TASKS), figsize=(9, 6), sharex=True, layout="constrained"
    )
    for axis, (schedule, task) in zip(axes.flat, itertools.product(SCHEDULES, TASKS), strict=True):
        for number, neurons in enumerate(NEURONS):
            for place, network in enumerate(NETWORKS):
                values = [
                    100 * row["accuracy"][task]
                    for row in result.runs
                    if (row["network"], row["neurons"], row["schedule"])
                    == (network, neurons, schedule)
                ]
                if not values:
                    continue
                position = place + 0.4 * number - 0.2
                axis.bar(
                    position,
                    statistics.fmean(values),
                    width=0.36,
                    color=f"C{number}",
                    label=neurons if place == 0 else None,
                )
                axis.plot([position] * len(values), values, "k.", markersize=4)
        axis.set_title(f"{task}, {schedule}")
        axis.set_ylabel("test accuracy (%)")
        axis.set_xticks(range(len(NETWORKS)), list(NETWORKS))
    axes.flat[0].legend()
    _save(figure, path)


def draw_curves(result: AblationResult, path: AnyPath) -> None:
    """Draw the test accuracy over the passes: a line for the mean over the seeds of every cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(SCHEDULES), len(TASKS), figsize=(9, 6), sharex="row", layout="constrained"
    )
    for axis, (schedule, task) in zip(axes.flat, itertools.product(SCHEDULES, TASKS), strict=True):
        for (place, network), (line, neurons) in itertools.product(
            enumerate(NETWORKS), zip(("-", ":"), NEURONS, strict=True)
        ):
            curves = [
                row["curve"]
                for row in result.runs
                if (row["network"], row["neurons"], row["schedule"]) == (network, neurons, schedule)
            ]
            if not curves:
                continue
            points = list(zip(*curves, strict=True))
            axis.plot(
                [point[0]["passes"] for point in points],
                [100 * statistics.fmean(entry[task] for entry in point) for point in points],
                line,
                color=f"C{place}",
                label=f"{network}, {neurons}",
            )
        axis.set_title(f"{task}, {schedule}")
        axis.set_xlabel("passes")
        axis.set_ylabel("test accuracy (%)")
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize="small", ncols=2)
    _save(figure, path)


def _save(figure: Figure, path: AnyPath) -> None:
    from matplotlib import pyplot

    # In memory: of a full disk Pillow says no more than that it failed.
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_bytes(path, buffer.getvalue())
    pyplot.close(figure)

"""The picture of a comparison: means with intervals, courses, dormant neurons and rank."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from mtspark.workflows.compare.result import MethodScores, RunComparison

DPI = 120


def draw(comparison: RunComparison) -> bytes:
    """Draw a comparison as PNG; panels of what was not measured are left out."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [_means]
    if any(method.curve for method in comparison.methods):
        panels.append(_courses)
    for name, title in (("dormant_ratio", "dormant neurons"), ("effective_rank", "effective rank")):
        if any(
            getattr(point, name) is not None for one in comparison.methods for point in one.curve
        ):
            panels.append(_measure(name, title))
    # Names of folders may have dollars in them.
    with mpl.rc_context({"text.parse_math": False}):
        columns = min(2, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(5.0 * columns, 3.4 * rows), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            panel(axis, comparison)
        for axis in axes[len(panels) :]:
            axis.remove()
        # In memory: of a full disk Pillow says no more than that it failed.
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _means(axis: Any, comparison: RunComparison) -> None:
    """Interquartile means with their intervals, and a dot for each seed's mean over tasks."""
    for place, method in enumerate(comparison.methods):
        colour = f"C{place}"
        seeds = np.array(list(method.scores.values())).mean(0)
        axis.plot(seeds, np.full(len(seeds), place), ".", color=colour, alpha=0.5)
        if method.interval is not None:
            axis.plot(method.interval, (place, place), "-", color=colour, linewidth=3, alpha=0.6)
        axis.plot(method.iqm, place, "D", color=colour)
    axis.set_yticks(range(len(comparison.methods)), [one.name for one in comparison.methods])
    axis.invert_yaxis()
    axis.set_xlabel(f"IQM of {comparison.kind}, 95 % interval; dots: seeds")
    axis.grid(axis="x", alpha=0.3)


def _courses(axis: Any, comparison: RunComparison) -> None:
    """Interquartile means over training, with their intervals."""
    for place, method in enumerate(comparison.methods):
        steps = [point.steps for point in method.curve]
        axis.plot(
            steps, [point.iqm for point in method.curve], color=f"C{place}", label=method.name
        )
        if all(point.interval is not None for point in method.curve):
            ends = [point.interval or (0.0, 0.0) for point in method.curve]
            low, high = [end[0] for end in ends], [end[1] for end in ends]
            axis.fill_between(steps, low, high, color=f"C{place}", alpha=0.15, linewidth=0)
    _over_decisions(axis)
    axis.set_ylabel(f"IQM of {comparison.kind}")
    axis.legend(fontsize="small")
    axis.grid(alpha=0.3)


def _over_decisions(axis: Any) -> None:
    """Label the horizontal axis; whole numbers of a million decisions would run into another."""
    from matplotlib.ticker import EngFormatter

    axis.set_xlabel("decisions")
    axis.xaxis.set_major_formatter(EngFormatter())


def _measure(name: str, title: str) -> Any:
    """Make the panel of a measure over training, its mean over seeds."""

    def panel(axis: Any, comparison: RunComparison) -> None:
        for place, method in enumerate(comparison.methods):
            known = _known(method, name)
            axis.plot(*known, color=f"C{place}", label=method.name)
        _over_decisions(axis)
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)

    return panel


def _known(method: MethodScores, name: str) -> tuple[list[int], list[float]]:
    pairs = [(point.steps, getattr(point, name)) for point in method.curve]
    known = [(steps, value) for steps, value in pairs if value is not None]
    return [steps for steps, _ in known], [value for _, value in known]

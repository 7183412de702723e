"""The picture of the benchmark's sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

STYLES = {
    "engine": "o-",
    "by message": "x--",
    "by window": "+--",
    "engine, 2 threads": "s--",
    "NumPy": "^-",
    "snntorch": "v-",
    "ONNX Runtime": "d-",
}
COLORS = {name: f"C{number}" for number, name in enumerate(STYLES)}
"""A contender has the same one in every panel."""


def draw(results: dict[str, Any], file: Path) -> None:
    """Four panels: activity, batch, size, and time against operations with its line."""
    sweeps = results["sweeps"]
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7.5), constrained_layout=True)
    panels = (
        ("activity", "active neurons and pixels, %", lambda key, row: float(key) * 100),
        ("batch", "samples at once", lambda key, row: float(key)),
        ("size", "neurons", lambda key, row: row["neurons"]),
    )
    for axis, (sweep, label, place) in zip(axes.flat, panels, strict=False):
        rows = sweeps[sweep].items()
        names = [name for name, value in next(iter(rows))[1].items() if isinstance(value, dict)]
        for name in names:
            across = [place(key, row) for key, row in rows]
            times = [row[name] for _, row in rows]
            medians, color = [t["median"] * 1e3 for t in times], COLORS[name]
            axis.plot(across, medians, STYLES[name], color=color, label=name)
            lows, highs = ([t[key] * 1e3 for t in times] for key in ("min", "max"))
            axis.fill_between(across, lows, highs, color=color, alpha=0.15)
        axis.set(xlabel=label, ylabel="µs a step and sample", xscale="log", yscale="log")
        axis.set_xticks(across, [f"{value:,.0f}" for value in across])
        axis.set_xticks([], minor=True)
        axis.legend(fontsize=8)
    axis = axes.flat[3]
    rows = sweeps["activity"].values()
    operations = [row["operations"] / 1e6 for row in rows]
    for name in ("by message", "by window"):
        fit = results["linear"][f"activity, Nature DQN, {name}"]
        measured = [row[name]["median"] * 1e3 for row in rows]
        axis.plot(operations, measured, "o", color=COLORS[name], label=name)
        fixed, slope = fit["microseconds_fixed"], fit["nanoseconds_an_operation"]
        line = [fixed + slope * o * 1e3 for o in operations]
        label = f"line, R² = {fit['r2']:.4f}"
        axis.plot(operations, line, "-", color=COLORS[name], label=label)
    axis.set(xlabel="synaptic operations walked a step, millions", ylabel="µs a step")
    axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)

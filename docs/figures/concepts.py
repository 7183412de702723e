"""Draw the way of a network: ``python docs/figures/concepts.py docs/concepts.svg``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

STATIONS = (
    ("float", "snntorch, NIR, netx\nweights and membranes\nin floating point", "#f4dfe9"),
    ("integers", "8-bit weights,\nthresholds, exponents;\nno sum can overflow", "#e6e0f3"),
    ("chip", "simulated step by step,\nevery spike and\nmembrane counted", "#fbe9d7"),
    ("game or data", "Atari, Gymnasium,\nyour own samples:\nscore or accuracy", "#e3f1df"),
    ("bill", "counts times prices:\nenergy, time, cores", "#f5f0cf"),
)
STEPS = (
    ("export", "rounds;\ncompared"),
    ("run, diff", "bit-exact"),
    ("eval, hil", "bit-exact"),
    ("report, map", "estimate"),
)
"""Between two stations: the commands, and how sure the step is."""
WIDTH, HEIGHT, GAP = 2.1, 1.5, 1.15


def draw(path: Path) -> None:
    """Write the picture."""
    matplotlib.rcParams["svg.hashsalt"] = "mtspark"
    whole = len(STATIONS) * WIDTH + len(STEPS) * GAP
    figure = pyplot.figure(figsize=(whole * 0.75, 2.3))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.1, whole + 0.1), ylim=(-0.65, HEIGHT + 0.75))
    axes.axis("off")
    for number, (title, text, colour) in enumerate(STATIONS):
        left = number * (WIDTH + GAP)
        axes.add_patch(
            FancyBboxPatch((left, 0), WIDTH, HEIGHT, "round,pad=0.04", fc=colour, ec="#777777")
        )
        middle = left + WIDTH / 2
        axes.text(middle, HEIGHT - 0.22, title, ha="center", va="center", size=12, weight="bold")
        axes.text(middle, HEIGHT / 2 - 0.2, text, ha="center", va="center", size=8)
    for number, (commands, kind) in enumerate(STEPS):
        start = number * (WIDTH + GAP) + WIDTH + 0.08
        axes.add_patch(
            FancyArrowPatch(
                (start, HEIGHT / 2),
                (start + GAP - 0.16, HEIGHT / 2),
                arrowstyle="-|>",
                mutation_scale=14,
                color="#444444",
            )
        )
        middle = start + GAP / 2 - 0.08
        axes.text(middle, HEIGHT / 2 + 0.22, commands, ha="center", size=8, family="monospace")
        axes.text(middle, HEIGHT / 2 - 0.5, kind, ha="center", size=8, style="italic")
    matplotlib.rcParams["svg.fonttype"] = "none"
    figure.patch.set_facecolor("white")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))

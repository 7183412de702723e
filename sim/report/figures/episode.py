"""Pictures of an episode and of a chip for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtspark.deploy.mapping.mapper import ChipMapping
from mtspark.sim.report.style import INK, MUTED, RULE, new_figure, plain, svg


def episode_curves(curve: dict[str, Any], fires: Sequence[str], shades: dict[str, str]) -> str:
    """Spikes a decision of each population over the first episode."""
    figure = new_figure(11.2, 0.82 * len(fires) + 0.5)
    axes = np.atleast_1d(figure.subplots(len(fires), 1, sharex=True))
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.085, right=0.9, top=1 - 0.08 / height, bottom=0.45 / height, hspace=0.18
    )
    for axis, name in zip(axes, fires, strict=True):
        spikes = curve["spikes"][name]
        axis.fill_between(curve["decision"], spikes, color=shades[name], alpha=0.28, linewidth=0)
        axis.plot(curve["decision"], spikes, color=shades[name], linewidth=1.6)
        # A game begins with frames that no other is like; they must not flatten the rest.
        top = max(max(spikes[1:], default=spikes[0]), 1e-9)
        axis.set_ylim(0, top * 1.15)
        axis.set_xlim(curve["decision"][0], curve["decision"][-1] or 1)
        axis.set_yticks([0, top], ["0", f"{top:,.0f}"])
        axis.text(
            -0.045,
            0.5,
            name,
            transform=axis.transAxes,
            ha="right",
            va="center",
            fontsize=10,
            weight="bold",
            parse_math=False,
        )
        change = curve["last_quarter_over_first"][name]
        if change is not None:
            axis.text(
                1.012,
                0.5,
                f"{round(100 * (change - 1)):+d} %",
                transform=axis.transAxes,
                va="center",
                fontsize=10,
                color=MUTED,
                parse_math=False,
            )
        plain(axis)
    axes[-1].set_xlabel(
        "decision, the first of which may reach above the axis; at the right: last quarter over "
        "first"
    )
    return svg(figure, "episode")


def chip_picture(
    mapping: ChipMapping, columns: int, rows: int, shades: dict[str, str], name: str
) -> str:
    """Cores of the chips by the population that they hold; darker where memory is fuller."""
    from matplotlib.patches import Rectangle

    shades = {**shades, "input": "#b9b4a8"}
    per_router = 1 + max(core.place for core in mapping.cores)
    across = int(np.ceil(np.sqrt(per_router)))
    shown = min(mapping.chips, 4)
    figure = new_figure(min(11.2, 5.4 * shown), 5.4 * rows / columns + 0.2)
    axes = np.atleast_1d(figure.subplots(1, shown))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.98, bottom=0.02, wspace=0.05)
    for number, axis in enumerate(axes):
        for column in range(columns):
            for row in range(rows):
                axis.add_patch(
                    Rectangle(
                        (column + 0.06, row + 0.06),
                        0.88,
                        0.88,
                        facecolor="none",
                        edgecolor=RULE,
                        linewidth=0.8,
                    )
                )
        for core in mapping.cores:
            if core.chip != number:
                continue
            side = 0.8 / across
            x = core.column + 0.1 + (core.place % across) * side
            y = core.row + 0.1 + (core.place // across) * side
            axis.add_patch(
                Rectangle(
                    (x, y),
                    side * 0.9,
                    side * 0.9,
                    facecolor=shades.get(core.population, INK),
                    linewidth=0,
                )
            )
        axis.set_xlim(0, columns)
        axis.set_ylim(rows, 0)
        axis.set_aspect("equal")
        axis.set_axis_off()
    return svg(figure, name)

"""The figure of the report about the first episode: spikes over its time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtspark.sim.report.data import EpisodeCurve
from mtspark.sim.report.style import MUTED, new_figure, plain, svg


def episode_curves(curve: EpisodeCurve, fires: Sequence[str], shades: dict[str, str]) -> str:
    """Draw spikes a decision of each population over the first episode.

    Args:
        curve: of the episode.
        fires: populations that are drawn, top down.
        shades: colour by population.

    Returns:
        An SVG element.
    """
    figure = new_figure(11.2, 0.82 * len(fires) + 0.5)
    axes = np.atleast_1d(figure.subplots(len(fires), 1, sharex=True))
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.085, right=0.9, top=1 - 0.08 / height, bottom=0.45 / height, hspace=0.18
    )
    for axis, name in zip(axes, fires, strict=True):
        spikes = curve.spikes[name]
        axis.fill_between(curve.decision, spikes, color=shades[name], alpha=0.28, linewidth=0)
        axis.plot(curve.decision, spikes, color=shades[name], linewidth=1.6)
        # A game begins with frames that no other is like; they must not flatten the rest.
        top = max(max(spikes[1:], default=spikes[0]), 1e-9)
        axis.set_ylim(0, top * 1.15)
        axis.set_xlim(curve.decision[0], curve.decision[-1] or 1)
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
        change = curve.last_quarter_over_first[name]
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

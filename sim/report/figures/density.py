"""The figure of a comparison about sparse networks: what each density costs and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtspark.sim.report.style import INK, MUTED, PALETTE, RULE, new_figure, plain, svg

PANELS = (
    ("score", "score"),
    ("energy_uj", "dynamic energy, µJ a decision"),
    ("memory_kib", "memory of synapses, KiB"),
    ("cores", "cores"),
)
"""Field of a point, and its title."""


@dataclass(frozen=True)
class DensityPoint:
    """One network of a task.

    Attributes:
        name: of its bundle.
        density: weights other than 0, over those of the densest network that is compared.
        score: of its chip: a return, or an accuracy in percent.
        energy_uj: dynamic energy of a mean decision; None where it is not priced.
        memory_kib: of its synapses on a chip.
        cores: on the card's chip; None where no chip was mapped.
    """

    name: str
    density: float
    score: float
    energy_uj: float | None
    memory_kib: float
    cores: int | None


def density_curves(points: Sequence[DensityPoint], name: str) -> str:
    """Draw score, energy, memory and cores against density, a panel each.

    Args:
        points: of one task, at least two.
        name: of the figure; two figures of a page need two names.

    Returns:
        An SVG element.
    """
    figure = new_figure(11.2, 2.7)
    axes = figure.subplots(1, len(PANELS))
    figure.subplots_adjust(left=0.055, right=0.99, top=0.84, bottom=0.2, wspace=0.32)
    ordered = sorted(points, key=lambda point: point.density)
    for axis, (field, title), shade in zip(axes, PANELS, PALETTE, strict=False):
        known = [
            (100 * point.density, value)
            for point in ordered
            if (value := getattr(point, field)) is not None
        ]
        axis.set_title(title, fontsize=10, color=INK, loc="left", parse_math=False)
        plain(axis, keep_left=True)
        axis.set_xlim(0, 105)
        axis.set_xlabel("density, %")
        if not known:
            axis.set_yticks([])
            axis.text(52, 0.5, "not known", ha="center", color=MUTED)
            continue
        across, up = zip(*known, strict=True)
        axis.plot(across, up, color=shade, marker="o", markersize=5, linewidth=1.6)
        axis.set_ylim(min(0.0, min(up) * 1.15), max(up) * 1.15 if max(up) > 0 else 1.0)
        axis.grid(axis="y", color=RULE, linewidth=0.6)
        axis.set_axisbelow(True)
    return svg(figure, name)

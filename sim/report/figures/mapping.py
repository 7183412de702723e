"""Pictures of the chip: which population lies on which core, and where messages travel.

`chip_picture` is the small one of the report's page; `draw_mapping` the large one of a file, with
the memory in use and the busiest routes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtspark.core.chip_network import INPUT
from mtspark.core.files import AnyPath, write_bytes
from mtspark.deploy.chips import ChipModel
from mtspark.deploy.mapping import ChipMapping
from mtspark.sim.latency import Traffic
from mtspark.sim.report.style import INK, RULE, new_figure, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHIPS_ACROSS = 4
LINES = 60
"""Routes drawn, the busiest first: more than these hide the cores."""


def draw_mapping(mapping: ChipMapping, chip: ChipModel, traffic: Traffic | None = None) -> Figure:
    """Draw every chip's mesh: colours are populations, height of a fill is memory in use.

    Args:
        mapping: what lies where.
        chip: whose mesh it is.
        traffic: messages; the busiest routes between cores are drawn as lines.
    """
    from matplotlib.figure import Figure

    across = min(mapping.chips, CHIPS_ACROSS)
    down = -(-mapping.chips // across)
    slots = _slots(chip)
    width = chip.mesh.columns * slots[0]
    height = chip.mesh.rows * slots[1]
    scale = 0.5 if mapping.chips == 1 else 0.25
    figure = Figure(
        figsize=(max(across * width * scale + 0.6, 7.0), down * height * scale + 1.3),
        layout="constrained",
    )
    axes = figure.subplots(down, across, squeeze=False).reshape(-1)
    names = list(mapping.layers)
    colours = {name: f"C{index % 10}" for index, name in enumerate(names)}
    for number, axis in enumerate(axes):
        _draw_chip(axis, number if number < mapping.chips else None, mapping, chip, colours)
    if traffic is not None:
        _draw_routes(axes, mapping, chip, traffic)
    handles = [_patch(colours[name], f"{name}: {len(mapping.layers[name])}") for name in names]
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(names), 6),
        frameon=False,
        fontsize=8,
        title="cores of each population; the fill is the synaptic memory in use",
        title_fontsize=8,
    )
    # Dollars in a name are no formula.
    for text in legend.get_texts():
        text.set_parse_math(False)
    word = "HYPOTHETICAL: breaks limits of " if mapping.hypothetical else ""
    figure.suptitle(
        f"{mapping.network} on {len(mapping.cores)} cores, {word}{mapping.chip_name}",
        fontsize=11,
        parse_math=False,
    )
    return figure


def save_mapping(
    mapping: ChipMapping, chip: ChipModel, path: AnyPath, traffic: Traffic | None = None
) -> None:
    """Write the picture whole or not at all; its ending chooses a format, PNG without one."""
    figure = draw_mapping(mapping, chip, traffic)
    # In memory: of a full disk Pillow says no more than that it failed.
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix[1:] or "png", dpi=120)
    write_bytes(path, buffer.getvalue())


def _slots(chip: ChipModel) -> tuple[int, int]:
    """Return columns and rows of cores at one router."""
    across = int(np.ceil(np.sqrt(chip.mesh.cores_per_router)))
    return across, -(-chip.mesh.cores_per_router // across)


def _spot(chip: ChipModel, column: int, row: int, place: int) -> tuple[float, float]:
    """Return the lower left corner of a core; routers stand a little apart."""
    across, down = _slots(chip)
    gap = 0.25 if chip.mesh.cores_per_router > 1 else 0.0
    return (
        column * (across + gap) + place % across,
        row * (down + gap) + place // across,
    )


def _draw_chip(
    axis: Any,
    number: int | None,
    mapping: ChipMapping,
    chip: ChipModel,
    colours: dict[str, str],
) -> None:
    from matplotlib.patches import Rectangle

    axis.set_axis_off()
    if number is None:
        return
    axis.set_aspect("equal")
    for column in range(chip.mesh.columns):
        for row in range(chip.mesh.rows):
            for place in range(chip.mesh.cores_per_router):
                corner = _spot(chip, column, row, place)
                axis.add_patch(Rectangle(corner, 0.92, 0.92, fc="#f2f3f5", ec="#c9cdd3", lw=0.5))
    memory = chip.limit("synapse_memory_per_core")
    for index, core in enumerate(mapping.cores):
        if core.chip != number:
            continue
        corner = _spot(chip, core.column, core.row, core.place)
        full = min(core.use.memory_bits / memory, 1.0)
        colour = colours[core.population]
        axis.add_patch(Rectangle(corner, 0.92, 0.92, fc=colour, alpha=0.3, ec=colour, lw=0.8))
        axis.add_patch(Rectangle(corner, 0.92, 0.92 * full, fc=colour, alpha=0.9, lw=0))
        if mapping.chips == 1:
            axis.text(
                corner[0] + 0.46, corner[1] + 0.46, str(index), ha="center", va="center", fontsize=5
            )
    right, top = _spot(chip, chip.mesh.columns, chip.mesh.rows, 0)
    axis.set_xlim(-0.3, right + 0.2)
    axis.set_ylim(top + 0.2, -0.3)
    if mapping.chips > 1:
        axis.set_title(f"chip {number}", fontsize=8)


def _draw_routes(axes: Any, mapping: ChipMapping, chip: ChipModel, traffic: Traffic) -> None:
    """Draw the busiest routes within a chip, as wide as they are busy."""
    messages = traffic.messages.copy()
    np.fill_diagonal(messages, 0)
    messages[traffic.between_chips] = 0
    busiest = np.argsort(messages, axis=None)[::-1][:LINES]
    largest = max(int(messages.max(initial=0)), 1)
    for flat in busiest:
        source, target = divmod(int(flat), len(messages))
        if messages[source, target] == 0:
            break
        ends = [
            _spot(chip, core.column, core.row, core.place)
            for core in (mapping.cores[source], mapping.cores[target])
        ]
        axes[mapping.cores[source].chip].plot(
            [end[0] + 0.46 for end in ends],
            [end[1] + 0.46 for end in ends],
            color="#20242b",
            alpha=0.35,
            lw=0.3 + 2.2 * messages[source, target] / largest,
            solid_capstyle="round",
        )


def _patch(colour: str, label: str) -> Any:
    from matplotlib.patches import Patch

    name, _, rest = label.partition(":")
    shown = "frame" if name == INPUT else name
    # matplotlib leaves labels that begin with "_" out.
    gap = " " if shown.startswith("_") else ""
    return Patch(fc=colour, label=f"{gap}{shown}:{rest} cores")


def chip_picture(
    mapping: ChipMapping, columns: int, rows: int, shades: dict[str, str], name: str
) -> str:
    """Draw the cores of the chips, four at most, in the colours of the populations on them.

    Args:
        mapping: what lies where.
        columns, rows: of a chip's mesh.
        shades: colour by population.
        name: of the figure, unique on the page.

    Returns:
        An SVG element.
    """
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

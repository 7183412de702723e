"""The figures of the report: SVG that scales to a poster, drawn by matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtspark.deploy.mapping import ChipMapping

INK, MUTED, RULE, PAPER = "#1d1f24", "#6d7078", "#ddd6c8", "#fbf9f4"
STATIC = "#a8a296"
PARTS = {
    "graded": ("input operations", "#e9a23b"),
    "operations": ("spike operations", "#c8553d"),
    "neurons": ("neuron updates", "#35618f"),
    "input": ("input neurons", "#8db3d6"),
    "traffic": ("spikes and messages", "#5f8f6b"),
    "memory": ("memory", "#7b6aa6"),
    "arithmetic": ("arithmetic", "#d88c9a"),
}
"""What a term of a bill is drawn as: label and colour."""

PALETTE = ("#f4b942", "#f08a4b", "#e0567a", "#9b6bd6", "#4fa3d9", "#58b89c", "#c9c265")
"""Of the populations, input side first; bright on dark, strong on paper."""


def part_of(term: str) -> str:
    """Which part of the bill a term belongs to."""
    if term.startswith("graded"):
        return "graded"
    if term.startswith("synaptic_operation"):
        return "operations"
    if term.startswith(("read_", "write_")):
        return "memory"
    named = {"neuron_update": "neurons", "input_neuron_update": "input"}
    traffic = ("spike_out", "message", "hop_east_west", "hop_north_south")
    return named.get(term, "traffic" if term in traffic else "arithmetic")


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each population."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def energy_by_card(energy: list[dict[str, Any]]) -> str:
    """One row a card: what its joules are made of, and how many there are on a log axis."""
    figure = _figure(11.2, 0.46 * len(energy) + 1.25)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
    figure.subplots_adjust(
        left=0.262,
        right=0.985,
        top=1 - 0.62 / figure.get_figheight(),
        bottom=0.55 / figure.get_figheight(),
        wspace=0.06,
    )
    used: dict[str, None] = {}
    for row, bill in enumerate(energy):
        parts = _parts(bill["terms"])
        static = bill["static_j_per_decision"] or 0.0
        total = sum(parts.values()) + static
        begin = 0.0
        for part, joules in parts.items():
            used[part] = None
            left.barh(row, joules / total, left=begin, height=0.58, color=PARTS[part][1])
            begin += joules / total
        if static:
            left.barh(
                row,
                static / total,
                left=begin,
                height=0.58,
                color=PAPER,
                edgecolor=STATIC,
                hatch="/////",
                linewidth=0.6,
            )
        _totals(right, row, bill)
    names = [bill["card"] for bill in energy]
    left.set_yticks(range(len(names)), names, parse_math=False)
    for tick, bill in zip(left.get_yticklabels(), energy, strict=True):
        tick.set_color(MUTED if bill["hypothetical"] else INK)
    left.set_xlim(0, 1)
    left.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    right.set_xscale("log")
    right.set_yticks([])
    right.set_xlabel("µJ a decision")
    for axis in (left, right):
        axis.set_ylim(len(energy) - 0.45, -0.55)
        _plain(axis)
    right.grid(axis="x", color=RULE, linewidth=0.6)
    right.set_axisbelow(True)
    _legend(left, [*used, "static"])
    _marker_legend(right)
    return _svg(figure, "energy")


def _totals(axis: Any, row: int, bill: dict[str, Any]) -> None:
    micro = 1e6
    dynamic = bill["dynamic_j_per_decision"] * micro
    low, high = (bill[f"dynamic_{side}_j_per_decision"] * micro for side in ("low", "high"))
    if high > low:
        axis.plot(
            [low, high], [row, row], color="#c8553d", linewidth=5, alpha=0.25, solid_capstyle="butt"
        )
    for baseline in (bill["baselines"][0], bill["baselines"][-1]):
        joules = baseline["energy_j_per_decision"]
        if joules:
            first = baseline is bill["baselines"][0]
            axis.plot(
                joules * micro,
                row,
                "s" if first else "D",
                markersize=6 if first else 5,
                markerfacecolor=PAPER,
                markeredgecolor=INK,
                markeredgewidth=1.1,
                zorder=3,
            )
    if bill["total_j_per_decision"]:
        total = bill["total_j_per_decision"] * micro
        axis.plot([dynamic, total], [row, row], color=STATIC, linewidth=1.2, linestyle=(0, (2, 2)))
        axis.plot(
            total,
            row,
            "o",
            markersize=7,
            markerfacecolor=PAPER,
            markeredgecolor="#c8553d",
            markeredgewidth=1.4,
            zorder=4,
        )
    axis.plot(dynamic, row, "o", markersize=7.5, color="#c8553d", zorder=5)


def _marker_legend(axis: Any) -> None:
    from matplotlib.lines import Line2D

    def marker(shape: str, face: str, edge: str, label: str) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="",
            marker=shape,
            markerfacecolor=face,
            markeredgecolor=edge,
            markersize=6.5,
            label=label,
        )

    entries = [
        marker("o", "#c8553d", "#c8553d", "spiking, dynamic"),
        marker("o", PAPER, "#c8553d", "with static"),
        marker("s", PAPER, INK, "int8 network"),
        marker("D", PAPER, INK, "few bits, zeros skipped"),
    ]
    axis.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=4,
        frameon=False,
        fontsize=8.5,
        handletextpad=0.2,
        columnspacing=1.1,
    )


def encoders(rows: list[dict[str, Any]], energy: dict[str, Any]) -> str:
    """The bill of each encoder under one card, beside the baselines."""
    figure = _figure(11.2, 2.5)
    axis = figure.subplots()
    figure.subplots_adjust(left=0.175, right=0.975, top=0.79, bottom=0.2)
    used: dict[str, None] = {}
    for row, entry in enumerate(rows):
        begin = 0.0
        terms = entry["terms_by_card"][energy["card_key"]]
        for part, joules in _sum_parts(terms).items():
            used[part] = None
            axis.barh(row, joules * 1e6, left=begin, height=0.56, color=PARTS[part][1])
            begin += joules * 1e6
        axis.text(
            begin,
            row,
            f"  {begin:,.3g} µJ",
            va="center",
            fontsize=10,
            weight="bold",
            color=INK,
            parse_math=False,
        )
    joules = energy["baselines"][0]["energy_j_per_decision"]
    if joules is not None:
        axis.axvline(joules * 1e6, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        axis.text(
            joules * 1e6,
            len(rows) - 0.38,
            "  int8 network, no spikes",
            va="bottom",
            fontsize=9,
            color=INK,
        )
    labels = {
        "frame": "frame at every step",
        "held": "frame held on chip",
        "difference": "changed pixels only",
    }
    axis.set_yticks(range(len(rows)), [labels[entry["encoder"]] for entry in rows])
    axis.set_ylim(len(rows) - 0.4, -0.55)
    axis.margins(x=0.09)
    axis.set_xlim(left=0)
    axis.set_xlabel("µJ a decision, dynamic")
    _plain(axis)
    _legend(axis, list(used))
    return _svg(figure, "encoders")


def step_time(
    rows: list[dict[str, Any]], energy: dict[str, Any], static_uj_per_us: float, chip: str
) -> str:
    """Energy of a decision against the time of a step: where static power takes over."""
    figure = _figure(5.4, 3.5)
    axis = figure.subplots()
    figure.subplots_adjust(left=0.13, right=0.97, top=0.95, bottom=0.15)
    time_us = np.logspace(0, 4, 120)
    shades = dict(
        zip(("frame", "held", "difference"), ("#c8553d", "#e9a23b", "#5f8f6b"), strict=True)
    )
    for entry in rows:
        dynamic = entry["dynamic_j_by_card"][energy["card_key"]] * 1e6
        colour = shades[entry["encoder"]]
        axis.plot(
            time_us,
            dynamic + static_uj_per_us * time_us,
            color=colour,
            linewidth=1.8,
            label=entry["encoder"],
        )
        modelled = entry["step_time_us"].get(chip)
        if modelled:
            axis.plot(
                modelled,
                dynamic + static_uj_per_us * modelled,
                "o",
                color=colour,
                markersize=7,
                markeredgecolor=PAPER,
                zorder=4,
            )
    joules = energy["baselines"][0]["energy_j_per_decision"]
    if joules is not None:
        axis.axhline(joules * 1e6, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axis.text(1.1, joules * 1e6 * 1.12, "int8 network, dynamic only", fontsize=8, color=INK)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(1, 1e4)
    axis.set_xlabel("time of a step [µs]; dot: modelled")
    axis.set_ylabel("µJ a decision, with static")
    axis.grid(color=RULE, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.legend(frameon=False, fontsize=8.5, loc="upper left", handlelength=1.4)
    _plain(axis, keep_left=True)
    return _svg(figure, "step-time")


def episode_curves(curve: dict[str, Any], fires: Sequence[str], shades: dict[str, str]) -> str:
    """Spikes a decision of each population over the first episode."""
    figure = _figure(11.2, 0.82 * len(fires) + 0.5)
    axes = np.atleast_1d(figure.subplots(len(fires), 1, sharex=True))
    height = figure.get_figheight()
    figure.subplots_adjust(
        left=0.085, right=0.9, top=1 - 0.08 / height, bottom=0.45 / height, hspace=0.18
    )
    for axis, name in zip(axes, fires, strict=True):
        spikes = curve["spikes"][name]
        axis.fill_between(curve["decision"], spikes, color=shades[name], alpha=0.28, linewidth=0)
        axis.plot(curve["decision"], spikes, color=shades[name], linewidth=1.6)
        axis.set_ylim(0, max(max(spikes) * 1.15, 1e-9))
        axis.set_xlim(curve["decision"][0], curve["decision"][-1] or 1)
        axis.set_yticks([0, max(spikes)], ["0", f"{max(spikes):,.0f}"])
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
                f"{change - 1:+.0%}",
                transform=axis.transAxes,
                va="center",
                fontsize=10,
                color=MUTED,
                parse_math=False,
            )
        _plain(axis)
    axes[-1].set_xlabel("decision of the first episode; at the right: last quarter over first")
    return _svg(figure, "episode")


def chip_picture(
    mapping: ChipMapping, columns: int, rows: int, shades: dict[str, str], name: str
) -> str:
    """Cores of the chips by the population that they hold; darker where memory is fuller."""
    from matplotlib.patches import Rectangle

    shades = {**shades, "input": "#b9b4a8"}
    per_router = 1 + max(core.place for core in mapping.cores)
    across = int(np.ceil(np.sqrt(per_router)))
    shown = min(mapping.chips, 4)
    figure = _figure(min(11.2, 5.4 * shown), 5.4 * rows / columns + 0.2)
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
    return _svg(figure, f"chip-{name}")


def _parts(terms: list[dict[str, Any]]) -> dict[str, float]:
    return _sum_parts(
        {
            term["term"]: term["energy_j_per_decision"]
            for term in terms
            if term["energy_j_per_decision"] is not None
        }
    )


def _sum_parts(terms: dict[str, float]) -> dict[str, float]:
    """Joules by part, in the order of PARTS."""
    sums = dict.fromkeys(PARTS, 0.0)
    for term, joules in terms.items():
        sums[part_of(term)] += joules
    return {part: joules for part, joules in sums.items() if joules > 0}


def _legend(axis: Any, used: list[str]) -> None:
    from matplotlib.patches import Patch

    entries = [
        Patch(facecolor=PARTS[part][1], label=PARTS[part][0]) for part in PARTS if part in used
    ]
    if "static" in used:
        entries.append(Patch(facecolor=PAPER, edgecolor=STATIC, hatch="/////", label="static"))
    axis.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=4,
        frameon=False,
        fontsize=8.5,
        handlelength=0.9,
        handletextpad=0.5,
        columnspacing=1.2,
        borderaxespad=0.3,
    )


def _figure(width: float, height: float) -> Any:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "font.size": 9.5,
            "text.color": INK,
            "axes.labelcolor": MUTED,
            "axes.edgecolor": RULE,
            "xtick.color": MUTED,
            "ytick.color": INK,
            "hatch.linewidth": 0.7,
        }
    )
    return Figure(figsize=(width, height), facecolor="none")


def _plain(axis: Any, *, keep_left: bool = False) -> None:
    axis.set_facecolor("none")
    for side in ("top", "right") if keep_left else ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(length=0)


def _svg(figure: Any, name: str) -> str:
    """The figure as an SVG element; ids that cannot meet those of another figure."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(?<=\bid=")|(?<=xlink:href="#)|(?<=url\(#)', f"{name}-", text)
    # The page's own fonts; DejaVu is what matplotlib measured with, and wider.
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)

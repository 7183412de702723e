"""Figures of the report about energy: SVG that scales to a poster, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtspark.sim.energy import Bill, cheapest
from mtspark.sim.report.data import CardReport, EncoderReport, priced_terms
from mtspark.sim.report.style import INK, MUTED, PAPER, RULE, new_figure, plain, svg

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


def part_of(term: str) -> str:
    """Return the part of the bill that a term belongs to."""
    if term.startswith("graded"):
        return "graded"
    if term.startswith("synaptic_operation"):
        return "operations"
    if term.startswith(("read_", "write_")):
        return "memory"
    named = {"neuron_update": "neurons", "input_neuron_update": "input"}
    traffic = ("spike_out", "message", "hop_east_west", "hop_north_south")
    return named.get(term, "traffic" if term in traffic else "arithmetic")


def energy_by_card(energy: Sequence[CardReport]) -> str:
    """Draw one row a card: what its joules are made of, and how many there are on a log axis.

    Args:
        energy: one task under every card.

    Returns:
        An SVG element.
    """
    height = 0.46 * len(energy) + 1.35
    figure = new_figure(11.2, height)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
    figure.subplots_adjust(
        left=0.25, right=0.985, top=1 - 0.68 / height, bottom=0.55 / height, wspace=0.06
    )
    used: dict[str, None] = {}
    for row, report in enumerate(energy):
        used.update(_shares(left, row, report.bill))
        _totals(right, row, report)
    names = [report.bill.card.name for report in energy]
    left.set_yticks(range(len(names)), names, parse_math=False)
    for tick, report in zip(left.get_yticklabels(), energy, strict=True):
        tick.set_color(MUTED if report.bill.hypothetical else INK)
    left.set_xlim(0, 1)
    left.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    _log_axis(right)
    right.set_yticks([])
    right.set_xlabel("µJ a decision")
    for axis in (left, right):
        axis.set_ylim(len(energy) - 0.45, -0.55)
        plain(axis)
    right.grid(axis="x", color=RULE, linewidth=0.6)
    right.set_axisbelow(True)
    _legend(figure, [*used, "static"], (0.0, 1.0), "upper left")
    _marker_legend(right)
    return svg(figure, "energy")


def _shares(axis: Any, row: int, bill: Bill) -> dict[str, None]:
    """Draw the parts of a bill as shares of its sum; return the parts, in order."""
    parts = _sum_parts(priced_terms(bill))
    static = bill.static_j_per_decision or 0.0
    total = sum(parts.values()) + static
    if not total:
        return {}
    begin = 0.0
    for part, joules in parts.items():
        axis.barh(row, joules / total, left=begin, height=0.58, color=PARTS[part][1])
        begin += joules / total
    if static:
        axis.barh(
            row,
            static / total,
            left=begin,
            height=0.58,
            color=PAPER,
            edgecolor=STATIC,
            hatch="/////",
            linewidth=0.6,
        )
    return dict.fromkeys(parts)


def _log_axis(axis: Any) -> None:
    """Show few numbers, whatever the range: decades, or 1, 2 and 5 of each in less than two."""
    from matplotlib.ticker import LogLocator

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    if high < 100 * low:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    _plain_numbers(axis.xaxis)


def _plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis with numbers: matplotlib's powers are mathtext, which is off."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())


def _totals(axis: Any, row: int, report: CardReport) -> None:
    """Draw the sums of a bill and of two baselines, in microjoules."""
    micro, bill = 1e6, report.bill
    dynamic = bill.dynamic_j_per_decision * micro
    if not dynamic:
        return
    low, high = bill.dynamic_low_j * micro, bill.dynamic_high_j * micro
    if high > low:
        axis.plot(
            [low, high], [row, row], color="#c8553d", linewidth=5, alpha=0.25, solid_capstyle="butt"
        )
    for baseline in (report.baselines[0], cheapest(report.baselines)):
        joules = None if baseline is None else baseline.energy_j_per_decision
        if joules:
            first = baseline is report.baselines[0]
            axis.plot(
                joules * micro,
                row,
                "s" if first else "D",
                markersize=6 if first else 5,
                markerfacecolor="none",
                markeredgecolor=INK,
                markeredgewidth=1.1,
                zorder=6,
            )
    if bill.total_j_per_decision:
        total = bill.total_j_per_decision * micro
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
        marker("D", PAPER, INK, "the cheapest without spikes"),
    ]
    axis.legend(
        handles=entries,
        loc="lower right",
        bbox_to_anchor=(1.01, 1.0),
        ncols=4,
        frameon=False,
        fontsize=8.5,
        handletextpad=0.2,
        columnspacing=1.1,
    )


def encoders(rows: Sequence[EncoderReport], main: CardReport) -> str:
    """Draw the bill of each encoder under one card, beside the int8 network.

    Args:
        rows: one an encoder.
        main: the card.

    Returns:
        An SVG element.
    """
    figure = new_figure(11.2, 2.75)
    axis = figure.subplots()
    figure.subplots_adjust(left=0.175, right=0.975, top=0.81, bottom=0.18)
    used: dict[str, None] = {}
    sums: list[float] = []
    for row, entry in enumerate(rows):
        begin = 0.0
        terms = priced_terms(entry.bill(main.bill.card))
        for part, joules in _sum_parts(terms).items():
            used[part] = None
            axis.barh(row, joules * 1e6, left=begin, height=0.56, color=PARTS[part][1])
            begin += joules * 1e6
        sums.append(begin)
        axis.annotate(
            f"{begin:,.3g} µJ",
            (begin, row),
            (7, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            weight="bold",
            parse_math=False,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
            zorder=5,
        )
    _mark_int8(axis, main, sums)
    labels = {
        "every-step": "frame at every step",
        "held": "frame held on chip",
        "changes": "changed pixels only",
    }
    axis.set_yticks(range(len(rows)), [labels[entry.encoder.value] for entry in rows])
    axis.set_ylim(len(rows) + 0.25, -0.55)
    axis.margins(x=0.09)
    axis.set_xlim(left=0)
    axis.set_xlabel("µJ a decision, dynamic")
    plain(axis)
    _legend(axis, list(used), (0.0, 1.06), "lower left")
    return svg(figure, "encoders")


def _mark_int8(axis: Any, main: CardReport, sums: list[float]) -> None:
    """Draw the int8 network as a line across the bars, its name on the side with room."""
    joules = main.baselines[0].energy_j_per_decision
    if joules is None:
        return
    at = joules * 1e6
    axis.axvline(at, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=2)
    longest = max([at, *sums])
    left = at > 0.7 * longest
    axis.annotate(
        "int8 network, no spikes",
        (at, len(sums) - 0.08),
        (-7 if left else 7, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        fontsize=9,
    )


def step_time(rows: Sequence[EncoderReport], main: CardReport, static_uj_per_us: float) -> str:
    """Draw the energy of a decision against the time of a step: where static power takes over.

    Args:
        rows: one an encoder.
        main: the card.
        static_uj_per_us: microjoules of static energy for a microsecond of a step.

    Returns:
        An SVG element.
    """
    figure = new_figure(5.4, 3.5)
    axis = figure.subplots()
    figure.subplots_adjust(left=0.13, right=0.97, top=0.95, bottom=0.15)
    time_us = np.logspace(0, 4, 120)
    shades = dict(
        zip(("every-step", "held", "changes"), ("#c8553d", "#e9a23b", "#5f8f6b"), strict=True)
    )
    for entry in rows:
        dynamic = entry.bill(main.bill.card).dynamic_j_per_decision * 1e6
        colour = shades[entry.encoder.value]
        axis.plot(
            time_us,
            dynamic + static_uj_per_us * time_us,
            color=colour,
            linewidth=1.8,
            label=entry.encoder.value,
        )
        modelled = entry.step_time_us.get(main.bill.card.chip)
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
    joules = main.baselines[0].energy_j_per_decision
    if joules is not None:
        axis.axhline(joules * 1e6, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            "int8 network, dynamic only",
            (9e3, joules * 1e6),
            (0, 3),
            textcoords="offset points",
            fontsize=8,
            ha="right",
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    for scale in (axis.xaxis, axis.yaxis):
        _plain_numbers(scale)
    axis.set_xlim(1, 1e4)
    axis.set_xlabel("time of a step [µs]; dot: modelled")
    axis.set_ylabel("µJ a decision, with static")
    axis.grid(color=RULE, linewidth=0.5)
    axis.set_axisbelow(True)
    axis.legend(frameon=False, fontsize=8.5, loc="upper left", handlelength=1.4)
    plain(axis, keep_left=True)
    return svg(figure, "step-time")


def _sum_parts(terms: dict[str, float]) -> dict[str, float]:
    """Return joules by part, in the order of PARTS."""
    sums = dict.fromkeys(PARTS, 0.0)
    for term, joules in terms.items():
        sums[part_of(term)] += joules
    return {part: joules for part, joules in sums.items() if joules > 0}


def _legend(where: Any, used: list[str], at: tuple[float, float], corner: str) -> None:
    """Name the parts of a bill in one line, above a figure or an axis."""
    from matplotlib.patches import Patch

    entries = [
        Patch(facecolor=PARTS[part][1], label=PARTS[part][0]) for part in PARTS if part in used
    ]
    if "static" in used:
        entries.append(Patch(facecolor=PAPER, edgecolor=STATIC, hatch="/////", label="static"))
    where.legend(
        handles=entries,
        loc=corner,
        bbox_to_anchor=at,
        ncols=len(entries),
        frameon=False,
        fontsize=8.5,
        handlelength=0.9,
        handletextpad=0.5,
        columnspacing=1.2,
        borderaxespad=0.0,
    )

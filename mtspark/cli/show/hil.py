"""Games with the chip in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtspark.cli._console import console
from mtspark.cli.show.runs import print_drawn, print_ends
from mtspark.cli.show.verdict import print_estimate, print_verdict
from mtspark.core.digits import decimals, percent
from mtspark.sim.hil import DIFFERING, REFRESH, STATES_LOST

if TYPE_CHECKING:
    from mtspark.workflows.hil import HilResult, ModelledTimes


def print_hil(
    result: HilResult, stored: Path | None, picture: Path | None, *, details: bool
) -> None:
    """Print the points of a curve, and what a reader must know about them.

    Args:
        result: all points.
        stored: file of the result.
        picture: file of the curve that was drawn.
        details: show the modelled times and a table of the points, too.
    """
    print_verdict(result.sentences, more=not details)
    for point in result.points[:1]:
        print_drawn(point.to_json())
    if details and result.modelled is not None:
        _print_modelled(result.modelled)
    if result.resumed:
        console.print(f"{result.resumed} of {len(result.points)} points are in {stored}")
    for losses in result.losses:
        console.print(
            f"without having been told to, the chip went away {losses} x: this result will not "
            "repeat exactly"
        )
    _print_states_lost([point.to_json() for point in result.points])
    if picture is not None:
        console.print(f"wrote {picture}", soft_wrap=True)
    if details or len(result.points) > 1:
        _print_points(result.to_json())
    if details:
        print_estimate()


def _print_states_lost(points: list[dict[str, Any]]) -> None:
    """Say how often a chip forgot what its agent had seen, where it did."""
    lost = [episode.get(STATES_LOST, 0) for point in points for episode in point["episodes"]]
    if any(lost):
        games = f"{sum(map(bool, lost)):,} of {len(lost):,} games"
        console.print(
            f"the chip lost what it remembered of a game {sum(lost):,} x, in {games}; the agent "
            "went on from rest"
        )


def _print_modelled(modelled: ModelledTimes) -> None:
    terms = [
        f"{name} " + ("not modelled" if us is None else f"{decimals(us / 1000, 3)} ms")
        for name, us in modelled.terms_us.items()
    ]
    console.print(
        f"Estimate for {modelled.chip}, times {modelled.times!r}, a mean decision of "
        f"{modelled.decisions}: {decimals(modelled.total_us / 1000, 3)} ms "
        f"({', '.join(terms)}); within the steps not modelled: "
        f"{', '.join(modelled.steps_lack) or 'nothing'}"
    )
    if modelled.message_us is not None:
        console.print(
            f"the host writes {modelled.message_us:g} us a message, and in each decision of the "
            "games below as many as it really sends"
        )
    if modelled.broken_limits:
        console.print(
            f"hypothetical: {modelled.broken_limits} limits of {modelled.chip} are broken; see "
            "mtspark map"
        )


def _solved(point: dict[str, Any]) -> str:
    """The success rate of a point; empty where nobody says."""
    return f"{point['success_rate']:.1%}" if "success_rate" in point else ""


def _print_points(result: dict[str, Any]) -> None:
    """Print score and fate of the observations at every point."""
    varied = result["varied"]
    points = result["points"]
    games = len(points[0]["episodes"])
    title = f"{result['agent']}: {result['task']} with the chip in the loop"
    title += f", {games} game{'s' * (games > 1)} each"
    if varied not in (None, "latency"):
        title += f", by the rate of {varied}"
    table = Table(title=title, pad_edge=False)
    refreshed = any(REFRESH in point for point in points)
    # A curve of what changes nothing in time has no room for what became of the observations.
    differing = any(DIFFERING in point for point in points)
    outcomes = ("in_time",) if differing else ("in_time", "late", "skipped", "missing")
    columns = [] if varied is None else ["latency [ms]" if varied == "latency" else "rate"]
    columns += ["whole frame every"] if refreshed else []
    solved = ["success"] if any("success_rate" in point for point in points) else []
    columns += ["mean return", "95 %", *solved, *(name.replace("_", " ") for name in outcomes)]
    columns += ["other action" if differing else "answer [ms]"]
    for column in columns:
        words = max(map(len, column.split()))
        table.add_column(column, justify="right", min_width=words)
    for point in points:
        interval = point["interval_95"]
        responses = [e["response_ms"]["mean"] for e in point["episodes"] if e["response_ms"]]
        cells = [f"{point['place']:g}"] if varied is not None else []
        cells += [str(point.get(REFRESH, "never"))] if refreshed else []
        cells += [
            f"{point['mean_return']:.2f}",
            "" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}",
            *([_solved(point)] if solved else []),
            *(percent(point["shares"][name]) for name in outcomes),
        ]
        if differing:
            cells.append(percent(point[DIFFERING], 2) if DIFFERING in point else "")
        else:
            cells.append(decimals(sum(responses) / len(responses), 1) if responses else "none")
        table.add_row(*cells)
    console.print(table)
    played = [episode for point in points for episode in point["episodes"]]
    cut = sum(not episode["finished"] for episode in played)
    limited = sum(episode.get("truncated", False) for episode in played)
    in_environment = result["decision_delay"] is None or result.get("in_environment", False)
    print_ends(len(played), cut, limited, f"the {'time' if in_environment else 'frame'} limit")
    names = {point["backend"] for point in points}
    console.print(
        f"chip: {', '.join(sorted(names))}; {points[0]['clock']} time; late: answered after "
        f"{result['deadline_ms']:.1f} ms; skipped: the chip was busy and took a newer "
        "observation; missing: lost, or the chip was dead"
    )

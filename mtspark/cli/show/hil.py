"""Games with the chip in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtspark.cli._console import console

if TYPE_CHECKING:
    from mtspark.workflows.hil import HilResult, ModelledTimes


def print_hil(result: HilResult, stored: Path | None, picture: Path | None) -> None:
    """Print the points of a curve, and what a reader must know about them.

    Args:
        result: all points.
        stored: file of the result.
        picture: file of the curve that was drawn.
    """
    if result.modelled is not None:
        _print_modelled(result.modelled)
    if result.resumed:
        console.print(f"{result.resumed} of {len(result.points)} points are in {stored}")
    for losses in result.losses:
        console.print(
            f"without having been told to, the chip went away {losses} x: this result will not "
            "repeat exactly"
        )
    if picture is not None:
        console.print(f"wrote {picture}", soft_wrap=True)
    _print_points(result.to_json())


def _print_modelled(modelled: ModelledTimes) -> None:
    terms = [
        f"{name} " + ("not modelled" if us is None else f"{us / 1000:.3f} ms")
        for name, us in modelled.terms_us.items()
    ]
    console.print(
        f"ESTIMATE for {modelled.chip}, times {modelled.times!r}, a mean decision of "
        f"{modelled.decisions}: {modelled.total_us / 1000:.3f} ms ({', '.join(terms)}); within the "
        f"steps not modelled: {', '.join(modelled.steps_lack) or 'nothing'}"
    )
    if modelled.broken_limits:
        console.print(
            f"HYPOTHETICAL: {modelled.broken_limits} limits of {modelled.chip} are broken; see "
            "mtspark map"
        )


def _print_points(result: dict[str, Any]) -> None:
    """Print score and fate of the observations at every point."""
    varied = result["varied"]
    points = result["points"]
    table = Table(title=f"{result['agent']}: {result['task']} with the chip in the loop")
    if varied is not None:
        table.add_column("latency [ms]" if varied == "latency" else varied, justify="right")
    for column in ("mean return", "95 %", "games", "in time", "late", "skipped", "missing"):
        table.add_column(column, justify="right")
    table.add_column("response [ms]", justify="right")
    for point in points:
        interval = point["interval_95"]
        responses = [e["response_ms"]["mean"] for e in point["episodes"] if e["response_ms"]]
        cells = [f"{point['place']:g}"] if varied is not None else []
        cells += [
            f"{point['mean_return']:.2f}",
            "" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}",
            str(len(point["episodes"])),
            *(f"{point['shares'][key]:.1%}" for key in ("in_time", "late", "skipped", "missing")),
            f"{sum(responses) / len(responses):.1f}" if responses else "none",
        ]
        table.add_row(*cells)
    console.print(table)
    names = {point["backend"] for point in points}
    console.print(
        f"chip: {', '.join(sorted(names))}; {points[0]['clock']} time; late: answered after "
        f"{result['deadline_ms']:.1f} ms; skipped: the chip was busy and took a newer "
        "observation; missing: lost, or the chip was dead"
    )

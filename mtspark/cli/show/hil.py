"""Games with the chip in the loop."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from mtspark.cli._console import console


def print_hil(result: dict[str, Any]) -> None:
    """Score and fate of the observations at every point."""
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

"""Draw the score against the rate of each fault, and print it as a table.

    mtspark hil pong.deploy --task pong --episodes 3 --fault-sweep stuck-0=0,0.01 \
        --json docs/results/data/hil-stuck-0.json
    python docs/figures/fault_curves.py docs/results/hil-faults.png \
        docs/results/data/hil-stuck-0.json ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RATES = {
    "stuck-0": "neurons that never spike",
    "stuck-1": "neurons that always spike",
    "weight-bits": "weight bits inverted",
    "threshold-bits": "threshold bits inverted",
    "dropped-spikes": "spikes dropped",
    "spurious-spikes": "silent neurons that seem to spike",
    "lost-messages": "messages lost",
    "chip-death": "decisions in which the chip dies",
    "lost-changes": "messages of changes lost",
}
INK, COLOUR = "#1d1f24", "#c8553d"


def share(rate: float) -> str:
    """A rate as a share of a hundred."""
    return f"{100 * rate:.3g}"


def by_rate(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The points of a curve, or of several, the lowest rate first."""
    points: list[dict[str, Any]] = result["points"]
    return sorted(points, key=lambda point: float(point["place"]))


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """One panel a fault: a dot a game, a line through the means."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(11.5, 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).reshape(-1)
    for panel, result in zip(panels, results, strict=False):
        refreshes = list(dict.fromkeys(point.get("refresh_every") for point in result["points"]))
        for number, refresh in enumerate(refreshes):
            points = [one for one in by_rate(result) if one.get("refresh_every") == refresh]
            colour = f"C{number}" if len(refreshes) > 1 else COLOUR
            places = list(range(len(points)))
            for place, point in zip(places, points, strict=True):
                games = [game["return"] for game in point["episodes"]]
                panel.plot([place] * len(games), games, "o", color=colour, alpha=0.35, ms=5, mew=0)
            means = [point["mean_return"] for point in points]
            name = "never" if refresh is None else f"every {refresh}"
            panel.plot(places, means, "-o", color=colour, ms=3, lw=1.6, label=name)
        if len(refreshes) > 1:
            panel.legend(title="whole frame", fontsize=7, title_fontsize=7)
        panel.set_xticks(places, [share(point["place"]) for point in points])
        panel.set_title(result["varied"], fontsize=10.5, fontweight="bold", color=INK)
        panel.set_xlabel(f"% of {RATES[result['varied']]}", fontsize=8.5)
        panel.set_xlim(-0.35, len(points) - 0.65)
        panel.grid(alpha=0.25, lw=0.6)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    for panel in panels[len(results) :]:
        panel.set_visible(False)
    for row in range(rows):
        panels[row * columns].set_ylabel("return of a game")
    figure.savefig(path, dpi=120)


def fault_name(result: dict[str, Any], point: dict[str, Any]) -> str:
    """The fault of a point, and how often whole frames came."""
    refresh = point.get("refresh_every")
    return str(result["varied"]) + ("" if refresh is None else f", whole frame every {refresh}")


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: every point of every curve."""
    lines = ["| fault | rate, % | mean return | games | missing |", "|---|---|---|---|---|"]
    for result in results:
        for point in by_rate(result):
            games = ", ".join(f"{game['return']:g}" for game in point["episodes"])
            missing, mean = point["shares"]["missing"], f"{point['mean_return']:.1f}"
            lines.append(
                f"| {fault_name(result, point)} | {share(point['place'])} | {mean} | "
                f"{games} | {f'{missing:.1%}' if missing else ''} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Draw and print."""
    path, *sources = map(Path, sys.argv[1:])
    results = [json.loads(source.read_text()) for source in sources]
    results.sort(key=lambda result: list(RATES).index(result["varied"]))
    draw(results, path)
    print(table(results))


if __name__ == "__main__":
    main()

"""Draw the score against the operations of agents that paid different prices for an operation.

    mtspark run curve-1e-3.deploy --episodes 30 --json docs/results/data/cost-1e-3.json
    python docs/figures/cost_curve.py docs/results/cost-curve.png docs/results/data/cost-*.json

A file's name says the price: what 100,000 operations of a decision add to the loss.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

INK, COLOUR = "#1d1f24", "#c8553d"


def operations(run: dict[str, Any]) -> float:
    """Synaptic operations of spikes, a decision: the first layer hears pixels."""
    heard = sum(float(layer["synops_structural"]) for layer in run["layers"][1:])
    return heard / int(run["decisions"])


def price(path: Path) -> float:
    """The price that a file's name states."""
    return float(path.stem.partition("-")[2])


def main(picture: Path, *files: Path) -> None:
    """Draw the curve, and print it as a table."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = [(price(path), json.loads(path.read_text())) for path in sorted(files, key=price)]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    print("| price | operations | return | games |\n|---|---|---|---|")
    for strength, run in runs:
        returns = [float(game["return"]) for game in run["episodes"]]
        across, mean = operations(run) / 1000, float(run["mean_return"])
        axis.plot([across] * len(returns), returns, "o", color=COLOUR, alpha=0.2, ms=5, mew=0)
        axis.plot(across, mean, "o", color=COLOUR, ms=8)
        axis.annotate(
            f"{strength:g}", (across, mean), (6, 6), textcoords="offset points", color=INK
        )
        print(f"| {strength:g} | {across * 1000:,.0f} | {mean:.1f} | {len(returns)} |")
    axis.set_xlabel("synaptic operations of spikes a decision, thousands")
    axis.set_ylabel("return of a game")
    axis.set_xlim(left=0)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(picture, dpi=140)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

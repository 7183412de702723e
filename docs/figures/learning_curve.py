"""Draw training returns: python docs/figures/learning_curve.py LOG.jsonl [...] PICTURE.png."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

DECISIONS = "agent decisions over all games (four frames each), millions"
GAMES = ("returns", "mean return", DECISIONS)
IMAGES = ("test_accuracy", "test accuracy", "passes over the images")


def main(logs: list[Path], picture: Path) -> None:
    """A panel a game: mean unclipped training return of its last 30 episodes.

    Of image sets: a panel a set, its test accuracy after every pass.

    A dotted line stands where the entry ``run`` changes: another run went on from there.
    Several logs are named by their folders; those that differ only in a last ``-NUMBER``, the
    seed, have one colour.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    runs = {log: [json.loads(line) for line in log.read_text().splitlines()] for log in logs}
    scores, unit, along = GAMES if "returns" in runs[logs[0]][-1] else IMAGES
    games = list(runs[logs[0]][-1][scores])
    size = (7, 1.2 + 1.6 * len(games)) if len(games) > 1 else (7, 3.2)
    figure, axes = plt.subplots(
        len(games), 1, figsize=size, sharex=True, squeeze=False, layout="constrained"
    )
    colours: dict[str, str] = {}
    for log, records in runs.items():
        name = re.sub(r"-\d+$", "", log.parent.name)
        new = name not in colours
        colour = colours.setdefault(name, f"C{len(colours)}")
        for axis, game in zip(axes[:, 0], games, strict=True):
            label = name if new and len(logs) > 1 else None
            known = [record for record in records if record[scores][game] is not None]
            values = [record[scores][game] for record in known]
            axis.plot([_done(r) for r in known], values, linewidth=1, color=colour, label=label)
            for early, late in itertools.pairwise(records):
                if early.get("run") != late.get("run"):
                    axis.axvline(_done(late), color="grey", linestyle=":")
    for axis, game in zip(axes[:, 0], games, strict=True):
        axis.set_title(game, loc="left", fontsize="medium")
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
    if len(logs) > 1:
        axes[0, 0].legend()
    axes[-1, 0].set_xlabel(along)
    figure.savefig(picture, dpi=110)


def _done(record: dict[str, Any]) -> float:
    return record["steps"] / 1e6 if "steps" in record else record["epoch"]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main([Path(name) for name in sys.argv[1:-1]], Path(sys.argv[-1]))

"""Draw the returns of a training run: python benchmarks/learning_curve.py LOG.jsonl PICTURE.png."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path


def main(log: Path, picture: Path) -> None:
    """A panel a game: mean unclipped training return of its last 30 episodes.

    A dotted line stands where the entry ``run`` changes: another run went on from there.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    games = list(records[-1]["returns"])
    size = (7, 1.2 + 1.6 * len(games)) if len(games) > 1 else (7, 3.2)
    figure, axes = plt.subplots(
        len(games), 1, figsize=size, sharex=True, squeeze=False, layout="constrained"
    )
    borders = [
        late["steps"]
        for early, late in itertools.pairwise(records)
        if early.get("run") != late.get("run")
    ]
    for axis, game in zip(axes[:, 0], games, strict=True):
        points = [
            (r["steps"] / 1e6, r["returns"][game])
            for r in records
            if r["returns"][game] is not None
        ]
        axis.plot(*zip(*points, strict=True), linewidth=1)
        for border in borders:
            axis.axvline(border / 1e6, color="grey", linestyle=":")
        axis.set_title(game, loc="left", fontsize="medium")
        axis.set_ylabel("mean return")
        axis.grid(alpha=0.3)
    axes[-1, 0].set_xlabel("agent decisions over all games (four frames each), millions")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

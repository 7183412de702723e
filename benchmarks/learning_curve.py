"""Draw the returns of a training run: python benchmarks/learning_curve.py LOG.jsonl PICTURE.png."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(log: Path, picture: Path) -> None:
    """One curve a game: mean unclipped training return of its last 30 episodes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for game in records[-1]["returns"]:
        points = [
            (r["steps"], r["returns"][game]) for r in records if r["returns"][game] is not None
        ]
        axis.plot(*zip(*points, strict=True), label=game)
    axis.set_xlabel("agent decisions (four frames each)")
    axis.set_ylabel("mean return of 30 episodes")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

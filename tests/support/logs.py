"""Logs of training runs that nobody trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Lines = list[tuple[int, dict[str, Any]]]


def write_run(folder: Path, seed: int, lines: Lines) -> Path:
    """Write the log of a run: decisions of each line, and its entries."""
    run = folder / f"seed-{seed}"
    run.mkdir(parents=True)
    text = "".join(json.dumps({"steps": steps, **entries}) + "\n" for steps, entries in lines)
    (run / "log.jsonl").write_text(text)
    return folder


def write_runs(folder: Path, scores: dict[int, tuple[float, float]]) -> Path:
    """Write runs of 100 decisions in the tasks a and b, by seed."""
    for seed, (one, other) in scores.items():
        write_run(folder, seed, [(100, {"returns": {"a": one, "b": other}})])
    return folder

"""The folder of a training run: its agent, and what a killed run left in it."""

from __future__ import annotations

import json
from pathlib import Path

from mtspark.core.errors import BadFileError, MtsparkError, one_line
from mtspark.core.files import write_text
from mtspark.train.checkpoint import load_agent

UNFINISHED = (".resume.pt.*.tmp*", ".agent.*.tmp*", ".log.jsonl.*.tmp*")
"""Temporary files of a run that was killed while it wrote."""


def damaged_state(path: Path, error: Exception) -> BadFileError:
    """The error for a state that does not fit its run."""
    reason = one_line(error, 120)
    return BadFileError(f"{path}: does not hold this run's state ({reason}); choose another folder")


def holds_agent(folder: Path, count: str, reached: int) -> bool:
    """Whether a finished run's agent file is its last one; scores may be stored in it, so it stays.

    Args:
        folder: of the run.
        count: the entry of the file that counts progress.
        reached: where the run ended.
    """
    try:
        return bool(load_agent(folder / "agent.pt").training.get(count) == reached)
    except MtsparkError:
        return False


def prepare_folder(folder: Path, count: str, reached: int) -> None:
    """Make the folder, or remove what a killed run left in it.

    That is temporary files, and lines of its log beyond its last checkpoint: those updates are
    repeated.

    Args:
        folder: of the run.
        count: the entry of a log line that counts progress.
        reached: where the run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in UNFINISHED:
        for unfinished in folder.glob(pattern):
            unfinished.unlink(missing_ok=True)
    log = folder / "log.jsonl"
    if log.exists():
        lines = log.read_text(errors="replace").splitlines(keepends=True)
        write_text(log, "".join(line for line in lines if _progress_of(line, count) <= reached))


def _progress_of(line: str, count: str) -> float:
    """Progress that a log line records; infinite for a torn line."""
    try:
        return float(json.loads(line)[count])
    except (ValueError, KeyError, TypeError):
        return float("inf")

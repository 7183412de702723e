"""The folder of a training run: its agent, and what a killed run left in it."""

from __future__ import annotations

from pathlib import Path

from mtspark.core.errors import BadFileError, MtsparkError, one_line
from mtspark.train.checkpoint import load_agent
from mtspark.train.runs.log import trim_log

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

    Raises:
        BadFileError: its log is no run's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trim_log(folder, count, reached)
    for pattern in UNFINISHED:
        for unfinished in folder.glob(pattern):
            unfinished.unlink(missing_ok=True)

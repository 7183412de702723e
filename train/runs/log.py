"""The log of a run, ``log.jsonl``: a line an update, which a killed run may have torn."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadFileError
from mtspark.core.files import reason_of, write_bytes

LOG_FILE = "log.jsonl"
COUNTS = ("steps", "epoch")
"""Entries of a line that count progress: of games, and of image sets."""
LONGEST_LINE = 2**20
"""Bytes that are looked at of a line of a file that may be anything."""

_log = logging.getLogger(__name__)


def trim_log(folder: Path, count: str, reached: int) -> None:
    """Remove what a killed run logged beyond its last checkpoint: those updates are repeated.

    Lines that are no records of a run are left out and kept with the whole log as it was, in
    ``log.jsonl.damaged``; that is said.

    Args:
        folder: of the run.
        count: the entry of a line that counts progress.
        reached: where the run goes on.

    Raises:
        BadFileError: the log holds no record at all; it is left as it is.
    """
    path = folder / LOG_FILE
    if not path.exists():
        return
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    if lines and _is_torn(lines[-1], count):
        lines.pop()
    done = {line: progress_of(line, count) for line in lines}
    strange = sum(done[line] is None for line in lines)
    if strange and strange == len(lines):
        raise BadFileError(
            f"{path}: is no log of a training run; move it elsewhere, or choose another folder"
        )
    if strange:
        write_bytes(path.with_name(f"{LOG_FILE}.damaged"), content)
        _log.warning(
            "%s: %d of its %d lines are no records of a run and are left out; the file as it was "
            "is kept as %s.damaged",
            path,
            strange,
            len(lines),
            LOG_FILE,
        )
    kept = b"".join(
        line for line in lines if (progress := done[line]) is not None and progress <= reached
    )
    write_bytes(path, kept)


def reached_of(folder: Path) -> float:
    """What a run has logged last, as decisions or epochs; 0 where there is no log yet.

    A line that is being written is not looked at. Only the end of the file is read, so that a
    command may look often.
    """
    try:
        with (folder / LOG_FILE).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_LINE))
            lines = file.read().splitlines(keepends=True)
    except OSError:
        return 0.0
    for line in reversed(lines):
        for count in COUNTS:
            reached = progress_of(line, count) if line.endswith(b"\n") else None
            if reached is not None:
                return reached
    return 0.0


def records_of(folder: Path, count: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a run's log, in order; lines that are none are left out.

    Args:
        folder: of the run.
        count: the entry of a line that counts progress.

    Raises:
        BadFileError: there is no log, or it cannot be read.
    """
    path = folder / LOG_FILE
    try:
        with path.open("rb") as file:
            for line in file:
                if progress_of(line, count) is not None:
                    yield json.loads(line)
    except OSError as error:
        raise BadFileError(
            f"{path}: {reason_of(error, path)}; mtspark train writes it at a run's first update"
        ) from error


def is_log_of_another_run(path: Path) -> bool:
    """Whether a log without a checkpoint beside it is not that of a run which had none yet.

    The first checkpoint is saved after the first update, so such a run has logged one at most.
    """
    with path.open("rb") as file:
        lines = [line for line in (file.readline(LONGEST_LINE) for _ in range(2)) if line]
    if not lines:
        return False
    first = any(
        progress_of(lines[0], count) is not None or _is_torn(lines[0], count) for count in COUNTS
    )
    return not first or len(lines) > 1


def progress_of(line: bytes, count: str) -> float | None:
    """Progress that a line records; None for a line that is no record."""
    try:
        progress = float(json.loads(line)[count])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return progress if math.isfinite(progress) else None


def _is_torn(line: bytes, count: str) -> bool:
    """Whether a line is the beginning of a record."""
    begins = line.startswith(b"{") and not line.endswith(b"\n")
    return begins and progress_of(line, count) is None

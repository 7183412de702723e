"""The folder of a training run: is it this run's, and what a killed one leaves there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files.atomic import write_text

if TYPE_CHECKING:
    from mtspark.train.config.games import TrainConfig
    from mtspark.train.images.trainer import ImageConfig


def check_same_run(saved: Any, config: TrainConfig | ImageConfig, folder: Path) -> None:
    """Check that a saved run has this configuration.

    Fields that did not exist when it was saved had today's defaults.

    Args:
        saved: its configuration, as plain values.
        config: this one's.
        folder: of the saved run.

    Raises:
        BadRequestError: they differ; the fields are named.
    """
    standard, now = (
        _flat(json.loads(json.dumps(asdict(each)))) for each in (type(config)(), config)
    )
    before = {**standard, **_flat(saved if isinstance(saved, dict) else {})}
    other = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if other:
        raise BadRequestError(
            f"{folder}: holds a run with another configuration; choose another folder "
            f"({'; '.join(other)[:200]})"
        )


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, value in config.items():
        inner = value if isinstance(value, dict) else {}
        flat.update({f"{name}.{key}": entry for key, entry in inner.items()})
        if not inner:
            flat[name] = value
    return flat


def damaged_state(path: Path, error: Exception) -> BadFileError:
    """The error for a state that does not fit its run."""
    reason = " ".join(str(error).split())[:120]
    return BadFileError(f"{path}: does not hold this run's state ({reason}); choose another folder")


def prepare_folder(folder: Path, count: str, reached: int) -> None:
    """Make the folder, or clear what a killed run has left in it.

    Dropped are files that it was just writing, and lines of its log past its last checkpoint:
    those updates are made again.

    Args:
        folder: of the run.
        count: the entry of a log line that counts progress.
        reached: where the run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (".resume.pt.*.tmp*", ".agent.*.tmp*", ".log.jsonl.*.tmp*"):
        for unfinished in folder.glob(pattern):
            unfinished.unlink(missing_ok=True)
    log = folder / "log.jsonl"
    if log.exists():
        lines = log.read_text(errors="replace").splitlines(keepends=True)
        kept = [line for line in lines if _progress_of(line, count) <= reached]
        write_text(log, "".join(kept))


def _progress_of(line: str, count: str) -> float:
    """Progress that a log line tells; of a torn line: beyond any."""
    try:
        return float(json.loads(line)[count])
    except (ValueError, KeyError, TypeError):
        return float("inf")


@dataclass
class Kept:
    """Where a run goes on if it is stopped now: its last checkpoint, 0 for none."""

    reached: int


@contextmanager
def interruption_tells(unit: str, reached: int) -> Iterator[Kept]:
    """Have Ctrl-C say how to go on; the block notes every checkpoint in what it is given.

    Args:
        unit: what a run counts: decision, epoch.
        reached: where it begins.

    Raises:
        KeyboardInterrupt: on Ctrl-C, with a message.
    """
    kept = Kept(reached)
    try:
        yield kept
    except KeyboardInterrupt:
        place = f"{unit} {kept.reached:,}" if kept.reached else "the start, without a checkpoint"
        raise KeyboardInterrupt(f"the same command goes on from {place}") from None

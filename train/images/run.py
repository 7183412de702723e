"""A training run on images in its folder: checkpoints, resuming, test accuracy, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtspark.core.files import AnyPath
from mtspark.core.progress import ProgressCallback, no_progress
from mtspark.train.checkpoint import load_plain
from mtspark.train.config import ImageConfig, notes
from mtspark.train.images.data import ImageSet
from mtspark.train.images.trainer import ImageTrainer, accuracy
from mtspark.train.runs import (
    AGENT_FILE,
    RESUME_FILE,
    AgentFile,
    Checkpoints,
    LogFile,
    ProgressReports,
    Run,
    RunCallback,
    TensorBoard,
    Update,
    check_same_run,
    damaged_state,
    prepare_folder,
    running,
)

RUN_FORMAT = "mtspark-images"
STATE = ("network", "optimizer", "epoch")
"""Entries of the saved state of a run."""


@dataclass(frozen=True)
class ImageTrainingResult:
    """A finished training run on images.

    Attributes:
        path: of the agent file.
        epochs: over all phases.
        accuracies: of the float network on each set's test images.
        notes: see :func:`mtspark.train.config.notices.notes`.
    """

    path: Path
    epochs: int
    accuracies: dict[str, float]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON holds it."""
        return {
            "path": str(self.path),
            "epochs": self.epochs,
            "test_accuracy": self.accuracies,
            "notes": list(self.notes),
        }


def train_images(
    config: ImageConfig,
    training: list[ImageSet],
    test: list[ImageSet],
    folder: AnyPath,
    *,
    progress: ProgressCallback = no_progress,
    callbacks: Sequence[RunCallback] = (),
) -> ImageTrainingResult:
    """Train, or resume the run in `folder`, until all epochs are done.

    Writes ``log.jsonl`` (a line an epoch, with test accuracies), TensorBoard's files,
    ``resume.pt`` (every epoch) and, at the end, ``agent.pt``.

    Args:
        config: of the run.
        training: an image set for each task.
        test: likewise.
        folder: of the run.
        progress: receives epochs and accuracies.
        callbacks: called after those that write the folder.

    Raises:
        BadRequestError: the folder holds a run with another configuration.
        BadFileError: its checkpoint is damaged.
        KeyboardInterrupt: on Ctrl-C, with a message that says where the run resumes.
    """
    folder = Path(folder)
    trainer = ImageTrainer(config, training)
    if (folder / RESUME_FILE).exists():
        _resume(trainer, folder)
    prepare_folder(folder, "epoch", trainer.epoch)
    run = Run(folder, trainer, RUN_FORMAT, "epochs", config.passes, trainer.epoch)
    writers = (LogFile(), TensorBoard(), Checkpoints(), AgentFile())
    reports = ProgressReports(progress, "images")
    accuracies: dict[str, float] | None = None
    with running(run, (*writers, *callbacks, reports)) as notify:
        while not trainer.finished:

            def on_batch(share: float, before: int = trainer.epoch) -> None:
                notify.on_part(run, before + share)

            update = _updated(trainer, test, on_batch)
            accuracies, run.reached = update.record["test_accuracy"], trainer.epoch
            notify.on_update(run, update)
            notify.on_checkpoint(run)
    # Of a run that was finished before, none are known yet.
    known = _accuracies(trainer, test) if accuracies is None else accuracies
    return ImageTrainingResult(
        path=folder / AGENT_FILE,
        epochs=trainer.epoch,
        accuracies=known,
        notes=tuple(notes(config)),
    )


def _updated(
    trainer: ImageTrainer, test: list[ImageSet], on_batch: Callable[[float], None]
) -> Update:
    """Learn for one epoch."""
    started = time.monotonic()
    loss = trainer.run_epoch(on_batch)
    accuracies = _accuracies(trainer, test)
    record = {
        "epoch": trainer.epoch,
        "loss": round(loss, 5),
        "test_accuracy": accuracies,
        "seconds": round(time.monotonic() - started, 1),
    }
    shares = {f"test accuracy/{name}": share for name, share in accuracies.items()}
    summary = "  ".join(f"{name} {share:.1%}" for name, share in accuracies.items())
    return Update(record, {"training/loss": loss, **shares}, summary)


def _accuracies(trainer: ImageTrainer, test: list[ImageSet]) -> dict[str, float]:
    return {
        part.name: round(accuracy(trainer.network, part, task), 4) for task, part in enumerate(test)
    }


def _resume(trainer: ImageTrainer, folder: Path) -> None:
    """Restore the state that a folder holds."""
    path = folder / RESUME_FILE
    saved = load_plain(path, RUN_FORMAT)
    check_same_run(saved.get("config"), trainer.config, folder)
    try:
        trainer.restore(saved["state"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise damaged_state(path, error) from error

"""A training run on images in its folder: checkpoints, resuming, test accuracy, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    FORMATS,
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
    holds_agent,
    prepare_folder,
    running,
    save_and_stop,
)

RUN_FORMAT = FORMATS[ImageConfig]
SAVE_EVERY_S = 60.0
"""Time between two checkpoints within an epoch; they do not change what is learned."""
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
        started_at: epochs of earlier calls; equal to `epochs` where the run was finished before.
    """

    path: Path
    epochs: int
    accuracies: dict[str, float]
    notes: tuple[str, ...]
    started_at: int = field(default=0, compare=False)

    @property
    def is_new(self) -> bool:
        """Whether this call trained; otherwise the run was finished before."""
        return self.epochs > self.started_at

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
    ``resume.pt`` (every epoch, every minute within one, and on Ctrl-C, SIGTERM or SIGHUP) and, at
    the end, ``agent.pt``.

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
        DivergedError: the loss or a weight is not finite; what was saved before stays.
        StoppedError: on a signal, after a checkpoint; the message says where the run resumes.
        KeyboardInterrupt: on a second one, without a checkpoint.
    """
    folder = Path(folder)
    trainer = ImageTrainer(config, training)
    if (folder / RESUME_FILE).exists():
        _resume(trainer, folder)
    started_at = trainer.epoch
    prepare_folder(folder, "epoch", started_at)
    run = Run(folder, trainer, RUN_FORMAT, "epochs", config.passes, trainer.epoch)
    writers = (LogFile(), TensorBoard(), Checkpoints(), AgentFile())
    reports = ProgressReports(progress, "images")
    accuracies: dict[str, float] | None = None
    saved_at = [time.monotonic()]
    if not (trainer.finished and holds_agent(folder, "epochs", started_at)):
        with running(run, (*writers, *callbacks, reports)) as notify:
            while not trainer.finished:

                def on_batch(share: float, before: int = trainer.epoch) -> None:
                    run.reached = before + share
                    notify.on_part(run, run.reached)
                    save_and_stop(run, notify)
                    if time.monotonic() - saved_at[-1] > SAVE_EVERY_S:
                        notify.on_checkpoint(run)
                        saved_at[:] = [time.monotonic()]

                update = _updated(trainer, test, on_batch)
                accuracies, run.reached = update.record["test_accuracy"], trainer.epoch
                notify.on_update(run, update)
                notify.on_checkpoint(run)
                saved_at[:] = [time.monotonic()]
                save_and_stop(run, notify)
    # Of a run that was finished before, none are known yet.
    known = _accuracies(trainer, test) if accuracies is None else accuracies
    return ImageTrainingResult(
        path=folder / AGENT_FILE,
        epochs=trainer.epoch,
        accuracies=known,
        notes=tuple(notes(config)),
        started_at=started_at,
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

"""Callbacks of a training run: its log, TensorBoard, checkpoints, agent files and progress.

A training loop holds a :class:`Run`, and calls its callbacks when it starts, after every update,
at every checkpoint and at its end (the habit of stable-baselines3's callbacks). The standard ones
write the run's folder; a caller may add its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from mtspark.core.progress import Progress, ProgressCallback
from mtspark.train.checkpoint import Agent, save_agent, save_whole
from mtspark.train.config import ImageConfig, TrainConfig

RESUME_FILE, LOG_FILE, AGENT_FILE = "resume.pt", "log.jsonl", "agent.pt"


class Trainable(Protocol):
    """What callbacks need of a trainer."""

    @property
    def config(self) -> TrainConfig | ImageConfig:
        """The configuration of the run."""

    def agent(self) -> Agent:
        """The agent as it is now."""

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""


@dataclass
class Run:
    """A training run as its callbacks see it.

    Attributes:
        folder: of the run.
        trainer: what learns.
        run_format: the format name in its resume.pt.
        unit: what `reached` and `total` count, in the plural: decisions, epochs.
        total: units planned.
        reached: units done.
        saved: units done at the last checkpoint, where a stopped run goes on; 0 for none.
    """

    folder: Path
    trainer: Trainable
    run_format: str
    unit: str
    total: int
    reached: int
    saved: int = field(init=False)

    def __post_init__(self) -> None:
        self.saved = self.reached


@dataclass(frozen=True)
class Update:
    """The outcome of one update.

    Attributes:
        record: the line of log.jsonl.
        scalars: TensorBoard's, by tag.
        summary: scores in a few words.
    """

    record: dict[str, Any]
    scalars: dict[str, float]
    summary: str


class RunCallback:
    """Base class: every method does nothing. Exceptions end the run."""

    def on_start(self, run: Run) -> None:
        """The run starts, or resumes, at `run.reached`."""

    def on_part(self, run: Run, done: float) -> None:
        """An update is under way; `done` units are done, parts of one included."""

    def on_update(self, run: Run, update: Update) -> None:
        """An update is over; `run.reached` includes it."""

    def on_checkpoint(self, run: Run) -> None:
        """The state of `run.trainer` is to be saved."""

    def on_end(self, run: Run) -> None:
        """All updates are over and the last checkpoint is saved."""

    def close(self) -> None:
        """Release files; called however the run ends."""


class CallbackList(RunCallback):
    """Several callbacks as one, called in order."""

    def __init__(self, callbacks: Sequence[RunCallback]) -> None:
        self.callbacks = tuple(callbacks)

    def on_start(self, run: Run) -> None:
        """Forward to every callback."""
        for callback in self.callbacks:
            callback.on_start(run)

    def on_part(self, run: Run, done: float) -> None:
        """Forward to every callback."""
        for callback in self.callbacks:
            callback.on_part(run, done)

    def on_update(self, run: Run, update: Update) -> None:
        """Forward to every callback."""
        for callback in self.callbacks:
            callback.on_update(run, update)

    def on_checkpoint(self, run: Run) -> None:
        """Forward to every callback."""
        for callback in self.callbacks:
            callback.on_checkpoint(run)

    def on_end(self, run: Run) -> None:
        """Forward to every callback."""
        for callback in self.callbacks:
            callback.on_end(run)

    def close(self) -> None:
        """Forward to every callback."""
        for callback in self.callbacks:
            callback.close()


class LogFile(RunCallback):
    """Appends the record of every update to ``log.jsonl``."""

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def on_start(self, run: Run) -> None:
        """Open the file."""
        self._file = (run.folder / LOG_FILE).open("a")

    def on_update(self, run: Run, update: Update) -> None:
        """Write one line."""
        assert self._file is not None
        self._file.write(json.dumps(update.record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class TensorBoard(RunCallback):
    """Writes the scalars of every update; show them with ``tensorboard --logdir FOLDER``.

    Scalars that an earlier start of the run wrote beyond its last checkpoint are dropped: those
    updates are repeated.
    """

    def __init__(self) -> None:
        self._writer: Any = None

    def on_start(self, run: Run) -> None:
        """Open an event file."""
        from tensorboardX import SummaryWriter

        folder = run.folder / "tensorboard"
        self._writer = SummaryWriter(str(folder), purge_step=run.reached + 1)

    def on_update(self, run: Run, update: Update) -> None:
        """Add the scalars."""
        for tag, value in update.scalars.items():
            self._writer.add_scalar(tag, value, run.reached)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


class Checkpoints(RunCallback):
    """Writes ``resume.pt``, from which the run resumes."""

    def on_checkpoint(self, run: Run) -> None:
        """Replace the file."""
        content = {
            "format": run.run_format,
            "config": json.loads(json.dumps(asdict(run.trainer.config))),
            "state": run.trainer.state(),
        }
        save_whole(content, run.folder / RESUME_FILE)
        run.saved = run.reached


class AgentFile(RunCallback):
    """Writes ``agent.pt`` at the end and, if asked, every so many seconds."""

    def __init__(self, every_s: float = float("inf")) -> None:
        self._every_s = every_s

    def on_start(self, run: Run) -> None:
        """Start the clock."""
        self._saved_at = time.monotonic()

    def on_update(self, run: Run, update: Update) -> None:
        """Save the agent if it is time to."""
        if time.monotonic() - self._saved_at > self._every_s:
            self.on_end(run)
            self._saved_at = time.monotonic()

    def on_end(self, run: Run) -> None:
        """Save the agent."""
        save_agent(run.trainer.agent(), run.folder / AGENT_FILE)


class ProgressReports(RunCallback):
    """Reports to a :data:`mtspark.core.progress.ProgressCallback`."""

    def __init__(self, progress: ProgressCallback, stage: str) -> None:
        self._progress, self._stage, self._summary = progress, stage, ""

    def on_start(self, run: Run) -> None:
        """Report where the run starts."""
        self.on_part(run, run.reached)

    def on_part(self, run: Run, done: float) -> None:
        """Report `done` with the scores of the last update."""
        self._progress(Progress(self._stage, done, run.total, run.unit, self._summary))

    def on_update(self, run: Run, update: Update) -> None:
        """Report the update and its scores."""
        self._summary = update.summary
        self.on_part(run, run.reached)


@contextmanager
def running(run: Run, callbacks: Sequence[RunCallback]) -> Iterator[RunCallback]:
    """Start the callbacks for the block of a training loop, and close them however it ends.

    Yields:
        The callbacks as one; the loop calls `on_part`, `on_update` and `on_checkpoint`.

    Raises:
        KeyboardInterrupt: on Ctrl-C, with a message that says where the run resumes.
    """
    together = CallbackList(callbacks)
    try:
        together.on_start(run)
        yield together
        together.on_end(run)
    except KeyboardInterrupt:
        place = "the start, without a checkpoint"
        if run.saved:
            place = f"{run.unit.removesuffix('s')} {run.saved:,}"
        raise KeyboardInterrupt(f"the same command goes on from {place}") from None
    finally:
        together.close()

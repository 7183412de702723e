"""Callbacks of a training run: its log, TensorBoard, checkpoints, agent files and progress.

A training loop holds a :class:`Run`, and calls its callbacks when it starts, after every update,
at every checkpoint and at its end (the habit of stable-baselines3's callbacks). The standard ones
write the run's folder; a caller may add its own.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from mtspark.core.errors import BadFileError, DivergedError
from mtspark.core.files import UnwritableError, is_full, reason_of
from mtspark.core.progress import Progress, ProgressCallback
from mtspark.train.checkpoint import Agent, save_agent, save_whole
from mtspark.train.config import ImageConfig, TrainConfig, config_to_json
from mtspark.train.runs.log import LOG_FILE
from mtspark.train.runs.stopping import StoppedError, StopRequest, stop_requests

_NUMBERS = itertools.count()
"""Tells event files apart that are opened within one second."""
RESUME_FILE, AGENT_FILE = "resume.pt", "agent.pt"


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
        reached: units done, with a part of one where the trainer can be saved within it.
        saved: units done at the last checkpoint, where a stopped run goes on; None without one.
        stop: whether a signal has asked the loop to stop.
    """

    folder: Path
    trainer: Trainable
    run_format: str
    unit: str
    total: int
    reached: float
    saved: float | None = field(init=False)
    stop: StopRequest = field(init=False, default_factory=StopRequest)

    def __post_init__(self) -> None:
        self.saved = self.reached if (self.folder / RESUME_FILE).exists() else None

    @property
    def place(self) -> str:
        """Where a stopped run goes on, in words."""
        if self.saved is None:
            return "the start, without a checkpoint"
        whole = self.saved == int(self.saved)
        return f"{self.unit.removesuffix('s')} {self.saved:,.{0 if whole else 2}f}"


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
        """Close the file; each update was flushed, or its error was told."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


class TensorBoard(RunCallback):
    """Writes the scalars of every update; show them with ``tensorboard --logdir FOLDER``.

    Scalars that an earlier start of the run wrote beyond its last checkpoint are dropped: those
    updates are repeated. They are written here and at once, not by the thread of tensorboardX's
    SummaryWriter: its queue may still hold some after a flush, and of a full disk nobody hears.
    """

    def __init__(self) -> None:
        self._writer: Any = None

    def on_start(self, run: Run) -> None:
        """Open an event file."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder = run.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{next(_NUMBERS)}")
        begun = SessionLog(status=SessionLog.START)
        # TensorBoard drops what other files hold from this step on.
        step = int(run.reached) + 1
        self._writer.write_event(Event(wall_time=time.time(), step=step, session_log=begun))

    def on_update(self, run: Run, update: Update) -> None:
        """Add the scalars."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for tag, value in update.scalars.items():
            summary = scalar(tag, value)
            event = Event(wall_time=time.time(), step=int(run.reached), summary=summary)
            self._writer.write_event(event)

    def on_checkpoint(self, run: Run) -> None:
        """Bring what was written to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is pending; of a full disk, a checkpoint tells."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()


class Checkpoints(RunCallback):
    """Writes ``resume.pt``, from which the run resumes."""

    def on_checkpoint(self, run: Run) -> None:
        """Replace the file."""
        content = {
            "format": run.run_format,
            "config": json.loads(json.dumps(config_to_json(run.trainer.config))),
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

    Within the block a signal sets `run.stop`; the loop then calls :func:`save_and_stop` as soon
    as its trainer can be saved.

    Yields:
        The callbacks as one; the loop calls `on_part`, `on_update` and `on_checkpoint`.

    Raises:
        KeyboardInterrupt: on Ctrl-C, with a message that says where the run resumes.
        DivergedError: the trainer raised it; the message says what is left, and what to do.
        BadFileError: the disk is full; likewise.
    """
    together = CallbackList(callbacks)
    try:
        with stop_requests() as run.stop:
            together.on_start(run)
            yield together
            together.on_end(run)
    except DivergedError as error:
        raise DivergedError(f"{run.folder}: {_diverged(run, error)}") from None
    except StoppedError:
        raise
    except (OSError, UnwritableError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or not is_full(cause):
            raise
        raise BadFileError(_full(run, cause)) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_goes_on(run)) from None
    finally:
        together.close()


def save_and_stop(run: Run, notify: RunCallback) -> None:
    """Save the run and end it, if a signal has asked for that.

    Raises:
        StoppedError: one has; the message says where the run resumes.
    """
    if run.stop.signal is None:
        return
    if run.saved != run.reached:
        notify.on_checkpoint(run)
    raise StoppedError(_goes_on(run), run.stop.signal)


def _diverged(run: Run, error: DivergedError) -> str:
    """What diverged and where, which files hold sound weights, and what to do."""
    rate = f"a learning_rate below {run.trainer.config.learning_rate:g}"
    agent = (run.folder / AGENT_FILE).exists()
    said = f"training diverged after {run.unit.removesuffix('s')} {run.reached:,.6g}: {error}; "
    if run.saved is None:
        # Without a checkpoint, the folder takes a run of another configuration.
        kept = f"{AGENT_FILE} is as it was" if agent else "nothing was saved"
        return f"{said}{kept}; train with {rate}"
    kept = f"{RESUME_FILE} ({run.place})" + (f" and {AGENT_FILE} are" if agent else " is")
    return f"{said}{kept} as before; train with {rate}, in another folder"


def _full(run: Run, error: OSError) -> str:
    """Which folder has no room, what is safe in it, and what to do."""
    said = f"{run.folder}: cannot be written ({reason_of(error, run.folder)}); "
    if run.saved is None:
        return f"{said}nothing was saved yet; free some space and run the same command again"
    return f"{said}{RESUME_FILE} is as before; free some space, and {_goes_on(run)}"


def _goes_on(run: Run) -> str:
    return f"the same command goes on from {run.place}"

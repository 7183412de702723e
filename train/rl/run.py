"""A training run on games in its folder: checkpoints, resuming, agent files, progress."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from mtspark.core.environments import rate_note
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.train.checkpoint import load_plain, save_agent
from mtspark.train.config import TrainConfig, notes, run_environments
from mtspark.train.rl.bcq import BcqTrainer
from mtspark.train.rl.dqn import DqnTrainer
from mtspark.train.rl.iql import IqlTrainer
from mtspark.train.rl.ppo import PpoTrainer
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.sac import SacTrainer
from mtspark.train.rl.trainer import Trainer
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

RUN_FORMAT = FORMATS[TrainConfig]
AGENT_EVERY_S = 300
TRAINERS: dict[str, type[Trainer]] = {
    **{"pqn": PqnTrainer, "dqn": DqnTrainer},
    **{"ppo": PpoTrainer, "sac": SacTrainer, "iql": IqlTrainer, "bcq": BcqTrainer},
}
DAMAGED = (*(KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError, OSError),)
"""Errors of a state that does not fit its run."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished training run on games.

    Attributes:
        path: of the agent file.
        steps: agent decisions over all games.
        unit: what `steps` counts: decisions, or gradient steps where nothing is played.
        started_at: decisions of earlier calls; equal to `steps` where the run was finished before.
        episodes: finished episodes of all games.
        returns: mean unclipped return of each game's last 30 episodes; None before the first.
        success: share of each game's last 30 episodes whose task was solved, of environments that
            say so.
        notes: see :func:`mtspark.train.config.notices.notes`; also what the games show that the
            agent cannot see, and where the run was resumed, what could not be brought back.
    """

    path: Path
    steps: int
    episodes: int
    returns: dict[str, float | None]
    notes: tuple[str, ...]
    started_at: int = field(default=0, compare=False)
    unit: str = field(default="decisions", compare=False)
    success: dict[str, float] = field(default_factory=dict)

    @property
    def is_new(self) -> bool:
        """Whether this call trained; otherwise the run was finished before."""
        return self.steps > self.started_at

    def to_json(self) -> dict[str, Any]:
        """The result as JSON holds it."""
        return {
            "path": str(self.path),
            "steps": self.steps,
            "episodes": self.episodes,
            "returns": self.returns,
            **({"success": self.success} if self.success else {}),
            "notes": list(self.notes),
        }


def train(
    config: TrainConfig,
    folder: AnyPath,
    *,
    progress: ProgressCallback = no_progress,
    callbacks: Sequence[RunCallback] = (),
) -> TrainingResult:
    """Train, or resume the run in `folder`, until `config.total_steps`.

    Writes ``log.jsonl`` (a line an update), TensorBoard's files, ``resume.pt`` (at every
    checkpoint) and ``agent.pt`` (every five minutes and at the end). With the schedule sequential,
    ``agent.after-TASK.pt`` is the agent at the end of each task's share.

    The first checkpoint is saved after the first update, the next ones where the decisions have
    doubled, until they are `config.checkpoint_every_steps` apart. A run that is killed, at
    whatever moment, resumes from its last checkpoint: a file replaces an older one only when it
    is complete. On Ctrl-C, SIGTERM or SIGHUP the update is finished and saved. Neither
    checkpoints nor stops change what is learned.
    :func:`mtspark.train.runs.setup.only_run_in` keeps a second run out of the folder.

    Args:
        config: of the run.
        folder: of the run.
        progress: receives decisions and returns.
        callbacks: called after those that write the folder.

    Raises:
        BadRequestError: the folder holds a run with another configuration, or memory is short.
        BadFileError: its checkpoint is damaged.
        DivergedError: the loss or a weight is not finite; what was saved before stays.
        StoppedError: on a signal, after a checkpoint; the message says where the run resumes.
        KeyboardInterrupt: on a second one, without a checkpoint.
    """
    try:
        return _train(config, Path(folder), progress, callbacks)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and (
            "can't allocate memory" not in str(error)
        ):
            raise
        raise BadRequestError(
            "this run needs more memory than there is; lower games_per_task, rollout_steps or the "
            "network's sizes, or raise minibatches"
        ) from error


def _train(
    config: TrainConfig,
    folder: Path,
    progress: ProgressCallback,
    callbacks: Sequence[RunCallback],
) -> TrainingResult:
    resumed = (folder / RESUME_FILE).exists()
    trainer = make_trainer(config, resumed=resumed)
    said = _resume(trainer, folder, progress) if resumed else ()
    prepare_folder(folder, "steps", trainer.progress.steps)
    # Also the half of one that a stopped run was writing: the disk is counted without it.
    _remove_experience(folder, trainer.progress.steps)
    started_at = trainer.progress.steps
    run = Run(folder, trainer, RUN_FORMAT, trainer.unit, config.total_steps, started_at)
    if not (trainer.finished and holds_agent(folder, "steps", started_at)):
        writers = (LogFile(), TensorBoard(), ReplayCheckpoints(), AgentOfEachGame())
        reports = ProgressReports(progress, "training")
        with running(run, (*writers, AgentFile(AGENT_EVERY_S), *callbacks, reports)) as notify:
            _loop(trainer, run, notify)
    games = trainer.games
    return TrainingResult(
        path=folder / AGENT_FILE,
        steps=trainer.progress.steps,
        started_at=started_at,
        unit=trainer.unit,
        episodes=games.episodes,
        returns=games.mean_returns(),
        success=games.success_rates(),
        notes=(
            *(*notes(config), *said, *trainer.notes()),
            *(note for game in games for note in game.notes),
            *_notes_of_rates(config),
        ),
    )


def _notes_of_rates(config: TrainConfig) -> list[str]:
    """Which environments nobody told the rate of, a line each."""
    if not config.worlds:
        return []
    asked = run_environments(config.games, config.environments, config.task_context)
    return list(filter(None, map(rate_note, asked)))


def _loop(trainer: Trainer, run: Run, notify: RunCallback) -> None:
    """Make all updates, and save at every checkpoint and at the end."""
    checkpoint_at = 0
    while not trainer.finished:
        update = _updated(trainer)
        run.reached = trainer.progress.steps
        notify.on_update(run, update)
        if run.reached >= checkpoint_at:
            notify.on_checkpoint(run)
            checkpoint_at = _next_checkpoint(trainer.progress.steps, trainer.config)
        save_and_stop(run, notify)
    if run.saved != run.reached:
        notify.on_checkpoint(run)


def make_trainer(config: TrainConfig, *, resumed: bool = False) -> Trainer:
    """Build the trainer of a configuration's algorithm.

    Args:
        config: of the run.
        resumed: its state will be restored.
    """
    return TRAINERS[config.algorithm](config, resumed=resumed)


class ReplayCheckpoints(Checkpoints):
    """Checkpoints with the trainer's experience beside them, in ``replay.STEPS``."""

    def on_checkpoint(self, run: Run) -> None:
        """Replace the checkpoint and its experience."""
        # The old experience stays until the state that needs it is replaced.
        experience = _experience(run.folder, int(run.reached))
        shutil.rmtree(experience, ignore_errors=True)
        try:
            cast(Trainer, run.trainer).save_experience(experience)
            super().on_checkpoint(run)
        except (Exception, KeyboardInterrupt):
            # A full disk, a second Ctrl-C: the last checkpoint needs its own experience only.
            shutil.rmtree(experience, ignore_errors=True)
            raise
        _remove_experience(run.folder, int(run.reached))


class AgentOfEachGame(RunCallback):
    """Saves the agent at the end of each game's share of a sequential run."""

    def on_update(self, run: Run, update: Update) -> None:
        """Save the agent if the update was the last of its game."""
        trainer = cast(Trainer, run.trainer)
        if trainer.config.schedule != "sequential":
            return
        (game,) = update.record["tasks"]
        if trainer.config.games[trainer.active[0]] != game:
            # Its task's name is one of a file, which a module:ns/World-v0 is not.
            name = trainer.tasks[trainer.config.games.index(game)].name
            save_agent(trainer.agent(), run.folder / f"agent.after-{name}.pt")


def _updated(trainer: Trainer) -> Update:
    """Make one update."""
    config, started = trainer.config, time.monotonic()
    steps_before, playing = trainer.progress.steps, trainer.active
    loss = trainer.update()
    steps, returns = trainer.progress.steps, trainer.games.mean_returns()
    success = trainer.games.success_rates()
    record: dict[str, Any] = {
        "steps": steps,
        "episodes": trainer.games.episodes,
        "epsilon": round(trainer.epsilon, 4),
        "loss": round(loss, 6),
        "tasks": [config.games[index] for index in playing],
        "returns": returns,
        **({"success": success} if success else {}),
        "steps_per_s": round((steps - steps_before) / (time.monotonic() - started), 1),
    }
    measured = trainer.measurements()
    record |= measured
    names = ("loss", "epsilon", "steps_per_s", "episodes")
    scalars: dict[str, float] = {f"training/{name}": record[name] for name in names}
    for game, value in returns.items():
        if value is not None:
            scalars[f"return/{game}"] = value
    scalars |= {f"success/{game}": rate for game, rate in success.items()}
    for name, values in measured.items():
        scalars |= {f"{name}/{of}": value for of, value in values.items() if value is not None}
    played = trainer.unit == Trainer.unit
    summary = "  ".join(
        f"{game} {'-' if value is None else value}"
        + (f" ({success[game]:.0%} solved)" if game in success else "")
        for game, value in returns.items()
    )
    return Update(record, scalars, summary if played else f"loss {loss:.4g}")


def _resume(trainer: Trainer, folder: Path, progress: ProgressCallback) -> tuple[str, ...]:
    """Restore the state that a folder holds; return what a user should know of it."""
    path = folder / RESUME_FILE
    saved = load_plain(path, RUN_FORMAT)
    check_same_run(saved.get("config"), trainer.config, folder)

    def on_decision(done: int, planned: int) -> None:
        progress(Progress("replaying the running games", done, planned, "decisions"))

    try:
        state = saved["state"]
        # Older states lack it; their runs could not be made longer.
        state["schedule"].setdefault("planned", saved["config"]["total_steps"])
        trainer.load_experience(_experience(folder, state["steps"]), state)
        return trainer.restore(state, on_decision)
    except BadRequestError:
        # Such as data of another digest: the checkpoint is sound.
        raise
    except DAMAGED as error:
        raise damaged_state(path, error) from error


def _next_checkpoint(steps: int, config: TrainConfig) -> int:
    """Decisions of the checkpoint after one: where they have doubled, at most the interval on.

    So a young run, stopped in whatever way, loses half of itself at most.
    """
    every = config.checkpoint_every_steps
    return min(2 * steps, (steps // every + 1) * every)


def _experience(folder: Path, steps: int) -> Path:
    return folder / f"replay.{steps}"


def _remove_experience(folder: Path, steps: int) -> None:
    """Remove all experience but that of the checkpoint of so many decisions."""
    for other in folder.glob("replay.*"):
        if other != _experience(folder, steps):
            shutil.rmtree(other, ignore_errors=True)

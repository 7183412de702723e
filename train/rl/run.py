"""A training run on disk: progress, checkpoints, resuming."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mtspark.core.errors import BackendMissingError
from mtspark.train.checkpoint.agent import load_plain, save_agent, save_whole
from mtspark.train.config.games import TrainConfig
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.trainer import Trainer
from mtspark.train.runs.folder import (
    check_same_run,
    damaged_state,
    interruption_tells,
    prepare_folder,
)

RUN_FORMAT = "mtspark-training"
AGENT_EVERY_S = 300
DQN_PACKAGES = ("torchrl", "tensordict")
"""Of the extra ``dqn``."""


def train(config: TrainConfig, folder: Path) -> Path:
    """Train, or go on with what `folder` holds, until `config.total_steps`.

    Writes ``log.jsonl`` (a line an update), ``resume.pt`` (at every checkpoint) and
    ``agent.pt`` (also every five minutes); where games follow one another, also the agent as
    each one left it, ``agent.after-GAME.pt``. Returns the path of the agent.

    A run that is killed, at whatever moment, goes on from its last checkpoint: every file is
    complete before it takes the place of an older one.

    Raises:
        BadRequestError: the folder holds a run with another configuration.
        BadFileError: its checkpoint is damaged.
    """
    trainer = make_trainer(config)
    resume, log, agent_path = folder / "resume.pt", folder / "log.jsonl", folder / "agent.pt"
    if resume.exists():
        saved = load_plain(resume, RUN_FORMAT)
        check_same_run(saved.get("config"), config, folder)
        try:
            state = saved["state"]
            trainer.load_experience(_experience(folder, state["steps"]), state)
            trainer.restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OSError) as error:
            raise damaged_state(resume, error) from error
    prepare_folder(folder, "steps", trainer.progress.steps)
    checkpoint_at = _next_checkpoint(trainer.progress.steps, config)
    agent_saved = time.monotonic()
    with (
        _progress_bar(config) as show,
        log.open("a") as lines,
        _board(folder, trainer.progress.steps) as board,
        interruption_tells("decision", trainer.progress.steps) as kept,
    ):
        while not trainer.finished:
            started = time.monotonic()
            steps_before, playing = trainer.progress.steps, trainer.active
            loss = trainer.update()
            progress = trainer.progress
            record = {
                "steps": progress.steps,
                "episodes": trainer.episodes,
                "epsilon": round(trainer.epsilon, 4),
                "loss": round(loss, 6),
                "tasks": [config.games[index] for index in playing],
                "returns": trainer.mean_returns(),
                "steps_per_s": round(
                    (progress.steps - steps_before) / (time.monotonic() - started), 1
                ),
            }
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            show(record)
            board(record)
            if progress.steps >= checkpoint_at:
                _save(trainer, resume)
                kept.reached = progress.steps
                trainer.restart_games()
                checkpoint_at = _next_checkpoint(progress.steps, config)
            if config.schedule == "sequential" and trainer.active != playing:
                game = config.games[playing[0]]
                save_agent(trainer.agent(), folder / f"agent.after-{game}.pt")
            if time.monotonic() - agent_saved > AGENT_EVERY_S:
                save_agent(trainer.agent(), agent_path)
                agent_saved = time.monotonic()
        _save(trainer, resume)
        kept.reached = trainer.progress.steps
        save_agent(trainer.agent(), agent_path)
    return agent_path


def make_trainer(config: TrainConfig) -> Trainer:
    """The trainer of a configuration's algorithm.

    Raises:
        BackendMissingError: of DQN, without torchrl.
    """
    if config.algorithm == "pqn":
        return PqnTrainer(config)
    # torchrl takes seconds to import.
    try:
        from mtspark.train.rl.dqn import DqnTrainer
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in DQN_PACKAGES:
            raise
        raise BackendMissingError(
            f"the algorithm dqn keeps its replays with {package}, which is not installed; run "
            "`pip install 'mtspark[dqn]'` or train with pqn"
        ) from error

    return DqnTrainer(config)


def _next_checkpoint(steps: int, config: TrainConfig) -> int:
    return (steps // config.checkpoint_every_steps + 1) * config.checkpoint_every_steps


def _save(trainer: Trainer, path: Path) -> None:
    content = {
        "format": RUN_FORMAT,
        "config": json.loads(json.dumps(asdict(trainer.config))),
        "state": trainer.state(),
    }
    # The old experience stays until the state that needs it is replaced.
    experience = _experience(path.parent, trainer.progress.steps)
    shutil.rmtree(experience, ignore_errors=True)
    trainer.save_experience(experience)
    save_whole(content, path)
    for other in path.parent.glob("replay.*"):
        if other != experience:
            shutil.rmtree(other, ignore_errors=True)


def _experience(folder: Path, steps: int) -> Path:
    return folder / f"replay.{steps}"


@contextmanager
def _board(folder: Path, steps: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """TensorBoard's scalars of the run; show them with ``tensorboard --logdir FOLDER``.

    What an earlier start noted beyond `steps` is dropped: those updates are made again.
    """
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard"), purge_step=steps + 1) as writer:

        def note(record: dict[str, Any]) -> None:
            step = record["steps"]
            for name in ("loss", "epsilon", "steps_per_s", "episodes"):
                writer.add_scalar(f"training/{name}", record[name], step)
            for task, value in record["returns"].items():
                if value is not None:
                    writer.add_scalar(f"return/{task}", value, step)

        yield note


@contextmanager
def _progress_bar(config: TrainConfig) -> Iterator[Any]:
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} decisions"),
        TextColumn("{task.fields[returns]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        entry = bar.add_task("training", total=config.total_steps, returns="")

        def show(record: dict[str, Any]) -> None:
            returns = "  ".join(
                f"{name} {'-' if value is None else value}"
                for name, value in record["returns"].items()
            )
            bar.update(entry, completed=record["steps"], returns=returns)

        yield show

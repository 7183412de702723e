"""What the folders of training runs say of their scores and measures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import EvaluationFile, EvaluationRow, first_problem, read_result
from mtspark.train.config import MOST_STEPS
from mtspark.train.runs import LOG_FILE, records_of
from mtspark.workflows.compare.statistics import Scores

ScoreKind = Literal["return", "success"]
KINDS: dict[str, str] = {"return": "returns", "success": "success"}
"""Of a line of the log: the entry that holds the scores of each task."""
MEASURES = ("dormant_ratio", "effective_rank")
SEED_FOLDER = re.compile(r"seed-(\d+)")


@dataclass(frozen=True)
class LoggedRun:
    """The run of one seed.

    Attributes:
        seed: by its folder, ``seed-N``.
        folder: of the run.
        tasks: names.
        steps: (lines,) decisions at each line of its log.
        scores: (lines, tasks) mean score of the last episodes; not a number before the first.
        measures: of each of :data:`MEASURES`, (times, 2) decisions and values.
    """

    seed: int
    folder: Path
    tasks: tuple[str, ...]
    steps: NDArray[np.int64]
    scores: Scores
    measures: Mapping[str, Scores]

    def scores_at(self, steps: int) -> Scores:
        """(tasks,) of the last line up to so many decisions."""
        before = np.searchsorted(self.steps, steps, side="right")
        return self.scores[before - 1] if before else np.full(len(self.tasks), np.nan)

    def measured_at(self, name: str, steps: int) -> float | None:
        """A measure, as last taken up to so many decisions; None where it was not."""
        taken = self.measures[name]
        before = int(np.searchsorted(taken[:, 0], steps, side="right"))
        return float(taken[before - 1, 1]) if before else None


def logged_runs(
    folder: Path, kind: ScoreKind, *, needs_scores: bool = True
) -> tuple[LoggedRun, ...]:
    """Read the runs of all seeds of a folder of ``mtspark train --seeds``, by seed.

    Args:
        folder: with a folder ``seed-N`` for each run.
        kind: of the scores.
        needs_scores: a run without any is refused.

    Raises:
        BadRequestError: there is no run of a seed, or one that logged no such scores.
        BadFileError: a log that cannot be read, or that is none of a run on games.
    """
    found: dict[int, Path] = {}
    for path in folder.glob("seed-*"):
        match = SEED_FOLDER.fullmatch(path.name)
        if match is not None and path.is_dir():
            seed = int(match[1])
            if seed in found:
                twice = " and ".join(sorted((found[seed].name, path.name)))
                raise BadRequestError(
                    f"{folder}: {twice} are of one seed; move one of them elsewhere"
                )
            found[seed] = path
    if not found:
        raise BadRequestError(
            f"{folder}: holds no folder seed-N of a run; train with mtspark train --seeds 1,2,3 "
            f"-o {folder}"
        )
    read = tuple(_logged(seed, path, kind) for seed, path in sorted(found.items()))
    for run in read:
        if needs_scores and np.isnan(run.scores).all():
            raise BadRequestError(_nothing(run.folder, kind))
    return read


def _logged(seed: int, folder: Path, kind: ScoreKind) -> LoggedRun:
    """Read a run's log."""
    path, entry = folder / LOG_FILE, KINDS[kind]
    tasks: tuple[str, ...] = ()
    steps: list[int] = []
    scores: list[list[float]] = []
    taken: dict[str, list[tuple[int, float]]] = {name: [] for name in MEASURES}
    for record in records_of(folder, "steps"):
        returns = record.get("returns")
        if not isinstance(returns, dict) or not returns:
            raise BadFileError(f"{path}: has no returns of games; is no log of a run on games")
        tasks = tasks or tuple(returns)
        values = record.get(entry, {})
        reached = int(record["steps"])
        if not (steps[-1] if steps else 0) <= reached <= MOST_STEPS:
            raise BadFileError(
                f"{path}: line {len(steps) + 1} is of {one_line(str(reached), 30)} decisions, must "
                f"not be fewer than in the line before, and at most {MOST_STEPS:,}; compare logs "
                "of one run each"
            )
        steps.append(reached)
        scores.append([_number(values, task, path) for task in tasks])
        measured = record.get("plasticity", {})
        for name in MEASURES:
            value = _number(measured, name, path)
            if not math.isnan(value):
                taken[name].append((steps[-1], value))
    if not steps:
        raise BadRequestError(f"{path}: has no line yet; wait for the run's first update")
    return LoggedRun(
        seed,
        folder,
        tasks,
        np.array(steps, dtype=np.int64),
        np.array(scores),
        {name: np.array(rows, dtype=float).reshape(-1, 2) for name, rows in taken.items()},
    )


def _nothing(folder: Path, kind: ScoreKind) -> str:
    if kind == "success":
        return (
            f"{folder}: no episode said whether its task was solved; compare returns "
            "(--score return)"
        )
    return (
        f"{folder}: has finished no episode, as a run on recorded data never does; score its "
        "agent by mtspark eval --json eval.json there, and add --scores eval.json"
    )


def _number(values: Any, name: str, path: Path) -> float:
    """Read a number of a record; not a number where there is none."""
    if not isinstance(values, dict):
        raise BadFileError(f"{path}: {one_line(repr(values), 40)} is no table with {name}")
    value = values.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadFileError(f"{path}: {name} is {one_line(repr(value), 40)}, must be a number")
    return float(value)


@dataclass(frozen=True)
class FinalScores:
    """The scores of a run that count.

    Attributes:
        scores: (tasks,).
        protocols: of each evaluated task, how it was played, in words; empty of logged scores.
    """

    scores: Scores
    protocols: tuple[str, ...] = ()


def evaluated_scores(
    run: LoggedRun, name: str, kind: ScoreKind, backend: str | None, tasks: Sequence[str]
) -> FinalScores:
    """Read the scores that ``mtspark eval --json`` has written into a run's folder.

    Args:
        run: whose folder.
        name: of the file there.
        kind: return or success.
        backend: who played, as the file calls it; None: the only one of the file.
        tasks: whose scores.

    Returns:
        Scores, and how they were played.

    Raises:
        BadFileError: there is no such file, or it is none of ``mtspark eval``.
        BadRequestError: it lacks a task, or several players or rows could be meant.
    """
    path = run.folder / name
    content = read_result(path, EvaluationFile, "is no file of mtspark eval --json: {}")
    rows = [row for row in content["rows"] if first_problem(EvaluationRow, row) is None]
    players = list(dict.fromkeys(str(row["backend"]) for row in rows))
    if backend is None and len(players) > 1:
        raise BadRequestError(f"{path}: was played by {', '.join(players)}; choose one: --backend")
    if backend is not None and backend not in players:
        raise BadRequestError(
            f"{path}: was not played by {backend}, but by {', '.join(players) or 'nobody'}"
        )
    entry = "mean_return" if kind == "return" else "success_rate"
    chosen = [row for row in rows if backend is None or row["backend"] == backend]
    for task in tasks:
        sticky = [row["sticky_action_probability"] for row in chosen if row["task"] == task]
        if len(sticky) > 1:
            raise BadRequestError(
                f"{path}: has {len(sticky)} rows of {task} (sticky actions "
                f"{', '.join(f'{one:g}' for one in sticky)}); write one with mtspark eval --json "
                "to a file of its own, without --sticky"
            )
    of_task = {row["task"]: row for row in chosen}
    lacking = [task for task in tasks if of_task.get(task, {}).get(entry) is None]
    if lacking:
        raise BadRequestError(f"{path}: has no {kind} of {', '.join(lacking)}")
    return FinalScores(
        np.array([float(of_task[task][entry]) for task in tasks]),
        tuple(_protocol(of_task[task]) for task in tasks),
    )


def _protocol(row: Mapping[str, Any]) -> str:
    """Say who played a row of an evaluation, until when, and with what chance in it.

    First seeds and numbers of episodes are left out: they move a mean by its own spread alone.
    """
    cut = row.get("max_decisions")
    whole = "whole episodes" if cut is None else f"episodes of at most {cut:,} decisions"
    sticky, drawn = row["sticky_action_probability"], row.get("sampling")
    text = f"{whole} by {row['backend']}" + (f" with sticky actions {sticky:g}" if sticky else "")
    return text if drawn is None else f"{text}, actions drawn at {drawn['temperature']:g}"

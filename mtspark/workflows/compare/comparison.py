"""Compare the training runs of several recipes, over seeds and tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np

from mtspark.core.errors import BadRequestError, one_line
from mtspark.core.files import AnyPath, replacing
from mtspark.workflows.compare.figure import draw
from mtspark.workflows.compare.result import (
    CurvePoint,
    MethodScores,
    PairedDifference,
    RunComparison,
    as_markdown,
)
from mtspark.workflows.compare.runs import (
    MEASURES,
    FinalScores,
    LoggedRun,
    ScoreKind,
    evaluated_scores,
    logged_runs,
)
from mtspark.workflows.compare.statistics import (
    Interval,
    Scores,
    interquartile_mean,
    interval_of,
    interval_of_difference,
)

POINTS = 40
"""Of a curve."""
RESAMPLES_OF_A_POINT = 1000
FEW_SEEDS = 5


def compare_runs(
    folders: Sequence[AnyPath],
    *,
    score: str = "return",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    scores_file: str | None = None,
    backend: str | None = None,
) -> RunComparison:
    """Set the runs of recipes side by side, each trained with several seeds.

    Scores are the interquartile mean over seeds and tasks with a bootstrap interval (Agarwal et al.
    2021, arXiv:2108.13264), and differences from the first recipe are of pairs of the same seed.
    All are compared after the decisions of the run that has gone least far.

    Args:
        folders: of ``mtspark train --seeds``, one for each recipe; the first is the baseline.
        score: return, of each task's last episodes, or success, the share of them that was solved.
        ranges: of a task, the score that becomes 0 and the one that becomes 1; others stay as they
            are.
        scores_file: name of a file of ``mtspark eval --json`` in each run's folder, whose scores
            count instead of those of the log.
        backend: of that file, who played; None: the only one.

    Raises:
        BadRequestError: runs that cannot be compared, or an argument that cannot be.
        BadFileError: a file that cannot be read.
    """
    if score not in get_args(ScoreKind):
        raise BadRequestError(f"score {score!r}: choose {' or '.join(get_args(ScoreKind))}")
    if backend is not None and scores_file is None:
        raise BadRequestError("--backend: of files of mtspark eval; add --scores FILE")
    if isinstance(folders, (str, os.PathLike)):
        raise BadRequestError(
            f"folders: one path, {one_line(os.fspath(folders), 80)}; give a list with one folder "
            "for each recipe"
        )
    kind, paths = cast(ScoreKind, score), [Path(folder) for folder in folders]
    if not paths:
        raise BadRequestError("folders: none given; give those of mtspark train --seeds")
    if len({path.resolve() for path in paths}) < len(paths):
        raise BadRequestError("a folder of runs is named twice; name each once")
    names = _names(paths)
    # Returns are in every log; where evaluations count, they say which tasks there are.
    read = {
        name: logged_runs(path, kind, needs_scores=scores_file is None)
        for name, path in zip(names, paths, strict=True)
    }
    tasks = _tasks_of(read)
    scales = _scales(ranges or {}, tasks)
    reached = sorted(int(run.steps[-1]) for runs in read.values() for run in runs)
    at = reached[0]
    found = {
        name: [_final(run, tasks, at, kind, scores_file, backend) for run in runs]
        for name, runs in read.items()
    }
    scores = {name: np.array([one.scores for one in of_runs]) for name, of_runs in found.items()}
    methods = tuple(
        _method(name, runs, _scaled(scores[name], scales), tasks, at, scales, scores_file is None)
        for name, runs in read.items()
    )
    return RunComparison(
        kind=kind,
        source=scores_file or "",
        steps=at,
        tasks=tasks,
        ranges={task: (float(low), float(high)) for task, (low, high) in (ranges or {}).items()},
        methods=methods,
        differences=tuple(_paired(method, methods[0]) for method in methods[1:]),
        notes=(*_notes(methods, reached, kind, scales), *_played_otherwise(read, found, tasks)),
    )


def write_comparison(comparison: RunComparison, path: AnyPath) -> tuple[Path, Path]:
    """Write the tables as Markdown and a picture beside them, both whole or not at all.

    Returns:
        Both paths.

    Raises:
        BadRequestError: another ending than .md.
        BadFileError: the folder cannot be written.
    """
    page = Path(path)
    check_page(page)
    picture = page.with_suffix(".png")
    content, text = draw(comparison), as_markdown(comparison)
    with replacing(page) as page_file, replacing(picture) as picture_file:
        page_file.write_text(text, encoding="utf-8", errors="backslashreplace")
        picture_file.write_bytes(content)
    return page, picture


def check_page(page: Path) -> None:
    """Check the ending of a page.

    Raises:
        BadRequestError: it is not .md.
    """
    if page.suffix != ".md":
        raise BadRequestError(f"{page}: must end in .md; the picture is written beside it as .png")


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the folders; their whole paths where two have the same."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _tasks_of(read: Mapping[str, tuple[LoggedRun, ...]]) -> tuple[str, ...]:
    first = next(iter(read.values()))[0]
    for runs in read.values():
        for run in runs:
            if set(run.tasks) != set(first.tasks):
                raise BadRequestError(
                    f"{run.folder}: plays {', '.join(run.tasks)}, {first.folder} plays "
                    f"{', '.join(first.tasks)}; compare runs of the same tasks"
                )
    return first.tasks


def _scales(ranges: Mapping[str, tuple[float, float]], tasks: Sequence[str]) -> Scores:
    """(2, tasks) what becomes 0, and how much more becomes 1."""
    strangers = [task for task in ranges if task not in tasks]
    if strangers:
        raise BadRequestError(
            f"range of {', '.join(strangers)}: the runs play {', '.join(tasks)}; name one of these"
        )
    for task, (low, high) in ranges.items():
        if not np.isfinite([low, high]).all() or high <= low:
            raise BadRequestError(f"range of {task}: {low:g} to {high:g}, must rise")
    pairs = [ranges.get(task, (0.0, 1.0)) for task in tasks]
    return np.array([[low for low, _ in pairs], [high - low for low, high in pairs]])


def _scaled(scores: Scores, scales: Scores) -> Scores:
    scaled: Scores = (scores - scales[0]) / scales[1]
    return scaled


def _final(
    run: LoggedRun,
    tasks: tuple[str, ...],
    at: int,
    kind: ScoreKind,
    scores_file: str | None,
    backend: str | None,
) -> FinalScores:
    """The scores of a run that count."""
    if scores_file is not None:
        return evaluated_scores(run, scores_file, kind, backend, tasks)
    scores = _in_order(run, tasks, run.scores_at(at))
    missing = [task for task, value in zip(tasks, scores, strict=True) if np.isnan(value)]
    if missing:
        raise BadRequestError(
            f"{run.folder}: no episode of {', '.join(missing)} had finished after {at:,} "
            "decisions, up to which all runs have come; train longer"
        )
    return FinalScores(scores)


def _in_order(run: LoggedRun, tasks: tuple[str, ...], scores: Scores) -> Scores:
    return scores[[run.tasks.index(task) for task in tasks]]


def _method(
    name: str,
    runs: tuple[LoggedRun, ...],
    scores: Scores,
    tasks: tuple[str, ...],
    at: int,
    scales: Scores,
    has_curve: bool,
) -> MethodScores:
    dormant, rank = (_mean_measure(runs, measure, at) for measure in MEASURES)
    return MethodScores(
        name=name,
        seeds=tuple(run.seed for run in runs),
        scores={task: tuple(map(float, scores[:, n])) for n, task in enumerate(tasks)},
        iqm=interquartile_mean(scores),
        interval=interval_of(scores),
        dormant_ratio=dormant,
        effective_rank=rank,
        curve=_curve(runs, tasks, at, scales) if has_curve else (),
    )


def _mean_measure(runs: Sequence[LoggedRun], name: str, steps: int) -> float | None:
    """Mean over the runs; None where one has not been measured."""
    values = [run.measured_at(name, steps) for run in runs]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(runs) else None


def _curve(
    runs: tuple[LoggedRun, ...], tasks: tuple[str, ...], at: int, scales: Scores
) -> tuple[CurvePoint, ...]:
    """A method's course, from where all of its runs have scores of all tasks."""
    points = []
    for steps in np.unique(np.linspace(0, at, POINTS + 1).astype(int)):
        scores = np.array([_in_order(run, tasks, run.scores_at(int(steps))) for run in runs])
        if np.isnan(scores).any():
            continue
        scores = _scaled(scores, scales)
        points.append(
            CurvePoint(
                int(steps),
                interquartile_mean(scores),
                interval_of(scores, RESAMPLES_OF_A_POINT),
                *(_mean_measure(runs, measure, int(steps)) for measure in MEASURES),
            )
        )
    return tuple(points)


def _paired(method: MethodScores, baseline: MethodScores) -> PairedDifference:
    """A method against the baseline, over the seeds that both have."""
    seeds = tuple(seed for seed in method.seeds if seed in baseline.seeds)
    if not seeds:
        raise BadRequestError(
            f"{method.name} and {baseline.name} have no seed in common; pairs are of the same seed"
        )

    def of(one: MethodScores) -> Scores:
        rows = [one.seeds.index(seed) for seed in seeds]
        return np.array(list(one.scores.values())).T[rows]

    own, other = of(method), of(baseline)
    interval: Interval | None = interval_of_difference(own, other)
    return PairedDifference(
        name=method.name,
        baseline=baseline.name,
        seeds=seeds,
        difference=interquartile_mean(own) - interquartile_mean(other),
        interval=interval,
        by_seed=tuple(map(float, (own - other).mean(1))),
    )


def _played_otherwise(
    read: Mapping[str, tuple[LoggedRun, ...]],
    found: Mapping[str, Sequence[FinalScores]],
    tasks: tuple[str, ...],
) -> tuple[str, ...]:
    """Name the tasks that were not evaluated alike in all runs: how, and in which run first."""
    notes = []
    for number, task in enumerate(tasks):
        first: dict[str, Path] = {}
        for name, runs in read.items():
            for run, final in zip(runs, found[name], strict=True):
                if final.protocols:
                    first.setdefault(final.protocols[number], run.folder)
        if len(first) > 1:
            ways = ", ".join(f"{way} ({folder})" for way, folder in first.items())
            notes.append(
                f"{task} was not played alike, so its scores say little: {ways}; evaluate all with "
                "the same player, --max-decisions, --sticky and --sample"
            )
    return tuple(notes)


def _notes(
    methods: Sequence[MethodScores], reached: list[int], kind: ScoreKind, scales: Scores
) -> tuple[str, ...]:
    """What a reader should know, a phrase each."""
    notes = []
    if reached[0] != reached[-1]:
        notes.append(
            f"the runs have come to between {reached[0]:,} and {reached[-1]:,} decisions, and "
            "measures and logged scores are of the fewest"
        )
    fewest = min(len(method.seeds) for method in methods)
    if fewest < FEW_SEEDS:
        notes.append(
            f"the fewest seeds of a method are {fewest}; intervals of fewer than {FEW_SEEDS} are "
            "narrower than they should be"
        )
    if kind == "return" and scales.shape[1] > 1 and (scales == [[0.0], [1.0]]).all():
        notes.append(
            "returns of all tasks count as they are; where tasks have other scales, give each a "
            "range (--range TASK=LOW:HIGH)"
        )
    return tuple(notes)

"""Interquartile means of runs, and their bootstrap intervals (Agarwal et al. 2021).

arXiv:2108.13264 recommends both for few runs. Its library, rliable, resamples the runs of each task
by themselves. Here one run plays all tasks, so a run is resampled with all of its scores, and a
pair of runs of the same seed with all of theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean

QUARTER = 0.25
CONFIDENCE = 0.95
RESAMPLES = 10_000

Scores = NDArray[np.float64]
Interval = tuple[float, float]


def interquartile_mean(scores: Scores) -> float:
    """Mean of the scores without the lowest and the highest quarter, each rounded down.

    Args:
        scores: (seeds, tasks), or of any shape.
    """
    return float(trim_mean(scores, QUARTER, axis=None))


def interval_of(scores: Scores, resamples: int = RESAMPLES) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of the interquartile mean, seeded.

    Args:
        scores: (seeds, tasks); seeds are resampled, each with all of its tasks.
        resamples: of the seeds.

    Returns:
        Both ends; None of one seed, which says nothing of the others.
    """
    return _interval(_mean_of, tuple(scores.T), resamples)


def interval_of_difference(
    scores: Scores, baseline: Scores, resamples: int = RESAMPLES
) -> Interval | None:
    """Return the 95 % interval of the difference of interquartile means, from pairs of runs.

    Args:
        scores: (seeds, tasks).
        baseline: (seeds, tasks) of the same seeds; a seed is resampled in both.
        resamples: of the seeds.

    Returns:
        Both ends; None of one pair.
    """
    return _interval(_difference_of, (*scores.T, *baseline.T), resamples)


def _mean_of(*tasks: Scores, axis: int) -> Scores:
    means: Scores = trim_mean(np.concatenate(tasks, axis=axis), QUARTER, axis=axis)
    return means


def _difference_of(*tasks: Scores, axis: int) -> Scores:
    half = len(tasks) // 2
    return _mean_of(*tasks[:half], axis=axis) - _mean_of(*tasks[half:], axis=axis)


def _interval(statistic: Any, columns: tuple[Scores, ...], resamples: int) -> Interval | None:
    if len(columns[0]) < 2:
        return None
    found = bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        axis=-1,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)

"""What is known of how well a network does a task: by this page, an evaluation, or stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtspark.deploy.bundle import Bundle
from mtspark.sim.recording import Study
from mtspark.sim.report import Score
from mtspark.sim.results import latest_runs, stored_sticky
from mtspark.workflows.backends import BackendName


def score_of(bundle: Bundle, study: Study, evaluation: Mapping[str, Any] | None) -> Score:
    """Return the score of a task.

    Args:
        bundle: of the network.
        study: of the task, as the page shows it.
        evaluation: on the user's data, of all inputs; None where there is none.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    if evaluation is not None:
        return score_on_data(evaluation)
    episodes = study.run.episodes
    if study.interval_ms is None:
        right, count = episodes[0].score, study.deep.decisions
        return Score("accuracy", study.task, right / count, None, None, count, study.task)
    return Score(
        kind="return",
        task=study.task,
        chip=study.run.mean_return,
        float_network=float_return(bundle, study.task, [one.to_json() for one in episodes]),
        agreement=None,
        count=len(episodes),
        cut_off=sum(not episode.finished for episode in episodes),
        success=study.run.success_rate,
    )


def score_on_data(values: Mapping[str, Any]) -> Score:
    """Return the score of an evaluation on data, from its JSON values."""
    low, high = values["interval_95"]
    return Score(
        kind="accuracy",
        task=values["task"],
        chip=values["accuracy"],
        float_network=values["float_accuracy"],
        agreement=values["agreement"],
        count=values["samples"],
        origin=values["origin"],
        interval_95=(low, high),
    )


def float_return(
    bundle: Bundle, task: str, episodes: Sequence[Mapping[str, Any]], sticky: float | None = None
) -> float | None:
    """Return the mean return of the latest stored run of the float network; None: there is none.

    A run that was cut off is beside another one only if both played the same decisions.

    Args:
        bundle: of the network.
        task: by name.
        episodes: of the chip, as their JSON values, that the score stands beside.
        sticky: probability of sticky actions of the chip's run; None: whatever is stored.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    runs, _ = latest_runs(bundle)
    own = [
        run
        for run in runs
        if run["task"] == task
        and run["backend"] == BackendName.TORCH.value
        and (sticky is None or stored_sticky(run) == sticky)
        and _comparable(run["episodes"], episodes)
    ]
    best = max(own, key=lambda run: str(run["date"]), default=None)
    return None if best is None else float(best["mean_return"])


def _comparable(some: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two runs are of whole episodes, or of the same decisions of the same ones."""
    if all(episode["finished"] for episode in (*some, *others)):
        return True
    played = [
        [(one.get("seed"), one["finished"] or one.get("decisions")) for one in episodes]
        for episodes in (some, others)
    ]
    return played[0] == played[1]

"""The two sentences about a stored or fresh result: does it work, what does it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtspark.deploy.bundle import Bundle
from mtspark.deploy.chips import ChipModel
from mtspark.sim.energy import PriceCard
from mtspark.sim.report import Score, scores_sentence
from mtspark.sim.results import stored_sticky
from mtspark.sim.verdict import Cost, costs_sentence
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate import stored_evaluation
from mtspark.workflows.report.scores import float_return, score_on_data
from mtspark.workflows.report.studies import latest_chip_run

ON_NO_CHIP = "It ran on no chip, so it has no cost on one."


def run_sentences(bundle: Bundle, result: Mapping[str, Any]) -> tuple[str, str]:
    """Sum up a run.

    Args:
        bundle: of the network that played.
        result: JSON values of the run's file.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    score = score_of_run(bundle, result)
    if result["backend"] == BackendName.TORCH.value:
        return score.sentence, ON_NO_CHIP
    return score.sentence, cost_sentence(result)


def score_of_run(bundle: Bundle, result: Mapping[str, Any]) -> Score:
    """Return the score of a run, from the JSON values of its file.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    episodes, task = result["episodes"], result["task"]
    sticky = stored_sticky(dict(result))
    on_chip = result["backend"] != BackendName.TORCH.value
    return Score(
        kind="return",
        task=task,
        chip=float(result["mean_return"]),
        float_network=float_return(bundle, task, episodes, sticky) if on_chip else None,
        agreement=None,
        count=len(episodes),
        cut_off=sum(not episode["finished"] for episode in episodes),
        sticky=sticky,
        who="the chip" if on_chip else "the float network",
        success=result.get("success_rate"),
        drawn=result.get("sampling") is not None,
    )


def stored_sentences(
    bundle: Bundle, runs: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Sum up the results in a bundle: of each task the chip's latest, else the float network's.

    Args:
        bundle: that they are of.
        runs, evaluations: JSON values, at least one.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    ordered = sorted(
        runs, key=lambda run: (run["backend"] != BackendName.TORCH.value, str(run["date"]))
    )
    latest = {run["task"]: run for run in ordered}
    scores = [score_of_run(bundle, run) for run in latest.values()]
    scores += [score_on_data(values) for values in evaluations]
    costs: dict[str, Cost] = {}
    for values in (*latest.values(), *evaluations):
        cost = cost_of_result(values)
        if cost is not None:
            costs[values["task"]] = cost
    on_chip = [score for score in scores if score.who == "the chip"] or scores
    if not costs:
        return scores_sentence(on_chip), ON_NO_CHIP
    return scores_sentence(on_chip), costs_sentence(costs, "decision" if latest else "sample")


def data_sentences(values: Mapping[str, Any]) -> tuple[str, str]:
    """Sum up an evaluation on data, from its JSON values."""
    return score_on_data(values).sentence, cost_sentence(values, "sample")


def cost_sentence(values: Mapping[str, Any], what: str = "decision") -> str:
    """Say what a decision costs, of JSON values; of files of before only what they hold.

    Args:
        values: with a cost, or with bills alone.
        what: is priced.
    """
    cost = cost_of_result(values)
    return ON_NO_CHIP if cost is None else cost.sentence(what)


def cost_of_result(values: Mapping[str, Any]) -> Cost | None:
    """Return what a decision costs by the JSON values of a result; None where no chip ran."""
    if values.get("backend") == BackendName.TORCH.value:
        return None
    if values.get("cost") is not None:
        return Cost.from_json(values["cost"])
    for bill in values.get("energy_on_chip") or values.get("energy") or ():
        return Cost(bill["card"], bill["dynamic_j_per_decision"])
    return None


def stored_cost(bundle: Bundle, chip: ChipModel, card: PriceCard) -> str:
    """Say what a decision costs by the latest results in a bundle; empty where none can tell.

    Args:
        bundle: with runs and evaluations.
        chip: that they must have been mapped to.
        card: that they must have been priced by.

    Raises:
        BadFileError: a file in the folder of runs is none.
    """
    costs: dict[str, Cost] = {}
    what = "decision"
    for task in bundle.network.tasks:
        evaluation = stored_evaluation(bundle, task.name)
        found = [] if evaluation is None else [evaluation.values]
        if task.game:
            run = latest_chip_run(bundle, task.name)
            found = [] if run is None else [run]
        elif found:
            what = "sample"
        for values in found:
            bills: list[dict[str, Any]] = values.get("energy_on_chip") or values.get("energy") or []
            cost = values.get("cost")
            priced = bool(bills) and bills[0].get("card_key") == card.key
            if priced and cost is not None and chip.name in (cost["chip"], cost.get("place")):
                costs[task.name] = Cost.from_json(cost)
    if len(costs) == 1 and len(bundle.network.tasks) > 1:
        what = f"{what} of {next(iter(costs))}"
    return costs_sentence(costs, what) if costs else ""

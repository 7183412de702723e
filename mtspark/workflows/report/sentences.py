"""The two sentences about a stored or fresh result: does it work, what does it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtspark.deploy.bundle import Bundle
from mtspark.sim.report import Score
from mtspark.sim.results import stored_sticky
from mtspark.sim.verdict import Cost
from mtspark.workflows.backends import BackendName
from mtspark.workflows.report.scores import float_return, score_on_data


def run_sentences(bundle: Bundle, result: Mapping[str, Any]) -> tuple[str, str]:
    """Sum up a run.

    Args:
        bundle: of the network that played.
        result: JSON values of the run's file.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    episodes, task = result["episodes"], result["task"]
    on_chip = result["backend"] != BackendName.TORCH.value
    score = Score(
        kind="return",
        task=task,
        chip=float(result["mean_return"]),
        float_network=float_return(bundle, task) if on_chip else None,
        agreement=None,
        count=len(episodes),
        cut_off=sum(not episode["finished"] for episode in episodes),
        sticky=stored_sticky(dict(result)),
        who="the chip" if on_chip else "the float network",
        success=result.get("success_rate"),
    )
    if not on_chip:
        return score.sentence, "It ran on no chip, so it has no cost on one."
    return score.sentence, cost_sentence(result)


def data_sentences(values: Mapping[str, Any]) -> tuple[str, str]:
    """Sum up an evaluation on data, from its JSON values."""
    return score_on_data(values).sentence, cost_sentence(values, "sample")


def cost_sentence(values: Mapping[str, Any], what: str = "decision") -> str:
    """Say what a decision costs, of JSON values; of files of before only what they hold.

    Args:
        values: with a cost, or with bills alone.
        what: is priced.
    """
    if values.get("cost") is not None:
        return Cost.from_json(values["cost"]).sentence(what)
    for bill in values.get("energy_on_chip") or values.get("energy") or ():
        return Cost(bill["card"], bill["dynamic_j_per_decision"]).sentence(what)
    return ""

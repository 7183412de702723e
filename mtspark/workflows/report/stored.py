"""The report of the runs that a bundle holds already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.results import NOTE, latest_runs
from mtspark.workflows.evaluate import stored_evaluation
from mtspark.workflows.report.sentences import data_sentences, run_sentences, stored_sentences

FORMAT, VERSION = "mtspark-report", 1


@dataclass(frozen=True)
class StoredReport:
    """The latest runs of a bundle's network.

    Attributes:
        network: that played.
        network_sha256: of the bundle's network.
        runs: JSON values of the latest run of each task, backend and stickiness.
        other_runs: how many runs in the folder belong to another network.
        folder: of the runs.
        sentences: that sum up each run.
        evaluations: JSON values of the latest evaluation of each task on data.
        evaluation_sentences: that sum up each of them.
        verdict: does it work, and what does it cost, of all of them: of each task the chip's latest
            result, else the float network's.
    """

    network: ChipNetwork
    network_sha256: str
    runs: tuple[dict[str, Any], ...]
    other_runs: int
    folder: str
    sentences: tuple[tuple[str, str], ...] = ()
    evaluations: tuple[dict[str, Any], ...] = ()
    evaluation_sentences: tuple[tuple[str, str], ...] = ()
    verdict: tuple[str, str] = ("", "")

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark report --json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "note": NOTE,
            "agent": self.network.name,
            "network_sha256": self.network_sha256,
            "runs": list(self.runs),
            **({"evaluations": list(self.evaluations)} if self.evaluations else {}),
        }


def stored_report(bundle: Bundle | AnyPath) -> StoredReport:
    """Read the latest runs in a bundle.

    Args:
        bundle: made by ``mtspark export``, or its folder.

    Raises:
        BadRequestError: there is no run, and no evaluation on data.
        BadFileError: the bundle or a run cannot be read.
    """
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    runs, others = latest_runs(bundle)
    found = [stored_evaluation(bundle, task.name) for task in bundle.network.tasks]
    evaluations = [dict(one.values) for one in found if one is not None]
    if not runs and not evaluations:
        task = bundle.network.tasks[0]
        if not task.game:
            raise BadRequestError(
                f"{bundle.folder}: nothing was measured yet; score it on data with "
                f"`mtspark eval {bundle.folder} --data x.npy --labels y.npy`"
            )
        raise BadRequestError(
            f"{bundle.folder}: no runs of this network yet, those with drawn actions (--sample) "
            "apart, which no report shows; play with "
            f"`mtspark run {bundle.folder} --task {task.name}`"
        )
    return StoredReport(
        network=bundle.network,
        network_sha256=bundle.network_hash,
        runs=tuple(runs),
        other_runs=others,
        folder=str(bundle.runs),
        sentences=tuple(run_sentences(bundle, run) for run in runs),
        evaluations=tuple(evaluations),
        evaluation_sentences=tuple(data_sentences(values) for values in evaluations),
        verdict=stored_sentences(bundle, runs, evaluations),
    )

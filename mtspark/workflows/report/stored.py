"""The report of the runs that a bundle holds already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.results import NOTE, latest_runs

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
    """

    network: ChipNetwork
    network_sha256: str
    runs: tuple[dict[str, Any], ...]
    other_runs: int
    folder: str

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark report --json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "note": NOTE,
            "agent": self.network.name,
            "network_sha256": self.network_sha256,
            "runs": list(self.runs),
        }


def stored_report(bundle: Bundle | AnyPath) -> StoredReport:
    """Read the latest runs in a bundle.

    Args:
        bundle: made by ``mtspark export``, or its folder.

    Raises:
        BadRequestError: there is no run.
        BadFileError: the bundle or a run cannot be read.
    """
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    runs, others = latest_runs(bundle)
    if not runs:
        task = bundle.network.tasks[0]
        if not task.game:
            raise BadRequestError(
                f"{bundle.folder}: runs of games are reported, and task {task.name!r} is none; "
                "`mtspark run DIR --input FILE.npy` shows what it does, and for image sets "
                "`mtspark report DIR -o report.html` what it costs"
            )
        raise BadRequestError(
            f"{bundle.folder}: no runs of this network yet; play with "
            f"`mtspark run {bundle.folder} --task {task.name}`"
        )
    return StoredReport(
        network=bundle.network,
        network_sha256=bundle.network_hash,
        runs=tuple(runs),
        other_runs=others,
        folder=str(bundle.runs),
    )

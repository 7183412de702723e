"""Bundles side by side: what their latest runs and evaluations say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.digits import percent
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath, replacing
from mtspark.core.version import __version__
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.counts import memory
from mtspark.sim.report import comparison_html
from mtspark.workflows.report.request import check_page_target, data_path
from mtspark.workflows.report.scores import float_return
from mtspark.workflows.report.stored import stored_report
from mtspark.workflows.report.studies import CHIPS_IN_STEP

FORMAT, VERSION = "mtspark-report-comparison", 1


@dataclass(frozen=True)
class Compared:
    """One bundle in one task.

    Attributes:
        bundle: its folder.
        task: by name.
        kind: "return" of games, "accuracy" of inputs with labels.
        chip, float_network: scores; None where nobody measured the float network.
        samples: games, or inputs.
        dynamic_j, rival_j: energy of a mean decision, and of the cheapest network without spikes;
            None where a run of before does not say it.
        cores, decision_us: on the card's chip; None likewise.
        spikes, synops: of a mean decision.
        neurons, weight_bits, encoder: of the network.
        weights: of the network, other than 0; a kernel's are counted once.
        memory_bits: of its synapses, at the bits of each layer's weights.
    """

    bundle: str
    task: str
    kind: str
    chip: float
    float_network: float | None
    samples: int
    dynamic_j: float | None
    rival_j: float | None
    cores: int | None
    decision_us: float | None
    spikes: float
    synops: float
    neurons: int
    weight_bits: str
    encoder: str
    weights: int
    memory_bits: int

    @property
    def score(self) -> str:
        """The chip's score for people."""
        return self._shown(self.chip)

    @property
    def float_score(self) -> str:
        """The float network's score for people; empty where nobody measured it."""
        return "" if self.float_network is None else self._shown(self.float_network)

    def _shown(self, value: float) -> str:
        return percent(value) if self.kind == "accuracy" else f"{value:,.4g}"


@dataclass(frozen=True)
class Comparison:
    """Bundles side by side, in the order in which they were named."""

    rows: tuple[Compared, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        head = {"format": FORMAT, "version": VERSION, "mtspark": __version__}
        return {**head, "rows": [asdict(row) for row in self.rows]}


def compare_bundles(folders: Sequence[AnyPath]) -> Comparison:
    """Set the latest results of bundles side by side; nothing is played.

    Args:
        folders: of at least two bundles, made by ``mtspark export``.

    Raises:
        BadRequestError: a bundle without results, or one that is named twice.
        BadFileError: a bundle or a file in it cannot be read.
    """
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise BadRequestError("a bundle is named twice")
    rows: list[Compared] = []
    for folder in folders:
        bundle = load_bundle(folder)
        report = stored_report(bundle)
        games = [run for run in report.runs if run["backend"] in CHIPS_IN_STEP]
        rows += [_row(bundle, run, "return") for run in games]
        rows += [_row(bundle, values, "accuracy") for values in report.evaluations]
        if not any(row.bundle == str(bundle.folder) for row in rows):
            raise BadRequestError(f"{folder}: only its float network ran; run it on the chip, too")
    return Comparison(tuple(rows))


def write_comparison(comparison: Comparison, path: AnyPath) -> tuple[Path, Path]:
    """Write a page and its data, both whole or not at all; return their paths.

    Raises:
        BadRequestError: another ending than .html, or a folder.
        BadFileError: the folder cannot be written.
    """
    page = Path(path)
    check_page_target(page)
    values = comparison.to_json()
    text = comparison_html(values, [(row.score, row.float_score) for row in comparison.rows])
    content = json.dumps(values, indent=2, allow_nan=False) + "\n"
    with replacing(page) as page_file, replacing(data_path(page)) as data_file:
        page_file.write_text(text, encoding="utf-8", errors="backslashreplace")
        data_file.write_text(content, encoding="utf-8")
    return page, data_path(page)


def _row(bundle: Bundle, values: dict[str, Any], kind: str) -> Compared:
    network, cost = bundle.network, values.get("cost")
    game = kind == "return"
    decisions = values["decisions" if game else "samples"]
    bills = values.get("energy_on_chip") or values.get("energy") or [None]
    dynamic = None if bills[0] is None else float(bills[0]["dynamic_j_per_decision"])
    layers = values["layers"]
    return Compared(
        bundle=str(bundle.folder),
        task=values["task"],
        kind=kind,
        chip=float(values["mean_return" if game else "accuracy"]),
        float_network=float_return(bundle, values["task"]) if game else values["float_accuracy"],
        samples=len(values["episodes"]) if game else values["samples"],
        dynamic_j=dynamic,
        rival_j=None if cost is None else cost["cheapest_baseline_j_per_decision"],
        cores=None if cost is None else cost["cores"],
        decision_us=None if cost is None else cost["decision_time_us"],
        spikes=sum(layer["spikes"] for layer in layers) / decisions,
        synops=sum(layer["synops_structural"] for layer in layers) / decisions,
        neurons=sum(population.size for population in network.populations),
        weight_bits=str(network.provenance.get("weight_bits", "")),
        encoder=network.input.encoder.value,
        weights=sum(int(np.count_nonzero(link.weights)) for link in network.connections),
        memory_bits=memory(network).synapses,
    )

"""Bundles side by side: what their latest runs and evaluations say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.digits import digits, percent
from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath, replacing
from mtspark.core.version import __version__
from mtspark.deploy.bundle import Bundle, load_bundle
from mtspark.sim.counts import memory
from mtspark.sim.report import comparison_html
from mtspark.sim.results import stored_sticky
from mtspark.sim.verdict import Cost, listed, micro_joules
from mtspark.workflows.evaluate import (
    FEWEST_FOR_INTERVAL,
    confidence_interval,
    wilson_interval,
)
from mtspark.workflows.report.request import check_page_target, data_path
from mtspark.workflows.report.scores import float_return
from mtspark.workflows.report.sentences import cost_of_result
from mtspark.workflows.report.stored import stored_report
from mtspark.workflows.report.studies import CHIPS_IN_STEP

FORMAT, VERSION = "mtspark-report-comparison", 1

NOT_PRICED = "No result of these bundles is priced; run them again with this mtspark."


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
        interval: 95 % of the chip's score; None of fewer than :data:`FEWEST_FOR_INTERVAL` games.
        sticky: probability of sticky actions, of games.
        cut_off: games that were cut off by the user.
        origin: of the data, where the score is an accuracy.
        cost: of a mean decision; None where nothing was priced.
        card: of its prices; empty where nothing was priced.
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
    interval: tuple[float, float] | None = None
    sticky: float = 0.0
    cut_off: int = 0
    origin: str = ""
    cost: Cost | None = None
    card: str = ""

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

    @property
    def sentences(self) -> tuple[str, str]:
        """Which is better, by how much, and whether that may be chance; what a decision costs."""
        names = self._names()
        groups: dict[tuple[str, str], list[Compared]] = {}
        for row in self.rows:
            groups.setdefault((row.task, row.kind), []).append(row)
        several = len(groups) > 1
        text = "; ".join(_ranked(rows, names, several=several) for rows in groups.values())
        return f"{text[0].upper()}{text[1:]}.", _costs(self.rows, names)

    def _names(self) -> dict[str, str]:
        """Names of the bundles' folders; their whole paths where two have the same."""
        folders = dict.fromkeys(row.bundle for row in self.rows)
        short = {folder: Path(folder).name for folder in folders}
        return (
            short
            if len(set(short.values())) == len(short)
            else {folder: folder for folder in folders}
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        head = {"format": FORMAT, "version": VERSION, "mtspark": __version__}
        rows = [asdict(replace(row, cost=None)) for row in self.rows]
        # Of the sentences alone; the files of the runs hold them.
        left_out = ("interval", "sticky", "cut_off", "origin", "cost")
        kept = [{name: row[name] for name in row if name not in left_out} for row in rows]
        return {**head, "rows": kept}


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
    scores = [(row.score, row.float_score) for row in comparison.rows]
    text = comparison_html(values, scores, comparison.sentences)
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
    chip = float(values["mean_return" if game else "accuracy"])
    samples = len(values["episodes"]) if game else values["samples"]
    interval = None if game else wilson_interval(round(chip * samples), samples)
    if game and samples >= FEWEST_FOR_INTERVAL:
        interval = confidence_interval([float(one["return"]) for one in values["episodes"]])
    if game:
        sticky = stored_sticky(values)
        float_score = float_return(bundle, values["task"], values["episodes"], sticky)
    else:
        float_score = values["float_accuracy"]
    return Compared(
        bundle=str(bundle.folder),
        task=values["task"],
        kind=kind,
        chip=chip,
        float_network=float_score,
        samples=samples,
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
        interval=interval,
        sticky=stored_sticky(values) if game else 0.0,
        cut_off=sum(not one["finished"] for one in values["episodes"]) if game else 0,
        origin="" if game else values["origin"],
        cost=cost_of_result(values),
        card="" if bills[0] is None else bills[0]["card"],
    )


def _ranked(rows: Sequence[Compared], names: dict[str, str], *, several: bool) -> str:
    """Say which bundle is best in a task, and by how much, without a full stop.

    Args:
        rows: of the task, one a bundle.
        names: of the bundles, by folder.
        several: other tasks follow, so the task is named.
    """
    best, *others = sorted(rows, key=lambda row: -row.chip)
    where = f"in {best.task} " if several or best.kind == "return" else "by accuracy "
    if not others:
        return f"{where}{names[best.bundle]} alone was measured ({best.score})"
    rules = sorted({row.sticky for row in rows})
    if len(rules) > 1:
        sticky = listed([f"{one:g}" for one in rules])
        return f"{where}the bundles played with sticky actions {sticky}, and cannot be compared"
    second, unlike = others[0], _unlike(rows, names)
    cut = [names[row.bundle] for row in rows if row.cut_off]
    short = f", and games of {listed(cut)} were cut off" if cut else ""
    if best.chip == second.chip:
        equal = listed([names[row.bundle] for row in rows if row.chip == best.chip])
        return f"{where}{equal} are equally good ({best.score}){unlike and f', {unlike}'}{short}"
    gap = best.chip - second.chip
    by = f"{digits(100 * gap)} points" if best.kind == "accuracy" else digits(gap)
    degree = "better than" if len(others) == 1 else "best, before"
    return (
        f"{where}{names[best.bundle]} is {degree} {names[second.bundle]} by {by} ({best.score} "
        f"against {second.score}), {unlike or _chance(best, second)}{short}"
    )


def _unlike(rows: Sequence[Compared], names: dict[str, str]) -> str:
    """Say that bundles were evaluated on different data, of which no interval says anything."""
    if len({(row.origin, row.samples) for row in rows if row.kind == "accuracy"}) < 2:
        return ""
    data = listed([f"{names[row.bundle]} {row.samples} samples of {row.origin}" for row in rows])
    return f"but on different data ({data})"


def _chance(best: Compared, second: Compared) -> str:
    """Say whether the better score may be chance."""
    if best.interval is None or second.interval is None:
        return f"from fewer than {FEWEST_FOR_INTERVAL} games, which may be chance"
    if best.interval[0] > second.interval[1]:
        return "outside the 95 % intervals"
    return "within the 95 % intervals, so it may be chance"


def _costs(rows: Sequence[Compared], names: dict[str, str]) -> str:
    """Say what a mean decision of each bundle costs."""
    tasks = {row.task for row in rows}
    what = "sample" if all(row.kind == "accuracy" for row in rows) else "decision"
    known = [row for row in rows if row.cost is not None]
    if not known:
        return NOT_PRICED
    chips = dict.fromkeys(row.cost.chip for row in known if row.cost is not None)
    cards = dict.fromkeys(row.card for row in known)
    parts, rivals = [], []
    for folder, name in names.items():
        own = []
        for row in known:
            if row.bundle != folder or row.cost is None:
                continue
            where = f" in {row.task}" if len(tasks) > 1 else ""
            place = f" on {row.cost.chip}" if len(chips) > 1 else ""
            if not place and len(cards) > 1:
                place = f" by card {row.card}"
            own.append(f"{micro_joules(row.cost.dynamic_j)}{where}{place}")
            if row.cost.rival_j is not None:
                rivals.append(micro_joules(row.cost.rival_j))
        parts.append(f"{listed(own)} with {name}" if own else f"an unknown energy with {name}")
    alike = len(chips) == len(cards) == 1
    less = _less(known) if alike and len(tasks) == 1 and len(names) == 2 else ""
    on = f" on {next(iter(chips))}" if len(chips) == 1 else ""
    text = f"A {what} costs {listed(parts)}{less}, dynamic energy{on} (estimate)"
    if not alike:
        unlike = "chips" if len(chips) > 1 else "cards"
        text += f"; prices of different {unlike} cannot be compared"
    if rivals:
        text += f"; the cheapest networks without spikes cost {listed(rivals)}"
    return f"{text}."


def _less(rows: Sequence[Compared]) -> str:
    """Say by how much the cheaper of two decisions is cheaper."""
    costs = sorted(row.cost.dynamic_j for row in rows if row.cost is not None)
    if len(costs) != 2 or costs[0] == costs[1]:
        return ""
    return f" ({percent(1 - costs[0] / costs[1])} between them)"

"""A page about a bundle: play, count, price, map, draw, write."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtspark.core.chip_network import Encoder
from mtspark.core.files import AnyPath, replacing
from mtspark.core.progress import Progress, ProgressCallback, begin, no_progress
from mtspark.deploy.bundle import AGENT, Bundle, load_bundle
from mtspark.sim.energy import load_card
from mtspark.sim.recording import Study
from mtspark.sim.report import Fact, ReportData, Score, report_data, report_html, scores_sentence
from mtspark.sim.verdict import costs_sentence
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.report.checks import (
    NO_NEUROBENCH,
    neurobench_check,
    processor_check,
    replay_checks,
    silicon_checks,
)
from mtspark.workflows.report.provenance import page_provenance
from mtspark.workflows.report.request import (
    CARDS,
    ReportRequest,
    check_page_target,
    check_request,
    chosen_tasks,
    data_path,
)
from mtspark.workflows.report.scores import score_of
from mtspark.workflows.report.studies import chips_of_cards, latest_chip_run, record_study


@dataclass(frozen=True)
class ReportPage:
    """A page that was written.

    Attributes:
        page: its path.
        data: everything that it shows.
    """

    page: Path
    data: ReportData

    @property
    def sentences(self) -> tuple[str, str]:
        """Say whether it works and what it costs, of all tasks."""
        tasks = self.data.tasks
        scores = [task.score for task in tasks if task.score is not None]
        works = scores_sentence(scores) if scores else "Nobody measured how well it works."
        games = any(task.interval_ms is not None for task in tasks)
        costs = {task.task: task.cost for task in tasks}
        what = tasks[0].priced if len(tasks) == 1 else "decision" if games else "sample"
        return works, costs_sentence(costs, what)

    @property
    def data_path(self) -> Path:
        """Path of the data beside the page."""
        return data_path(self.page)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file beside the page."""
        return self.data.to_json()


def report(
    bundle: Bundle | AnyPath,
    path: AnyPath,
    *,
    tasks: str | Sequence[str] = (),
    episodes: int = 1,
    seed: int | None = None,
    max_decisions: int | None = None,
    cards: AnyPath | Sequence[AnyPath] = (),
    encoder: str | Encoder | None = None,
    seconds: float = 10.0,
    times: str | None = None,
    pilotnet: AnyPath | None = None,
    neurobench: int = 0,
    data: AnyPath | None = None,
    labels: AnyPath | None = None,
    images: int = 300,
    progress: ProgressCallback = no_progress,
) -> ReportPage:
    """Play a bundle's tasks with everything recorded and write a page about them.

    Args:
        bundle: made by ``mtspark export``, or its folder.
        path: of the page, which ends in .html; its data are written beside it, as .json.
        tasks, episodes, seed, max_decisions, cards, encoder, seconds, times, pilotnet, neurobench,
            data, labels, images: as in :class:`ReportRequest`.
        progress: receives the episodes or images so far.

    Raises:
        BadRequestError: a task or an option that does not exist.
        BadFileError: a card, bundle or PilotNet folder that is not one, or an unwritable target.
        BackendMissingError: NeuroBench is asked for and not installed.
    """
    request = ReportRequest(
        tasks=(tasks,) if isinstance(tasks, str) else tuple(tasks),
        episodes=episodes,
        seed=seed,
        max_decisions=max_decisions,
        cards=(cards,) if isinstance(cards, (str, os.PathLike)) else tuple(cards),
        encoder=None if encoder is None else Encoder(encoder),
        seconds=seconds,
        times=times,
        pilotnet=pilotnet,
        neurobench=neurobench,
        data=data,
        labels=labels,
        images=images,
    )
    return write_page(bundle, path, request, progress=progress)


def write_page(
    bundle: Bundle | AnyPath,
    path: AnyPath,
    request: ReportRequest,
    *,
    progress: ProgressCallback = no_progress,
) -> ReportPage:
    """Write a page and its data, both whole or not at all.

    Args:
        bundle: made by ``mtspark export``, or its folder.
        path: of the page; its data are written beside it.
        request: what it shows.
        progress: receives the episodes or images so far.

    Raises:
        BadRequestError, BadFileError, BackendMissingError: as :func:`report`.
    """
    page = Path(path)
    check_page_target(page)
    cards = [load_card(name) for name in request.cards or CARDS]
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(bundle)
    names = chosen_tasks(bundle, request)
    stored = {name: latest_chip_run(bundle, name) for name in names}
    check_request(bundle, cards, request)
    checks = silicon_checks(request.pilotnet)
    studies, task_checks, scores = _studies(bundle, stored, request, progress)
    checks += task_checks
    progress(Progress("mapping to the chips, pricing, drawing", 0, None, "tasks"))
    chips = chips_of_cards(bundle, studies, cards, request.times)
    provenance = page_provenance(bundle, studies, request.seconds, checks, request.command)
    encoder = request.encoder or bundle.network.input.encoder
    data = report_data(
        bundle.network,
        studies,
        cards,
        chips,
        encoder=encoder,
        provenance=provenance,
        scores=scores,
        dueling=_has_dueling_head(bundle),
    )
    _write(page, report_html(data, studies, chips), data)
    return ReportPage(page, data)


def _has_dueling_head(bundle: Bundle) -> bool:
    """Whether the agent that a bundle was made of has a value stream beside its advantages."""
    if AGENT not in bundle.files or bundle.network.provenance.get("head") == "advantage":
        return False
    from mtspark.train.checkpoint import load_agent

    agent = load_agent(bundle.folder / AGENT, content=bundle.content(AGENT))
    return bool(agent.network.config.dueling)


def _studies(
    bundle: Bundle,
    stored: dict[str, dict[str, Any] | None],
    request: ReportRequest,
    progress: ProgressCallback,
) -> tuple[list[Study], list[Fact], dict[str, Score]]:
    """Play every task on the engine, and compare what was counted."""
    network = bundle.network
    studies: list[Study] = []
    checks: list[Fact] = []
    scores: dict[str, Score] = {}
    for name, run in stored.items():
        begin(progress, f"{name}, everything recorded", "numba")
        with open_backend(BackendName.ENGINE, bundle, name, trace=True) as player:
            study, evaluation = record_study(player, bundle, name, run, request, progress)
            studies.append(study)
            score = score_of(bundle, study, evaluation)
            if score is not None:
                scores[name] = score
            checks += replay_checks(study, run)
            if request.neurobench:
                checks.append(neurobench_check(player, network, study, request.neurobench))
            if len(studies) == len(stored):
                checks.append(processor_check(player, network, study))
    if not request.neurobench:
        checks.append(NO_NEUROBENCH)
    return studies, checks, scores


def _write(page: Path, text: str, data: ReportData) -> None:
    content = json.dumps(data.to_json(), indent=2, allow_nan=False) + "\n"
    with replacing(page) as page_file, replacing(data_path(page)) as data_file:
        page_file.write_text(text, encoding="utf-8", errors="backslashreplace")
        data_file.write_text(content, encoding="utf-8")

"""What a page is about: tasks played once more with everything recorded, and their chips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mtspark.core.backend import AgentBackend, Moment
from mtspark.core.chip_network import INPUT, Encoder
from mtspark.core.errors import BadRequestError
from mtspark.core.progress import Progress, ProgressCallback
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.chips import load_chip
from mtspark.sim.device import Devices, OnChip, map_for, on_chip
from mtspark.sim.energy import DEFAULT_CARD, PriceCard
from mtspark.sim.recording import Study, study_images, study_task
from mtspark.sim.results import latest_runs, stored_sticky
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate import (
    StoredEvaluation,
    classes_of,
    evaluate_data,
    evaluation_json,
    float_network_of,
    is_labelled,
    keep_evaluation,
    load_labelled,
    load_test_images,
    named_after,
    stored_evaluation,
)
from mtspark.workflows.report.request import ReportRequest, film_decisions
from mtspark.workflows.run import episode_reports

CHIPS_IN_STEP = tuple(
    name.value
    for name in (
        BackendName.ENGINE,
        BackendName.REFERENCE,
        BackendName.LAVA,
        BackendName.LAVA_STOCK,
    )
)
"""Backends that are equal to the bit, so that they play the same episodes."""


def latest_chip_run(bundle: Bundle, task: str) -> dict[str, Any] | None:
    """Return the latest stored run of a game on a simulated chip; None where there is none.

    Raises:
        BadFileError: a file in the folder of runs is no run.
    """
    runs, _ = latest_runs(bundle)
    own = [run for run in runs if run["task"] == task and run["backend"] in CHIPS_IN_STEP]
    return max(own, key=lambda run: str(run["date"]), default=None)


def record_study(
    player: AgentBackend,
    bundle: Bundle,
    task: str,
    stored: dict[str, Any] | None,
    request: ReportRequest,
    progress: ProgressCallback,
) -> tuple[Study, dict[str, Any] | None]:
    """Play one task with everything recorded.

    Args:
        player: a simulated chip that runs the bundle's network.
        bundle: of the network.
        task: a game or an image set, by name.
        stored: an earlier run, whose seed and stickiness are taken where none are asked for.
        request: what the page shows.
        progress: receives the episodes or images so far.

    Returns:
        What was recorded; of data with labels also the evaluation on all of them, as
        :func:`mtspark.workflows.evaluate.evaluation_json` has it.

    Raises:
        BadRequestError: the task is no game, and its inputs are not known.
        BadFileError: files of images are missing or damaged.
    """
    film = film_decisions(bundle, request)
    if not bundle.network.tasks[bundle.network.task_index(task)].game:
        evaluation = _evaluation(bundle, task, request, progress)
        if evaluation is None:
            test = load_test_images(task, request.data, request.images, bundle.network.input.shape)
            images, labels, values = test.images, test.labels, None
        else:
            if request.images != ReportRequest().images:
                whose = "that mtspark eval kept" if request.data is None else "of --data"
                raise BadRequestError(
                    f"--images {request.images}: is of the folder of an image set, and {task} "
                    f"shows the inputs {whose}; leave it out"
                )
            images, labels = evaluation.kept.frames, evaluation.kept.labels
            values = dict(evaluation.values)
        study = study_images(
            player,
            bundle.network,
            task,
            images,
            labels,
            film_decisions=film,
            plain=evaluation is not None,
            observe=_image_reports(progress, task, len(labels)),
        )
        return study, values
    seed = request.seed
    if seed is None:
        seed = 0 if stored is None else int(stored["episodes"][0]["seed"])
    sticky = None if stored is None else stored_sticky(stored)
    study = study_task(
        player,
        bundle.network,
        task,
        seed=seed,
        episodes=request.episodes,
        max_decisions=request.max_decisions,
        sticky=sticky,
        film_decisions=film,
        observe=episode_reports(progress, f"{task}, everything recorded", request.episodes),
    )
    return study, None


def _evaluation(
    bundle: Bundle, task: str, request: ReportRequest, progress: ProgressCallback
) -> StoredEvaluation | None:
    """The evaluation on the user's data, or the one that the bundle keeps; None: an image set."""
    data, labels = request.data, request.labels
    if data is None:
        if labels is not None:
            raise BadRequestError("--labels: belongs to inputs; give them, too: --data FILE.npy")
        return stored_evaluation(bundle, task)
    if labels is None and not is_labelled(data):
        return None
    with named_after(data, labels):
        loaded = load_labelled(data, labels, bundle.network.input.shape, classes_of(bundle))
        result = evaluate_data(
            bundle, float_network_of(bundle), loaded.x, loaded.y, task=task, progress=progress
        )
    values = evaluation_json(result, loaded.origin, DEFAULT_CARD)
    keep_evaluation(bundle, result, values)
    if result.kept is None:
        raise BadRequestError(f"{data}: one input is too large for a page")
    return StoredEvaluation(values, result.kept)


def chips_of_cards(
    bundle: Bundle, studies: Sequence[Study], cards: Sequence[PriceCard], times: str | None
) -> dict[str, Devices]:
    """Map the network to each card's chip for every task; model messages and times.

    The cores are the same for all tasks. Where they lie follows from the task's own messages, as
    for a run of this task alone.

    Args:
        bundle: of the network.
        studies: of the tasks.
        cards: whose chips are meant.
        times: set of times, for the chips that have one of this name.

    Returns:
        By task, what the network takes of each chip under each encoder.
    """
    network = bundle.network
    devices: dict[str, dict[tuple[str, Encoder], OnChip]] = {study.task: {} for study in studies}
    for name in dict.fromkeys(card.chip for card in cards if card.chip):
        chip = load_chip(name)
        known = [entry.name for entry in chip.times]
        chosen = times if times in known else None
        for study in studies:
            held = map_for(network, chip, Encoder.EVERY_STEP, study.deep.sent)
            hosted = map_for(network, chip, Encoder.HELD, study.deep.sent)
            for encoder, sent in study.encoders.items():
                devices[study.task][name, encoder] = on_chip(
                    network,
                    chip,
                    held if encoder is Encoder.EVERY_STEP else hosted,
                    {**study.deep.sent, INPUT: sent.sent},
                    study.deep.decisions,
                    task=study.task,
                    times=chosen,
                    host_us=1e6 * study.host_s / study.deep.decisions,
                )
    return dict(devices)


def _image_reports(progress: ProgressCallback, task: str, images: int) -> Callable[[Moment], None]:
    stage, done = f"{task}, everything recorded", 0
    progress(Progress(stage, 0, images, "images"))

    def observe(moment: Moment) -> None:
        nonlocal done
        done += 1
        progress(Progress(stage, done, images, "images"))

    return observe

"""Making the page of ``mtspark report -o``: play, count, price, map, draw."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli._console import console
from mtspark.cli._progress import play_progress
from mtspark.cli.provenance import page_made
from mtspark.core.errors import BackendMissingError, BadFileError, BadRequestError
from mtspark.core.files.atomic import writable_folder, write_json
from mtspark.workflows.backends import BackendName, open_backend

if TYPE_CHECKING:
    from mtspark.core.backend import AgentBackend
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.energy.cards import PriceCard
    from mtspark.sim.recording.study import Study
    from mtspark.sim.report.data import Devices
    from mtspark.train.images.data import ImageSet

CARDS = (
    "loihi2_pilotnet",
    "loihi1_davies2018",
    "loihi1_sanafe",
    "kerasspiking_loihi",
    "kerasspiking_spinnaker",
    "kerasspiking_spinnaker2",
    "kerasspiking_cpu",
    "kerasspiking_gpu",
    "kerasspiking_arm",
    "ops45nm_fp32",
    "ops45nm_int8",
    "lemaire2022_32bit",
    "lemaire2022_8bit",
)
"""All that ship, in the order of the page."""

FILMED_IMAGES = 60
CHIPS_IN_STEP = ("engine", "reference", "lava", "lava-stock")
"""Backends that are equal to the bit, so that they play the same episodes."""


@dataclass(frozen=True)
class PageRequest:
    """What was asked for; see the options of ``mtspark report``."""

    tasks: tuple[str, ...]
    episodes: int
    seed: int | None
    max_decisions: int | None
    cards: tuple[str, ...]
    encoder: str
    seconds: float
    times: str | None
    pilotnet: Path | None
    neurobench: int
    data: Path | None
    images: int


def write_page(folder: Path, page: Path, request: PageRequest) -> None:
    """Write the page and its data, both whole or not at all.

    Raises:
        BadRequestError: a task or an option that does not exist.
        BadFileError: a card, bundle or PilotNet folder that is not one, or an unwritable target.
    """
    from mtspark.deploy.bundle import load_bundle
    from mtspark.sim.counts.encoders import Encoder
    from mtspark.sim.energy.cards import load_card
    from mtspark.sim.report.data import report_data
    from mtspark.sim.report.page import report_html

    data_path = page.with_suffix(".json")
    _check_target(page)
    cards = [load_card(name) for name in request.cards or CARDS]
    bundle = load_bundle(folder)
    names = request.tasks or tuple(task.name for task in bundle.network.tasks)
    if len(set(names)) < len(names):
        raise BadRequestError("a task is named twice")
    stored = {name: _stored(bundle, name) for name in names}
    _check_request(bundle, cards, request)
    checks = []
    if request.pilotnet is not None:
        checks += _pilotnet_checks(request.pilotnet)
    else:
        checks.append(
            {
                "name": "Against silicon",
                "text": "not compared here; mtspark validate FOLDER prints predicted over "
                "measured for PilotNet LIF on Loihi 2, --pilotnet FOLDER puts it here.",
            }
        )
    studies: list[Study] = []
    for name in names:
        with open_backend(BackendName.ENGINE, bundle, name, trace=True) as player:
            study = _study(player, bundle, name, stored[name], request)
            studies.append(study)
            checks += _replay_check(study, stored[name])
            if request.neurobench:
                checks.append(_neurobench_check(player, bundle, study, request.neurobench))
            if name == names[-1]:
                checks.append(_cpu_check(player, bundle, study))
    if not request.neurobench:
        checks.append(
            {"name": "NeuroBench", "text": "not asked; add --neurobench 20 for a second count."}
        )
    encoder = Encoder(request.encoder)
    with console.status("mapping to the chips, pricing, drawing"):
        chips = _devices(bundle, studies, cards, request.times)
        made = page_made(bundle, studies, request.seconds, checks)
        data = report_data(bundle.network, studies, cards, chips, encoder=encoder, made=made)
        text = report_html(data, bundle.network, studies, chips, encoder)
    for bill in data["tasks"][0]["energy"] if request.cards else ():
        if bill["left_out"]:
            terms = ", ".join(bill["left_out"]).replace("_", " ")
            console.print(f"{bill['card']}: no price for {terms}; its sum is without", markup=False)
    _write(page, text)
    write_json(data_path, data)
    for path in (page, data_path):
        console.print(f"wrote {path}", soft_wrap=True)


def _check_request(bundle: Bundle, cards: list[PriceCard], request: PageRequest) -> None:
    """Refuse what would fail after minutes of play."""
    from importlib.util import find_spec

    from mtspark.deploy.chips.model import load_chip

    chips = [load_chip(name) for name in dict.fromkeys(card.chip for card in cards) if name]
    known = sorted({entry.name for chip in chips for entry in chip.times})
    if request.times is not None and request.times not in known:
        raise BadRequestError(
            f"no times {request.times!r}; the cards' chips have {', '.join(known) or 'none'}"
        )
    kept = _film_decisions(bundle, request)
    if request.neurobench > kept:
        raise BadRequestError(
            f"--neurobench {request.neurobench}: {kept} decisions are recorded; ask for fewer, or "
            "for more --seconds"
        )
    if request.neurobench and find_spec("neurobench") is None:
        raise BackendMissingError(
            "NeuroBench is not installed; pip install 'mtspark[neurobench]', or leave "
            "--neurobench out"
        )


def _film_decisions(bundle: Bundle, request: PageRequest) -> int:
    from mtspark.sim.recording.study import decision_interval_ms

    if bundle.network.protocol is None:
        return FILMED_IMAGES
    return max(round(1000 * request.seconds / decision_interval_ms(bundle.network)), 2)


def _test_images(name: str, request: PageRequest) -> ImageSet:
    """Test images of a task that is an image set.

    Raises:
        BadRequestError: it is neither a game nor an image set, or its images cannot be had.
        BadFileError: their files are missing or damaged.
    """
    from mtspark.train.images.data import OPENML, load_images

    if name not in OPENML:
        raise BadRequestError(
            f"task {name!r} is neither a game nor an image set ({', '.join(OPENML)}); its inputs "
            "are not known here"
        )
    return load_images(name, "test", request.data).subset(request.images, seed=0)


def _study(
    player: AgentBackend,
    bundle: Bundle,
    name: str,
    stored: dict[str, Any] | None,
    request: PageRequest,
) -> Study:
    from mtspark.sim.recording.study import study_images, study_task

    if not bundle.network.tasks[bundle.network.task_index(name)].game:
        pictures = _test_images(name, request)
        with console.status(f"{name}: {len(pictures.labels)} images, everything recorded"):
            return study_images(
                player,
                bundle.network,
                name,
                pictures.images,
                pictures.labels,
                film_decisions=_film_decisions(bundle, request),
            )
    seed = request.seed
    if seed is None:
        seed = 0 if stored is None else int(stored["episodes"][0]["seed"])
    sticky = None if stored is None else float(stored["protocol"]["sticky_action_probability"])
    with play_progress(f"{name}, everything recorded", request.episodes) as progress:
        return study_task(
            player,
            bundle.network,
            name,
            seed=seed,
            episodes=request.episodes,
            max_decisions=request.max_decisions,
            sticky=sticky,
            film_decisions=_film_decisions(bundle, request),
            observe=progress,
        )


def _stored(bundle: Bundle, name: str) -> dict[str, Any] | None:
    """The latest stored run of a game on a simulated chip.

    Raises:
        BadRequestError: unknown task.
    """
    from mtspark.sim.results import latest_runs

    bundle.network.task_index(name)
    runs, _ = latest_runs(bundle)
    own = [run for run in runs if run["task"] == name and run["backend"] in CHIPS_IN_STEP]
    return max(own, key=lambda run: str(run["date"]), default=None)


def _replay_check(study: Study, stored: dict[str, Any] | None) -> list[dict[str, str]]:
    """Whether the episode of the page is that of the stored run."""
    if stored is None:
        return []
    known = {episode["seed"]: str(episode.get("actions", "")) for episode in stored["episodes"]}
    same = []
    for episode in study.run.episodes:
        if episode.seed in known:
            # Either may have been cut off earlier than the other.
            actions = known[episode.seed].split()
            played = [str(action) for action in episode.actions]
            both = min(len(actions), len(played))
            same.append(both > 0 and actions[:both] == played[:both])
    run = f"the run of {stored['date'][:16]} on {stored['backend']}"
    if not same:
        text = f"{run} has other seeds"
    elif all(same):
        text = f"{len(same)} of {len(same)} episodes took every action of {run}"
    else:
        text = (
            f"{sum(same)} of {len(same)} episodes took every action of {run}; another version of "
            "the game or of mtspark played the others"
        )
    return [{"name": f"Replay, {study.task}", "text": text + "."}]


def _devices(
    bundle: Bundle, studies: list[Study], cards: list[PriceCard], times: str | None
) -> dict[str, Devices]:
    """Mappings of each card's chip, for all tasks alike; messages and times a task and encoder."""
    from mtspark.core.chip_network.network import INPUT
    from mtspark.deploy.chips.model import load_chip
    from mtspark.sim.counts.encoders import Encoder
    from mtspark.sim.report.device import OnChip, map_for, on_chip, preferred_times

    network = bundle.network
    devices: dict[str, dict[tuple[str, Encoder], OnChip]] = {study.task: {} for study in studies}
    for name in dict.fromkeys(card.chip for card in cards if card.chip):
        chip = load_chip(name)
        known = [entry.name for entry in chip.times]
        chosen = times if times in known else preferred_times(chip)
        held = map_for(network, chip, Encoder.FRAME, studies[0].deep.sent)
        hosted = map_for(network, chip, Encoder.HELD, studies[0].deep.sent)
        for study in studies:
            for encoder, sent in study.encoders.items():
                devices[study.task][name, encoder] = on_chip(
                    network,
                    chip,
                    held if encoder is Encoder.FRAME else hosted,
                    {**study.deep.sent, INPUT: sent.sent},
                    study.deep.decisions,
                    times=chosen,
                    host_us=1e6 * study.host_s / study.deep.decisions,
                )
    return dict(devices)


def _pilotnet_checks(folder: Path) -> list[dict[str, str]]:
    from mtspark.sim.validation.compare import validate

    by_quantity: dict[str, list[str]] = {}
    measured: dict[str, float] = {}
    for row in validate(folder).comparisons:
        if not row.fitted:
            measured[row.quantity] = row.measured
            text = f"{row.how} {row.predicted:.4g} (ratio {row.ratio:.2f})"
            by_quantity.setdefault(row.quantity, []).append(text)
    return [
        {
            "name": f"PilotNet on Loihi 2, {quantity}",
            "text": f"measured by Intel {measured[quantity]:.4g}; predicted: {'; '.join(texts)}. "
            "Predictions that were fitted to it are left out.",
        }
        for quantity, texts in by_quantity.items()
    ]


def _neurobench_check(
    player: AgentBackend, bundle: Bundle, study: Study, decisions: int
) -> dict[str, str]:
    from mtspark.workflows.neurobench import check_with_neurobench

    return {
        "name": f"NeuroBench, {study.task}",
        "text": check_with_neurobench(player, bundle.network, study, decisions).summary(),
    }


def _cpu_check(player: AgentBackend, bundle: Bundle, study: Study) -> dict[str, str]:
    from mtspark.sim.energy.rapl import measure_cpu

    network = bundle.network
    frames = study.shots[-1].observation[None]
    row = network.task_index(study.task)
    player.decide(frames, row)
    found = measure_cpu(lambda: player.decide(frames, row))
    text = (
        found
        if isinstance(found, str)
        else f"{found.joules_per_call * 1e3:.3g} mJ a simulated decision ({found.calls} of them in "
        f"{found.seconds:.1f} s), idle power of {found.idle_w:.3g} W taken off; of this computer, "
        "not of a chip"
    )
    return {"name": "Energy of this computer's processor (RAPL)", "text": text + "."}


def _check_target(page: Path) -> None:
    if page.suffix.lower() not in (".html", ".htm"):
        raise BadRequestError(f"{page}: a page ends in .html")
    for path in (page, page.with_suffix(".json")):
        if path.is_dir():
            raise BadRequestError(f"{path}: is a folder; give the name of a file")
    writable_folder(page.parent)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BadFileError(f"{path}: cannot be written ({reason}); choose another file") from error
    finally:
        temporary.unlink(missing_ok=True)

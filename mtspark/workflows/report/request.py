"""What a page is asked for, and what can be refused before it plays for minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mtspark.core.chip_network import Encoder
from mtspark.core.errors import BackendMissingError, BadRequestError
from mtspark.core.files import AnyPath, writable_folder
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.chips import load_chip
from mtspark.sim.energy import PriceCard
from mtspark.sim.recording import decision_interval_ms

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
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class ReportRequest:
    """What a page shows.

    Attributes:
        tasks: by name; all of the network where empty.
        episodes: games a task.
        seed: of the first game; None for the latest run's, else 0.
        max_decisions: cut games off after this many.
        cards: names or files of price cards, the main one first; all that ship where empty.
        encoder: how frames reach the chip, in all bills; None: the bundle's own.
        seconds: of play that the page shows.
        times: set of times of the chips; None for the fitted one, if any.
        pilotnet: folder of lava-dl's PilotNet LIF, to print predicted over measured.
        neurobench: decisions a task that NeuroBench counts, too.
        data: of a task that is no game: inputs with labels as of
            :func:`mtspark.workflows.evaluate.load_labelled`, or the folder of an image set; None:
            what `mtspark eval --data` kept in the bundle, else the image set is downloaded.
        labels: a .npy file, beside a .npy file of inputs.
        images: test images of a task that is an image set.
        command: that asked for the page, which the page repeats.
    """

    tasks: tuple[str, ...] = ()
    episodes: int = 1
    seed: int | None = None
    max_decisions: int | None = None
    cards: tuple[AnyPath, ...] = ()
    encoder: Encoder | None = None
    seconds: float = 10.0
    times: str | None = None
    pilotnet: AnyPath | None = None
    neurobench: int = 0
    data: AnyPath | None = None
    labels: AnyPath | None = None
    images: int = 300
    command: str = "a call from Python"


def data_path(page: Path) -> Path:
    """Return the path of the data beside a page."""
    return page.with_suffix(".json")


def check_page_target(page: Path) -> None:
    """Refuse a page that could not be written.

    Raises:
        BadRequestError: another ending than .html, or a folder.
        BadFileError: the folder cannot be written.
    """
    if page.suffix.lower() not in SUFFIXES:
        raise BadRequestError(f"{page}: a page ends in .html")
    for path in (page, data_path(page)):
        if path.is_dir():
            raise BadRequestError(f"{path}: is a folder; give the name of a file")
    writable_folder(page.parent)


def chosen_tasks(bundle: Bundle, request: ReportRequest) -> tuple[str, ...]:
    """Return the names of the tasks of a page.

    Raises:
        BadRequestError: a task is named twice, or unknown.
    """
    if not request.tasks:
        return tuple(task.name for task in bundle.network.tasks)
    names = tuple(bundle.network.task_name(name) for name in request.tasks)
    if len(set(names)) < len(names):
        raise BadRequestError("a task is named twice")
    return names


def check_request(bundle: Bundle, cards: Sequence[PriceCard], request: ReportRequest) -> None:
    """Refuse what would fail after minutes of play.

    Raises:
        BadRequestError: an unknown set of times, too few recorded decisions for NeuroBench, or
            what means nothing to the tasks of the page.
        BackendMissingError: NeuroBench is asked for and not installed.
    """
    _check_used(bundle, request)
    chips = [load_chip(name) for name in dict.fromkeys(card.chip for card in cards) if name]
    known = sorted({entry.name for chip in chips for entry in chip.times})
    if request.times is not None and request.times not in known:
        raise BadRequestError(
            f"no times {request.times!r}; the cards' chips have {', '.join(known) or 'none'}"
        )
    own = bundle.network.input
    if request.encoder not in (None, Encoder.EVERY_STEP) and not own.held:
        raise BadRequestError(
            f"--encoder {request.encoder}: holds one frame, and {bundle.network.name} takes a "
            "series of slices; leave it out"
        )
    kept = film_decisions(bundle, request)
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


def _check_used(bundle: Bundle, request: ReportRequest) -> None:
    """Refuse what means nothing to the tasks of a page; a value at its default is not asked for.

    Raises:
        BadRequestError: which.
    """
    names, usual = chosen_tasks(bundle, request), ReportRequest()
    games = [task.game for task in bundle.network.tasks if task.name in names]
    for kind, used, options in (
        ("games", any(games), ("episodes", "seed", "max_decisions", "seconds")),
        ("inputs that are no game", not all(games), ("images", "data", "labels")),
    ):
        for name in options:
            if not used and getattr(request, name) != getattr(usual, name):
                flag = f"--{name.replace('_', '-')}"
                raise BadRequestError(f"{flag}: is of {kind}, and no task is one; leave it out")


def film_decisions(bundle: Bundle, request: ReportRequest) -> int:
    """Return how many decisions of a task the page shows."""
    intervals = [decision_interval_ms(bundle.network, task) for task in bundle.network.tasks]
    shortest = min((interval for interval in intervals if interval is not None), default=None)
    if shortest is None:
        return FILMED_IMAGES
    return max(round(1000 * request.seconds / shortest), 2)

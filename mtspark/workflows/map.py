"""Map a network to the cores of a chip: what fits, what moves between cores, how long it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files import AnyPath, writable_folder
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.sim.verdict import clause
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.run import episode_reports

if TYPE_CHECKING:
    from mtspark.core.backend import Moment
    from mtspark.deploy.bundle import Bundle
    from mtspark.deploy.chips import ChipModel
    from mtspark.deploy.mapping import ChipMapping, Packing, TaskSwitch
    from mtspark.sim.counts import ShareCounter
    from mtspark.sim.energy import PriceCard
    from mtspark.sim.latency import DecisionTime, Traffic
    from mtspark.sim.play import Run
    from mtspark.sim.report import Score
    from mtspark.sim.validation import PilotNetComparison
    from mtspark.sim.verdict import Cost

PICTURES = (".png", ".svg", ".pdf")
"""Suffixes of pictures that can be drawn."""
DIVISIONS = ("fewest", "intel")
"""How layers are divided: over as few cores as fit, or as Intel's compiler divides."""
INPUT_PLACES = ("cores", "host")
"""Who sends the frame: cores that hold it, or the host in every step."""


@dataclass(frozen=True)
class MapRequest:
    """How a network is mapped, and which game is played to count its messages.

    Attributes:
        chip: loihi1, loihi2, or the path of a chip description; None for the card's, else loihi2.
        division: one of :data:`DIVISIONS`.
        input_place: one of :data:`INPUT_PLACES`; None for what the chip can do best.
        spread_thresholds: take more cores where neurons have more thresholds than a core has
            registers.
        task: game to play first; None counts no messages and models no time.
        decisions: of that game, at least 1; None for all of it, as ``mtspark run`` plays it.
        seed: of that game.
        times: which of the chip's sets of times; None for its first.
        card: prices of the mean decision, a name or a file; None for the chip's main one.
    """

    chip: str | None = None
    division: str = "fewest"
    input_place: str | None = None
    spread_thresholds: bool = False
    task: str | None = None
    decisions: int | None = None
    seed: int = 0
    times: str | None = None
    card: AnyPath | None = None


@dataclass(frozen=True)
class MapResult:
    """A network on a chip.

    Attributes:
        chip: its description.
        mapping: what each core holds, and the limits that are broken.
        network_sha256: of the network that was mapped.
        switches: what each switch between two tasks writes.
        packing: cores of each task; of no tasks where all use the same neurons.
        decisions: that were played; 0 where none were.
        traffic: messages of these decisions; None where none were played.
        time: modelled time of a mean decision; None where none were played.
        cost: of a mean decision; None where none were played, or no card is of the chip.
        score: of the game that was played; None where none was.
        known: what is known of the cost where nothing was played: that of stored results.
    """

    chip: ChipModel
    mapping: ChipMapping
    network_sha256: str
    switches: tuple[TaskSwitch, ...]
    packing: Packing
    decisions: int = 0
    traffic: Traffic | None = None
    time: DecisionTime | None = None
    cost: Cost | None = None
    score: Score | None = None
    known: str = ""

    @property
    def sentences(self) -> tuple[str, str]:
        """Say whether it fits, and what a decision costs."""
        network, chip = self.mapping.network, self.chip
        cores, limit = len(self.mapping.cores), chip.limit("cores_per_chip")
        count = f"{cores:,} core" + "s" * (cores != 1)
        place = f"one {chip.name}"
        if self.mapping.chips > 1:
            place = f"{self.mapping.chips:,} chips of {chip.name}"
        elif limit:
            count = f"{cores:,} of {limit:,} cores"
        if self.fits:
            first = f"{network} fits {place}: {count}"
        else:
            broken = [clause(violation.text) for violation in self.mapping.violations]
            more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
            first = f"{network} does not fit {place}: {broken[0]}{more}"
        first += "." if self.score is None else f"; {self.score.sentence}"
        if self.cost is not None:
            return first, self.cost.sentence()
        if self.time is None:
            return first, self.known
        return (
            first,
            f"{chip.name} has no price card, so its energy is not known; name one, --card.",
        )

    @property
    def fits(self) -> bool:
        """Whether no limit of the chip is broken."""
        return not self.mapping.hypothetical

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``mtspark map --json``."""
        from mtspark.sim.latency import decision_to_json, traffic_to_json

        data = {**self.mapping.to_json(), "network_sha256": self.network_sha256}
        if self.switches:
            data["task_switches"] = [switch.to_json() for switch in self.switches]
        if self.packing.tasks:
            data["tasks_on_cores"] = self.packing.to_json()
        if self.traffic is not None and self.time is not None:
            data["traffic"] = traffic_to_json(self.traffic, self.decisions)
            data["decision_time"] = decision_to_json(self.time)
        return data


def map_bundle(
    bundle: Bundle, request: MapRequest | None = None, *, progress: ProgressCallback = no_progress
) -> MapResult:
    """Divide a network over the cores of a chip; play a game first where one is named.

    Args:
        bundle: whose network is mapped.
        request: how; the defaults of :class:`MapRequest` where None.
        progress: reports the game.

    Raises:
        BadFileError: no such chip, card, or set of times.
        BadRequestError: an unknown task, division or place, or a card of another chip.
    """
    from mtspark.deploy.chips import load_chip
    from mtspark.deploy.mapping import (
        Division,
        InputPlace,
        map_network,
        pack_tasks,
        task_switches,
    )
    from mtspark.sim.device import on_chip
    from mtspark.sim.energy import load_card
    from mtspark.sim.verdict import card_for, cost_on

    asked = request or MapRequest()
    for name, value, allowed in (
        ("division", asked.division, DIVISIONS),
        ("input_place", asked.input_place, (None, *INPUT_PLACES)),
    ):
        if value not in allowed:
            names = ", ".join(str(one) for one in allowed if one is not None)
            raise BadRequestError(f"{name} {value!r}: must be one of {names}")
    named = None if asked.card is None else load_card(asked.card).chip
    chip = load_chip(asked.chip or named or "loihi2")
    card = card_for(chip, asked.card)
    chip.time_set(asked.times)
    played, sent, decisions = None, None, 0
    if asked.task is not None:
        asked = replace(asked, task=bundle.network.task_name(asked.task))
        assert asked.task is not None
        if not bundle.network.tasks[bundle.network.task_index(asked.task)].game:
            raise BadRequestError(
                f"{bundle.network.name}: task {asked.task!r} is no game, and only a game's "
                "messages can be counted here; leave --task out"
            )
        played = _play(bundle, asked, progress)
        sent, decisions = played[0].sent, played[0].counts.decisions
    mapping = map_network(
        bundle.network,
        chip,
        division=Division(asked.division),
        input_place=None if asked.input_place is None else InputPlace(asked.input_place),
        spread_thresholds=asked.spread_thresholds,
        rates=None if sent is None else {name: count.astype(float) for name, count in sent.items()},
    )
    traffic = time = cost = score = None
    known = ""
    if played is not None:
        run, shares = played
        on = on_chip(
            bundle.network,
            chip,
            mapping,
            run.sent,
            decisions,
            task=asked.task,
            times=asked.times,
        )
        traffic, time = on.traffic, on.time
        cost = cost_on(on, run.counts, bundle.network, shares, card)
        score = _score(run, asked.task or "")
    else:
        known = _stored_cost(bundle, chip, card)
    switches = tuple(task_switches(bundle.network, mapping, chip, asked.times))
    if asked.times is not None and played is None and not switches:
        raise BadRequestError(
            "--times: is of the steps of a game (--task) and of switches between tasks, and "
            f"{bundle.network.name} is mapped alone here; leave it out"
        )
    return MapResult(
        chip,
        mapping,
        bundle.network_hash,
        switches,
        pack_tasks(bundle.network, mapping, chip),
        decisions=decisions,
        traffic=traffic,
        time=time,
        cost=cost,
        score=score,
        known=known,
    )


def _score(run: Run, task: str) -> Score:
    """Return the score of the one game that was played."""
    from mtspark.sim.report import Score

    cut = sum(not episode.finished for episode in run.episodes)
    return Score("return", task, run.mean_return, None, None, len(run.episodes), cut_off=cut)


def _stored_cost(bundle: Bundle, chip: ChipModel, card: PriceCard | None) -> str:
    """Say what a decision of the latest results on this chip costs; else who can tell."""
    from mtspark.workflows.report import stored_cost

    try:
        cost = "" if card is None else stored_cost(bundle, chip, card)
    except BadFileError:
        # A damaged run is no reason not to map; mtspark report names it.
        cost = ""
    if cost:
        return cost
    if any(task.game for task in bundle.network.tasks):
        return "Energy and time depend on what is sent: play a game first, --task NAME."
    return "Energy and time depend on what is sent: mtspark eval counts and prices your data."


def compare_with_pilotnet(folder: AnyPath) -> PilotNetComparison:
    """Map lava-dl's PilotNet LIF and set it beside what Intel published.

    Raises:
        BadFileError: the folder does not hold PilotNet.
    """
    from mtspark.sim.validation import compare_pilotnet

    return compare_pilotnet(folder)


def check_picture(path: AnyPath | None) -> None:
    """Refuse a picture that could not be drawn, before long work starts.

    Raises:
        BadRequestError: another suffix than :data:`PICTURES`, or a folder.
        BadFileError: its folder cannot be written.
    """
    if path is None:
        return
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise BadRequestError(f"{path}: pictures end in {', '.join(PICTURES)}")
    if path.is_dir():
        raise BadRequestError(f"{path}: is a folder; give the name of a file")
    writable_folder(path.parent)


def save_picture(result: MapResult | PilotNetComparison, path: AnyPath) -> None:
    """Draw the chip with its cores, and the messages between them where they were counted.

    Raises:
        BadFileError: the picture cannot be written.
    """
    from mtspark.deploy.chips import load_chip
    from mtspark.sim.report import save_mapping

    if isinstance(result, MapResult):
        save_mapping(result.mapping, result.chip, path, result.traffic)
    else:
        save_mapping(result.as_intel, load_chip("loihi2"), path, result.traffic)


def _play(
    bundle: Bundle, asked: MapRequest, progress: ProgressCallback
) -> tuple[Run, ShareCounter]:
    """Play some decisions of a game; how often what was not zero, and changed."""
    from mtspark.sim.counts import ShareCounter
    from mtspark.sim.play import play

    assert asked.task is not None
    length = "a whole game" if asked.decisions is None else f"{asked.decisions} decisions"
    stage = f"{asked.task}, {length}"
    begin(progress, stage, "numba")
    shares, report = ShareCounter(bundle.network), episode_reports(progress, stage, 1)

    def observe(moment: Moment) -> None:
        report(moment)
        shares.add(moment.decision.activity.window, moment.frames, moment.episodes)

    with open_backend(BackendName.ENGINE, bundle, asked.task) as player:
        run = play(
            player,
            bundle.network,
            asked.task,
            episodes=1,
            seed=asked.seed,
            max_decisions=asked.decisions,
            observe=observe,
        )
    return run, shares

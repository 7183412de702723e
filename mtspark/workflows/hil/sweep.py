"""Playing the points of a request: the entry of this package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mtspark.core.backend import AgentBackend
from mtspark.core.errors import BackendFailedError
from mtspark.core.files import AnyPath, write_json
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import (
    CHIP_KINDS,
    ChipBackend,
    ChipOrder,
    FaultKind,
    FrameMoment,
    HilEpisode,
    HostedChip,
    Point,
    Setting,
    StoredPoint,
    check_sender,
    game_protocol,
    play_hil,
    stored_points,
)
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.evaluate import confidence_interval
from mtspark.workflows.hil.modelled import modelled_times
from mtspark.workflows.hil.request import HilRequest
from mtspark.workflows.hil.result import HilResult, result_so_far

FEWEST_FOR_INTERVAL = 5
"""An interval from fewer games would promise too much."""


def hil(
    bundle: Bundle,
    request: HilRequest,
    *,
    into: AnyPath | None = None,
    progress: ProgressCallback = no_progress,
) -> HilResult:
    """Play with the chip in another process, in the game's own time, with latency and faults.

    Args:
        bundle: of the agent.
        request: what is played.
        into: file of the result, written after every point; points that it already has are not
            played again.
        progress: receives the games played so far.

    Raises:
        BadRequestError: unknown task, a seed that is none, or faults that the backend cannot have.
        BadNetworkError: the network plays no game.
        BadFileError: no such chip or set of times, or `into` cannot be written.
        BackendMissingError: the backend is not installed.
        BackendFailedError: the chip is gone for good.
    """
    request = replace(request, task=bundle.network.task_name(request.task))
    game_protocol(bundle.network, request.task, request.loop.sticky)
    for setting in request.settings(request.loop):
        check_sender(bundle.network.input.encoder, setting.loop.refresh_every, setting.loop.faults)
    loop, modelled = request.loop, None
    if request.chip is not None:
        modelled = modelled_times(bundle, request, progress=progress)
        loop = replace(loop, timing=modelled.added_to(loop.timing))
    settings = request.settings(loop)
    points = _played_before(bundle, request, settings, into)
    left = [at for at, point in enumerate(points) if point is None]
    new = _play_points(bundle, request, [settings[at] for at in left], progress)
    for at, point in zip(left, new, strict=True):
        points[at] = point
        # A sweep takes long: what was played stays, whatever happens later.
        if into is not None:
            write_json(into, result_so_far(bundle, request, modelled, points).to_json())
    result = result_so_far(bundle, request, modelled, points)
    if into is not None and not left:
        write_json(into, result.to_json())
    return result


def _played_before(
    bundle: Bundle, request: HilRequest, settings: Sequence[Setting], into: AnyPath | None
) -> list[Point | StoredPoint | None]:
    """Return for every setting the point that an earlier run of it has written, or None."""
    if request.connect is not None or request.backend is ChipBackend.LOIHI2:
        return [None] * len(settings)
    stored = stored_points(into, bundle.network_hash, request.task, request.seeds)
    return [
        next((point for point in stored if point.has_setting(setting)), None)
        for setting in settings
    ]


def _play_points(
    bundle: Bundle,
    request: HilRequest,
    settings: Sequence[Setting],
    progress: ProgressCallback,
) -> Iterator[Point]:
    """Play every setting; a chip is started again where its faults change."""
    if not settings:
        return
    reports = _Reports(progress, request.task, len(settings) * request.episodes)
    chip: HostedChip | None = None
    running: object = None
    with contextlib.ExitStack() as stack:
        judge: AgentBackend | None = None
        if any(FaultKind.LOST_CHANGES in setting.loop.faults.rates for setting in settings):
            # A faultless chip in this process, the equal of the one that is played with.
            slow = request.connect is None and request.backend is not ChipBackend.ENGINE
            name = BackendName.REFERENCE if slow else BackendName.ENGINE
            judge = stack.enter_context(open_backend(name, bundle, request.task))
        for setting in settings:
            on_chip = {kind: setting.loop.faults.rate(kind) for kind in CHIP_KINDS}
            if chip is None or on_chip != running:
                if chip is not None:
                    chip.close()
                chip = _open_chip(bundle, request, setting)
                stack.callback(chip.close)
                running = on_chip
            yield _play_point(chip, bundle, request, setting, reports, judge)


def _open_chip(bundle: Bundle, request: HilRequest, setting: Setting) -> HostedChip:
    """Start a chip with the faults of a setting, or connect to the one of the request.

    Raises:
        BackendFailedError: no chip, or one that knows another network or other tasks.
    """
    faults = setting.loop.faults
    order = None
    if request.connect is None:
        order = ChipOrder(
            bundle=str(bundle.folder.resolve()),
            network=bundle.network_hash,
            task=request.task,
            backend=request.backend,
            faults=faults,
        )
    chip = HostedChip(
        bundle.network_hash, order=order, address=request.connect or "", key=request.key or ""
    )
    if request.task not in chip.welcome.tasks:
        chip.close()
        raise BackendFailedError(f"{request.connect}: its chip does not know task {request.task!r}")
    return chip


def _play_point(
    chip: HostedChip,
    bundle: Bundle,
    request: HilRequest,
    setting: Setting,
    reports: _Reports,
    judge: AgentBackend | None,
) -> Point:
    watched = FaultKind.LOST_CHANGES in setting.loop.faults.rates
    lost_before = chip.lost
    episodes = []
    for episode in play_hil(
        chip,
        bundle.network,
        request.task,
        setting.loop,
        episodes=request.episodes,
        seed=request.seed,
        observe=reports.decision,
        judge=judge if watched else None,
    ):
        episodes.append(episode)
        reports.game(episode)
    scores = [episode.score for episode in episodes]
    return Point(
        setting=setting,
        backend=chip.welcome.backend,
        episodes=tuple(episodes),
        interval_95=confidence_interval(scores) if len(scores) >= FEWEST_FOR_INTERVAL else None,
        losses=chip.lost - lost_before,
    )


class _Reports:
    """Progress over the games of all points.

    Args:
        progress: called at once, at every decision, and at the end of every game.
        task: name of the game.
        games: of all points.
    """

    def __init__(self, progress: ProgressCallback, task: str, games: int) -> None:
        self._progress = progress
        self._stage = f"{task}, chip in the loop"
        self._games = games
        self._played = self._decisions = 0
        self._last = ""
        self._report("starting the chip (an engine is compiled once on a machine)")

    def decision(self, _: FrameMoment) -> None:
        """Report a decision."""
        self._decisions += 1
        self._report(f"{self._decisions} decisions{self._last}")

    def game(self, episode: HilEpisode) -> None:
        """Report the end of a game."""
        self._played += 1
        self._last = f", last game {episode.score:+g}"
        self._report(f"{self._decisions} decisions{self._last}")

    def _report(self, detail: str) -> None:
        self._progress(Progress(self._stage, self._played, self._games, "games", detail))

"""The games of the points, played by this process with a chip in another one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from mtspark.core.backend import AgentBackend
from mtspark.core.errors import BackendFailedError
from mtspark.core.progress import Progress, ProgressCallback
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
    play_hil,
)
from mtspark.workflows.backends import BackendName, open_backend
from mtspark.workflows.evaluate import FEWEST_FOR_INTERVAL, confidence_interval
from mtspark.workflows.hil.request import HilRequest


class Chips:
    """The chip that points are played with: one at a time, started again where its faults change.

    Args:
        bundle: what it runs.
        request: whose games are played.
        progress: told that a chip starts, before it does.
    """

    def __init__(self, bundle: Bundle, request: HilRequest, progress: ProgressCallback) -> None:
        self._bundle = bundle
        self._request = request
        self._progress = progress
        self._chip: HostedChip | None = None
        self._faults: object = None

    def chip(self, setting: Setting) -> HostedChip:
        """Return a chip with the faults of a setting, once it has answered.

        Raises:
            BackendFailedError: no chip, or one that knows another network or other tasks.
        """
        faults = {kind: setting.loop.faults.rate(kind) for kind in CHIP_KINDS}
        if self._bundle.network.stateful:
            # One that remembers has to hold from the start what lost changes leave of a frame.
            lost = FaultKind.LOST_CHANGES
            faults[lost] = float(setting.loop.faults.rate(lost) > 0)
        if self._chip is None or faults != self._faults:
            self.close()
            connect = self._request.connect
            where = "" if connect is None else f" at {connect}"
            detail = "" if connect else "an engine is compiled once on a machine"
            stage = f"{self._request.task}, waiting for the chip{where}"
            self._progress(Progress(stage, 0, None, "steps", detail))
            self._chip, self._faults = _open_chip(self._bundle, self._request, setting), faults
        return self._chip

    def close(self) -> None:
        """End the chip, or hang up; safe to call twice."""
        chip, self._chip = self._chip, None
        if chip is not None:
            chip.close()

    def __enter__(self) -> Chips:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def play_points(
    chips: Chips,
    bundle: Bundle,
    request: HilRequest,
    settings: Sequence[Setting],
    progress: ProgressCallback,
) -> Iterator[Point]:
    """Play every setting with one chip after another."""
    if not settings:
        return
    reports = _Reports(progress, request.task, len(settings) * request.episodes)
    with contextlib.ExitStack() as stack:
        judge: AgentBackend | None = None
        if any(FaultKind.LOST_CHANGES in setting.loop.faults.rates for setting in settings):
            # A faultless chip in this process, the equal of the one that is played with.
            slow = request.connect is None and request.backend is not ChipBackend.ENGINE
            name = BackendName.REFERENCE if slow else BackendName.ENGINE
            judge = stack.enter_context(open_backend(name, bundle, request.task))
        for setting in settings:
            yield _play_point(chips.chip(setting), bundle, request, setting, reports, judge)


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
        bundle.network_hash,
        order=order,
        address=request.connect or "",
        key=request.key or "",
        silence_s=request.silence_s,
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
        progress: called at every decision, and at the end of every game.
        task: name of the game.
        games: of all points.
    """

    def __init__(self, progress: ProgressCallback, task: str, games: int) -> None:
        self._progress = progress
        self._stage = f"{task}, chip in the loop"
        self._games = games
        self._played = self._decisions = 0
        self._last = ""

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

"""Playing the points of a request: the entry of this package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mtspark.core.environments import check_sampling
from mtspark.core.errors import BadRequestError
from mtspark.core.executor import Job, check_executor, finished_jobs
from mtspark.core.files import AnyPath, write_json
from mtspark.core.progress import ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.hil import (
    ChipBackend,
    Point,
    Setting,
    StoredPoint,
    check_sender,
    check_state,
    game_protocol,
    stored_points,
)
from mtspark.workflows.hil.elsewhere import point_job, point_of
from mtspark.workflows.hil.modelled import check_prices, modelled_times, waiting_game
from mtspark.workflows.hil.playing import Chips, play_points
from mtspark.workflows.hil.request import HilRequest
from mtspark.workflows.hil.result import HilResult, result_so_far
from mtspark.workflows.workers import package_of


def hil(
    bundle: Bundle,
    request: HilRequest,
    *,
    into: AnyPath | None = None,
    executor: str | None = None,
    progress: ProgressCallback = no_progress,
) -> HilResult:
    """Play with the chip in another process, in the game's own time, with latency and faults.

    Args:
        bundle: of the agent.
        request: what is played.
        into: file of the result, written after every point; points that it already has are not
            played again.
        executor: workers that play a point each, as of
            :func:`mtspark.core.executor.parse_executor`; None: this process. In simulated time the
            points are the same.
        progress: receives the games played so far.

    Raises:
        BadRequestError: unknown task, a seed that is none, or faults that the backend cannot have.
        BadNetworkError: the network plays no game.
        BadFileError: no such chip, card or set of times, or `into` cannot be written.
        BackendMissingError: the backend is not installed.
        BackendFailedError: no chip answers, or it is gone for good.
    """
    _check_executor(request, executor)
    request = replace(request, task=bundle.network.task_name(request.task))
    game_protocol(bundle.network, request.task, request.loop.sticky)
    task = bundle.network.tasks[bundle.network.task_index(request.task)]
    check_sampling(task, request.loop.sampling)
    _check_state(bundle, request)
    check_prices(request)
    for setting in request.settings(request.loop):
        check_sender(bundle.network.input.encoder, setting.loop.refresh_every, setting.loop.faults)
    stored = _stored(bundle, request, into)
    with Chips(bundle, request, progress) as chips:
        if executor is None and not stored:
            # What follows may take minutes, and is of no use without a chip.
            chips.chip(request.settings(request.loop)[0])
        return _played(chips, bundle, request, stored, into, executor, progress)


def _played(
    chips: Chips,
    bundle: Bundle,
    request: HilRequest,
    stored: Sequence[StoredPoint],
    into: AnyPath | None,
    executor: str | None,
    progress: ProgressCallback,
) -> HilResult:
    """Price the first game, then play the points that are not stored; see :func:`hil`."""
    loop, modelled, waiting = request.loop, None, None
    if request.chip is not None:
        modelled = modelled_times(bundle, request, progress=progress)
        loop = replace(loop, timing=modelled.added_to(loop.timing))
    elif request.card is not None:
        waiting = waiting_game(bundle, request, request.card, progress=progress)
    settings = request.settings(loop)
    points: list[Point | StoredPoint | None] = [
        next((point for point in stored if point.has_setting(setting)), None)
        for setting in settings
    ]
    left = [at for at, point in enumerate(points) if point is None]
    chosen = [settings[at] for at in left]
    new: Iterator[tuple[int, Point]] = (
        enumerate(play_points(chips, bundle, request, chosen, progress))
        if executor is None
        else _points_elsewhere(bundle, request, chosen, executor, progress)
    )
    for number, point in new:
        points[left[number]] = point
        # A sweep takes long: what was played stays, whatever happens later.
        if into is not None:
            write_json(into, result_so_far(bundle, request, modelled, points, waiting).to_json())
    result = result_so_far(bundle, request, modelled, points, waiting)
    if into is not None and not left:
        write_json(into, result.to_json())
    return result


def _check_state(bundle: Bundle, request: HilRequest) -> None:
    """Refuse what cannot hold the state of a bundle's network between two decisions.

    Raises:
        BadRequestError: which.
    """
    backend = None if request.connect is not None else request.backend
    check_state(bundle.network, backend=backend, overlap=request.loop.timing.overlap)


def _stored(bundle: Bundle, request: HilRequest, into: AnyPath | None) -> list[StoredPoint]:
    """Return the points of an earlier run of the request's games."""
    if request.connect is not None or request.backend is ChipBackend.LOIHI2:
        return []
    return stored_points(into, bundle.network_hash, request.task, request.seeds)


def _check_executor(request: HilRequest, executor: str | None) -> None:
    """Refuse an executor for what only this computer and this moment can play.

    Raises:
        BadRequestError: it is none, or the games do not follow from the request alone.
        BackendMissingError: its package is not installed.
    """
    if executor is None:
        return
    check_executor(executor)
    reasons = {
        "--connect": request.connect is not None,
        "--realtime": request.loop.realtime,
        "--measured": request.loop.timing.measured,
        "--backend loihi2": request.backend is ChipBackend.LOIHI2,
    }
    for flag, given in reasons.items():
        if given:
            raise BadRequestError(
                f"--executor: with {flag} a game depends on where and when it is played; leave one "
                "of both out"
            )


def _points_elsewhere(
    bundle: Bundle,
    request: HilRequest,
    settings: Sequence[Setting],
    executor: str,
    progress: ProgressCallback,
) -> Iterator[tuple[int, Point]]:
    """Let workers play a setting each; yield its number and its point as they come."""
    package = package_of(bundle)
    jobs: list[Job] = [point_job(request, setting, package) for setting in settings]
    stage = f"{request.task}, chip in the loop"
    for number, values in finished_jobs(
        executor, jobs, stage=stage, unit="games", progress=progress
    ):
        yield number, point_of(settings[number], values)

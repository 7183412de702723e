"""Points as jobs: one setting with all of its games, played by a worker and the chip beside it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mtspark.core.environments import Sampling
from mtspark.core.executor import Job, Package
from mtspark.core.progress import no_progress
from mtspark.sim.hil import (
    SILENCE_S,
    ChipBackend,
    FaultKind,
    Faults,
    HilEpisode,
    Hold,
    Jitter,
    Loop,
    Point,
    Sent,
    Setting,
    Tally,
    Timing,
)
from mtspark.workflows.hil.playing import Chips, play_points
from mtspark.workflows.hil.request import HilRequest
from mtspark.workflows.workers import opened_bundle, seeds_text


def point_job(request: HilRequest, setting: Setting, package: Package) -> Job:
    """Make the job of one setting.

    Args:
        request: whose games are played.
        setting: how.
        package: of the bundle.
    """
    place = "" if setting.place is None else f", {request.varied} {setting.place:g}"
    return Job(
        f"{request.task}{place}, {seeds_text(request.seed, request.episodes)}",
        play_point,
        {
            "task": request.task,
            "backend": request.backend.value,
            "episodes": request.episodes,
            "seed": request.seed,
            "place": setting.place,
            "loop": _loop_values(setting.loop),
            **({} if request.silence_s == SILENCE_S else {"silence_s": request.silence_s}),
        },
        package,
        weight=request.episodes,
    )


def play_point(
    folder: Path,
    task: str,
    backend: str,
    episodes: int,
    seed: int,
    place: float | None,
    loop: dict[str, Any],
    silence_s: float = SILENCE_S,
) -> dict[str, Any]:
    """Play the games of one setting; runs on a worker.

    Args:
        folder: of the bundle.
        task, backend, episodes, seed, silence_s: see :class:`HilRequest`.
        place: on the curve.
        loop: how they are played.

    Returns:
        The point, as plain values for :func:`point_of`.
    """
    setting = Setting(place, _loop_of(loop))
    request = HilRequest(
        task,
        setting.loop,
        episodes=episodes,
        seed=seed,
        backend=ChipBackend(backend),
        silence_s=silence_s,
    )
    bundle = opened_bundle(folder)
    with Chips(bundle, request, no_progress) as chips:
        (point,) = play_points(chips, bundle, request, [setting], no_progress)
    return {
        "backend": point.backend,
        "interval_95": point.interval_95,
        "losses": point.losses,
        "episodes": [asdict(episode) for episode in point.episodes],
    }


def point_of(setting: Setting, values: dict[str, Any]) -> Point:
    """Return the point that a worker has played.

    Args:
        setting: that was played.
        values: of :func:`play_point`.
    """
    return Point(
        setting=setting,
        backend=values["backend"],
        episodes=tuple(map(_episode, values["episodes"])),
        interval_95=values["interval_95"],
        losses=values["losses"],
    )


def _episode(values: dict[str, Any]) -> HilEpisode:
    sent = values["tally"]["sent"]
    tally = Tally(**{**values["tally"], "sent": None if sent is None else Sent(**sent)})
    return HilEpisode(**{**values, "tally": tally})


def _loop_values(loop: Loop) -> dict[str, Any]:
    """Return a loop as JSON values."""
    plain = replace(loop, timing=Timing(), faults=Faults())
    rates = {kind.value: rate for kind, rate in loop.faults.rates.items()}
    return {
        **asdict(plain),
        "hold": loop.hold.value,
        "timing": {**asdict(loop.timing), "jitter": loop.timing.jitter.value},
        "faults": [rates, loop.faults.seed],
    }


def _loop_of(values: dict[str, Any]) -> Loop:
    timing, drawn = values["timing"], values["sampling"]
    rates, seed = values["faults"]
    return Loop(
        **{
            **values,
            "hold": Hold(values["hold"]),
            "sampling": None if drawn is None else Sampling(**drawn),
            "timing": Timing(**{**timing, "jitter": Jitter(timing["jitter"])}),
            "faults": Faults({FaultKind(name): rate for name, rate in rates.items()}, seed),
        }
    )

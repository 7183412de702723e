"""What ``mtspark hil`` plays, shows and writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtspark.cli._console import console
from mtspark.sim.hil import ChipBackend

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.hil import Loop, Point, Timing

FEWEST_FOR_INTERVAL = 5
"""An interval from fewer games would promise too much."""
MODELLED_DECISIONS = 60
"""Played to count messages, from which the chip's time is modelled."""


def modelled_timing(
    timing: Timing, bundle: Bundle, task: str, chip: str, times: str | None
) -> tuple[Timing, dict[str, Any]]:
    """Take the times of host and chip from a chip's description, and say them.

    Returns:
        The timing, and where it comes from as JSON values. A part that the description has no
        time for is left out of the sum, and named.

    Raises:
        BadFileError: no such chip or set of times.
        BadRequestError: the chip's description has no times.
    """
    from dataclasses import replace

    from mtspark.core.backend import Moment
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.chips import load_chip
    from mtspark.deploy.mapping import map_network
    from mtspark.sim.latency import decision_time
    from mtspark.sim.play import play
    from mtspark.workflows.backends import BackendName, open_backend

    model = load_chip(chip)
    model.time_set(times)
    sent: dict[str, Any] = {}

    def count(moment: Moment) -> None:
        activity = moment.decision.activity
        for name, window in activity.window.items():
            sent[name] = sent.get(name, 0) + window[0] + activity.drain[name][0]

    with (
        console.status(f"counting messages in {MODELLED_DECISIONS} decisions"),
        open_backend(BackendName.ENGINE, bundle, task) as player,
    ):
        run = play(
            player,
            bundle.network,
            task,
            episodes=1,
            seed=0,
            max_decisions=MODELLED_DECISIONS,
            observe=count,
        )
        mapping = map_network(bundle.network, model)
    decisions = run.counts.decisions
    time = decision_time(bundle.network, mapping, model, sent, decisions, times=times)
    terms = {term.name: term.time_us for term in time.terms}
    if time.chip_us is None:
        raise BadRequestError(f"{chip}: its description has no times; give --latency-ms")
    ms = {name: (time_us or 0.0) / 1000 for name, time_us in terms.items()}
    modelled = replace(
        timing,
        input_ms=timing.input_ms + ms["host input values"] + ms["host call"],
        chip_ms=ms["chip steps"],
        output_ms=timing.output_ms + ms["host output values"],
    )
    source = {
        "chip": model.name,
        "times": time.step.times,
        "terms_ms": {name: us if us is None else us / 1000 for name, us in terms.items()},
        "not_modelled": list(time.missing),
        "broken_limits": len(mapping.violations),
    }
    words = [
        f"{name} " + ("not modelled" if us is None else f"{us / 1000:.3f} ms")
        for name, us in terms.items()
    ]
    console.print(
        f"ESTIMATE for {model.name}, times {time.step.times!r}: {', '.join(words)}; within the "
        f"steps not modelled: {', '.join(time.step.missing) or 'nothing'}"
    )
    if mapping.violations:
        console.print(
            f"HYPOTHETICAL: {len(mapping.violations)} limits of {model.name} are broken; see "
            "mtspark map"
        )
    return modelled, source


def play_all(
    bundle: Bundle,
    task: str,
    settings: list[tuple[float | None, Loop]],
    backend: ChipBackend,
    connect: str | None,
    episodes: int,
    seed: int,
) -> Iterator[Point]:
    """Play every setting; a chip is started again where its faults change."""
    from contextlib import ExitStack

    from mtspark.core.errors import BackendFailedError
    from mtspark.sim.hil import CHIP_KINDS, FrameMoment, HostedChip, Point, play_hil
    from mtspark.workflows.evaluate import confidence_interval

    with ExitStack() as stack, _progress(task, len(settings) * episodes) as (observe, ended):
        chip: HostedChip | None = None
        running: object = None
        for place, loop in settings:
            rates = {kind.value: rate for kind, rate in loop.faults.rates.items()}
            on_chip = {kind.value: loop.faults.rate(kind) for kind in CHIP_KINDS}
            if chip is None or on_chip != running:
                stack.pop_all().close()
                order = None
                if connect is None:
                    order = {
                        "bundle": str(bundle.folder.resolve()),
                        "network": bundle.network_hash,
                        "task": task,
                        "backend": backend.value,
                        "rates": rates,
                        "seed": loop.faults.seed,
                    }
                chip = HostedChip(bundle.network_hash, order=order, address=connect or "")
                stack.push(chip)
                running = on_chip
            if task not in chip.welcome.tasks:
                raise BackendFailedError(f"{connect}: its chip does not know task {task!r}")
            lost_before = chip.lost

            def note(moment: FrameMoment) -> None:
                observe()

            played = []
            for episode in play_hil(
                chip, bundle.network, task, loop, episodes=episodes, seed=seed, observe=note
            ):
                played.append(episode)
                ended(episode.score)
            if chip.lost > lost_before:
                console.print(
                    "without having been told to, the chip went away "
                    f"{chip.lost - lost_before} x: this result will not repeat exactly"
                )
            scores = [episode.score for episode in played]
            interval = confidence_interval(scores) if len(scores) >= FEWEST_FOR_INTERVAL else None
            yield Point(place, loop, chip.welcome.backend, tuple(played), interval)


@contextmanager
def _progress(task: str, games: int) -> Iterator[tuple[Any, Any]]:
    """A bar over all games; yields what to call at each decision and at each end of a game."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} games"),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        starting = "starting the chip (an engine is compiled once on a machine)"
        entry = bar.add_task(f"{task}, chip in the loop", total=games, detail=starting)
        decisions, last = 0, ""

        def observe() -> None:
            nonlocal decisions
            decisions += 1
            bar.update(entry, detail=f"{decisions} decisions{last}")

        def ended(score: float) -> None:
            nonlocal last
            last = f", last game {score:+g}"
            bar.update(entry, advance=1)

        yield observe, ended


def result_to_json(
    bundle: Bundle,
    task: str,
    seed: int,
    varied: str | None,
    points: list[dict[str, Any]],
    wanted: int,
    modelled: dict[str, Any] | None,
    connect: str | None,
) -> dict[str, Any]:
    """The whole result as JSON values; `wanted` is how many points it has when all are played."""
    from datetime import datetime, timezone

    from mtspark.core.version import __version__
    from mtspark.sim.hil import FORMAT, FRAME_RATE_HZ, VERSION

    assert bundle.network.protocol is not None
    return {
        "format": FORMAT,
        "version": VERSION,
        "note": "ESTIMATE: no neuromorphic hardware was measured",
        "mtspark": __version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "agent": bundle.network.name,
        "network_sha256": bundle.network_hash,
        "task": task,
        "seed": seed,
        "frame_rate_hz": FRAME_RATE_HZ,
        "deadline_ms": 1000 * bundle.network.protocol.frame_skip / FRAME_RATE_HZ,
        "varied": varied,
        "modelled": modelled,
        "connected": connect,
        "complete": len(points) == wanted,
        "points": points,
    }

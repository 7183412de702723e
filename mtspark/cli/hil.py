"""The command ``mtspark hil``: a chip behind a process boundary, a game that does not wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli.common import check_json_target, console, one_thread_each, write_json
from mtspark.sim.hil_options import ChipBackend, Hold, Jitter

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.faults import Faults
    from mtspark.sim.hil import Loop
    from mtspark.sim.hil_results import Point

FEWEST_FOR_INTERVAL = 2


def hil_command(
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which game to play.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Full games for each setting.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the first game; the next has seed + 1.")] = 0,
    max_decisions: Annotated[
        int | None, typer.Option(min=1, help="Cut every game off after this many decisions.")
    ] = None,
    sticky: Annotated[
        float | None, typer.Option(help="Sticky action probability (default: the agent's own).")
    ] = None,
    backend: Annotated[
        ChipBackend, typer.Option(help="What stands for the chip.")
    ] = ChipBackend.ENGINE,
    latency_ms: Annotated[
        float, typer.Option(help="Time that the chip takes for a decision.")
    ] = 0.0,
    measured: Annotated[
        bool,
        typer.Option("--measured", help="Take the time of the simulation on this computer."),
    ] = False,
    input_ms: Annotated[
        float, typer.Option(help="Time from the observation to the chip: host and transfer.")
    ] = 0.0,
    output_ms: Annotated[
        float, typer.Option(help="Time from the chip to the pressed button.")
    ] = 0.0,
    jitter_ms: Annotated[float, typer.Option(help="Scale of a random time on the way back.")] = 0.0,
    jitter: Annotated[Jitter, typer.Option(help="How that time is distributed.")] = (
        Jitter.EXPONENTIAL
    ),
    io_step_ms: Annotated[
        float, typer.Option(help="Actions arrive only at multiples of this time (a polled bus).")
    ] = 0.0,
    pixel_bits: Annotated[
        int, typer.Option(min=1, max=8, help="Upper bits of a pixel that are sent.")
    ] = 8,
    overlap: Annotated[
        bool,
        typer.Option(
            "--overlap", help="The chip takes every observation at once, like a pipeline."
        ),
    ] = False,
    hold: Annotated[
        Hold, typer.Option(help="What the game gets while no new action has come.")
    ] = Hold.LAST,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play by the wall clock, not in simulated time.")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RATE",
            help="Order a fault: stuck-0, stuck-1, weight-bits, threshold-bits, dropped-spikes, "
            "spurious-spikes, lost-messages, chip-death. May be given again.",
        ),
    ] = None,
    fault_seed: Annotated[int, typer.Option(help="Draws of faults and jitter.")] = 0,
    away_ms: Annotated[float, typer.Option(help="How long a chip that died is gone.")] = 1000.0,
    latency_sweep: Annotated[
        str | None,
        typer.Option(metavar="MS,MS,...", help="Play with each of these latencies of the chip."),
    ] = None,
    fault_sweep: Annotated[
        str | None,
        typer.Option(metavar="KIND=RATE,RATE,...", help="Play with each of these rates."),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="Only serve the chip, until Ctrl-C."),
    ] = None,
    connect: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="Play with a chip that is served there."),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the curve of a sweep into this PNG.")
    ] = None,
) -> None:
    """Play with the chip in another process, in the game's own time, with latency and faults.

    The game does not wait: frames pass at 60 Hz of simulated time (or of real time), and an
    action counts from the frame that begins after it has arrived. With the same arguments
    simulated time gives the same games.
    """
    one_thread_each()
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import load_bundle
    from mtspark.sim.faults import parse_faults
    from mtspark.sim.hil import Loop, game_protocol
    from mtspark.sim.hil_timing import Timing

    check_json_target(json_out)
    check_json_target(picture)
    bundle = load_bundle(folder)
    faults = parse_faults(fault or [], fault_seed)
    if serve is not None:
        _serve(bundle, backend, faults, serve, task)
        return
    if task is None:
        raise BadRequestError("name the game with --task, or serve the chip with --serve")
    if latency_sweep is not None and fault_sweep is not None:
        raise BadRequestError("two sweeps at once make no curve; leave one out")
    if picture is not None and latency_sweep is None and fault_sweep is None:
        raise BadRequestError("--picture draws a curve; add --latency-sweep or --fault-sweep")
    game_protocol(bundle.network, task, sticky)
    timing = Timing(
        input_ms=input_ms,
        chip_ms=latency_ms,
        output_ms=output_ms,
        jitter_ms=jitter_ms,
        jitter=jitter,
        io_step_ms=io_step_ms,
        measured=measured,
        overlap=overlap,
        seed=fault_seed,
    )
    loop = Loop(
        timing=timing,
        faults=faults,
        away_ms=away_ms,
        hold=hold,
        pixel_bits=pixel_bits,
        realtime=realtime,
        max_decisions=max_decisions,
        sticky=sticky,
    )
    if measured and (latency_ms or latency_sweep is not None):
        raise BadRequestError("--measured replaces --latency-ms and --latency-sweep; choose one")
    varied, settings = _settings(loop, latency_sweep, fault_sweep)
    _check_far_faults(connect, settings)
    points: list[Point] = []
    result: dict[str, Any] = {}
    for point in _play_all(bundle, task, settings, backend, connect, episodes, seed):
        points.append(point)
        result = _result(bundle, task, seed, varied, points, len(settings))
        # A sweep takes long: what was played stays, whatever happens later.
        if json_out is not None:
            write_json(json_out, result)
    if picture is not None:
        from mtspark.sim.hil_results import save_curve

        title = f"{bundle.network.name}: {task}, {episodes} games a point"
        save_curve(points, str(varied), title, picture)
        console.print(f"wrote {picture}", soft_wrap=True)
    _print(result)


def _serve(
    bundle: Bundle, backend: ChipBackend, faults: Faults, address: str, task: str | None
) -> None:
    """Serve the chip until interrupted."""
    import sys

    from mtspark.sim.hil_chip import Chip
    from mtspark.sim.hil_server import check_address, end_on_sigterm, serve

    check_address(address)
    chip = Chip(bundle.network, bundle.network_hash, backend, faults, task)
    end_on_sigterm()
    try:
        chip.warm_up(task or bundle.network.tasks[0].name)
        serve(
            chip,
            address,
            announce=lambda endpoint: console.print(
                f"serving {bundle.network.name} at {endpoint}; whoever reaches it may ask; "
                "Ctrl-C ends it",
                soft_wrap=True,
            ),
            complain=lambda line: print(line, file=sys.stderr),
        )
    finally:
        chip.close()


def _settings(
    loop: Loop, latency_sweep: str | None, fault_sweep: str | None
) -> tuple[str | None, list[tuple[float | None, Loop]]]:
    """What is varied, and each place on the curve with its setting.

    Raises:
        BadRequestError: a sweep that cannot be read.
    """
    from mtspark.sim.faults import Faults, fault_kind, parse_rate

    if latency_sweep is not None:
        times = [_milliseconds(text, latency_sweep) for text in latency_sweep.split(",")]
        return "latency", [
            (ms, replace(loop, timing=replace(loop.timing, chip_ms=ms))) for ms in times
        ]
    if fault_sweep is not None:
        name, _, texts = fault_sweep.partition("=")
        kind = fault_kind(name)
        rates = [parse_rate(text, fault_sweep) for text in texts.split(",")]
        seed = loop.faults.seed
        return kind.value, [
            (rate, replace(loop, faults=Faults({**loop.faults.rates, kind: rate}, seed)))
            for rate in rates
        ]
    return None, [(None, loop)]


def _milliseconds(text: str, sweep: str) -> float:
    from mtspark.core.errors import BadRequestError

    try:
        return float(text)
    except ValueError:
        raise BadRequestError(
            f"--latency-sweep {sweep[:80]!r}: write milliseconds with commas, as 0,33,66"
        ) from None


def _check_far_faults(connect: str | None, settings: list[tuple[float | None, Loop]]) -> None:
    """A chip somewhere else breaks on its own side.

    Raises:
        BadRequestError: a fault is ordered that only a chip of our own can have.
    """
    from mtspark.core.errors import BadRequestError
    from mtspark.sim.faults import CHIP_KINDS, FaultKind

    ours = (*CHIP_KINDS, FaultKind.CHIP_DEATH)
    if connect is not None and any(loop.faults.any_of(ours) for _, loop in settings):
        raise BadRequestError(
            "--connect: faults of the chip are ordered where it is served (--serve ... --fault), "
            "and only a chip that this command starts can be made to die"
        )


def _play_all(
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

    from mtspark.cli.evaluate import confidence_interval
    from mtspark.core.errors import BackendFailedError
    from mtspark.sim.faults import CHIP_KINDS
    from mtspark.sim.hil import FrameMoment, play_hil
    from mtspark.sim.hil_host import HostedChip
    from mtspark.sim.hil_results import Point

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
                    f"the chip went away {chip.lost - lost_before} times without having been told "
                    "to: this result will not repeat exactly"
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
        entry = bar.add_task(f"{task}, chip in the loop", total=games, detail="")
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


def _result(
    bundle: Bundle, task: str, seed: int, varied: str | None, points: list[Point], wanted: int
) -> dict[str, Any]:
    from datetime import datetime, timezone

    import mtspark
    from mtspark.sim.hil_game import FRAME_RATE_HZ
    from mtspark.sim.hil_results import FORMAT, VERSION, point_to_json

    assert bundle.network.protocol is not None
    return {
        "format": FORMAT,
        "version": VERSION,
        "note": "ESTIMATE: no neuromorphic hardware was measured",
        "mtspark": mtspark.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "agent": bundle.network.name,
        "network_sha256": bundle.network_hash,
        "task": task,
        "seed": seed,
        "frame_rate_hz": FRAME_RATE_HZ,
        "deadline_ms": 1000 * bundle.network.protocol.frame_skip / FRAME_RATE_HZ,
        "varied": varied,
        "complete": len(points) == wanted,
        "points": [point_to_json(point) for point in points],
    }


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table

    varied = result["varied"]
    points = result["points"]
    table = Table(title=f"{result['agent']}: {result['task']} with the chip in the loop")
    if varied is not None:
        table.add_column("latency [ms]" if varied == "latency" else varied, justify="right")
    for column in ("mean return", "95 %", "games", "in time", "late", "skipped", "missing"):
        table.add_column(column, justify="right")
    table.add_column("response [ms]", justify="right")
    for point in points:
        interval = point["interval_95"]
        responses = [e["response_ms"]["mean"] for e in point["episodes"] if e["response_ms"]]
        cells = [f"{point['place']:g}"] if varied is not None else []
        cells += [
            f"{point['mean_return']:.2f}",
            "" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}",
            str(len(point["episodes"])),
            *(f"{point['shares'][key]:.1%}" for key in ("in_time", "late", "skipped", "missing")),
            f"{sum(responses) / len(responses):.1f}" if responses else "none",
        ]
        table.add_row(*cells)
    console.print(table)
    names = {point["backend"] for point in points}
    console.print(
        f"chip: {', '.join(sorted(names))}; {points[0]['clock']} time; late: answered after "
        f"{result['deadline_ms']:.1f} ms; skipped: the chip was busy and took a newer "
        "observation; missing: lost, or the chip was dead"
    )

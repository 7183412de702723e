"""The command ``mtspark hil``: a chip behind a process boundary, a game that does not wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli._console import console, one_thread_each
from mtspark.core.files import check_target, write_json
from mtspark.sim.hil import ChipBackend, Hold, Jitter

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.hil import Faults, Loop


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
    chip: Annotated[
        str | None,
        typer.Option(help="Model these times for a chip: loihi1, loihi2, or a description."),
    ] = None,
    times: Annotated[
        str | None, typer.Option(help="Which of the chip's sets of times (default: its first).")
    ] = None,
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
        Path | None,
        typer.Option(
            "--json",
            help="Write the result to this file, point by point; a sweep that was stopped goes on.",
        ),
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
    from mtspark.cli.hil_play import modelled_timing, play_all, result_to_json
    from mtspark.cli.show import print_hil
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import load_bundle
    from mtspark.sim.hil import Loop, Timing, game_protocol, parse_faults, point_to_json, save_curve

    check_target(json_out)
    check_target(picture)
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
    sources = {
        "--latency-ms": latency_ms > 0,
        "--latency-sweep": latency_sweep is not None,
        "--measured": measured,
        "--chip": chip is not None,
    }
    given = [name for name, used in sources.items() if used]
    if len(given) > 1:
        raise BadRequestError(f"{' and '.join(given)} say how long the chip takes; choose one")
    if times is not None and chip is None:
        raise BadRequestError("--times names times of a chip; add --chip")
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
    modelled = None
    if chip is not None:
        timing, modelled = modelled_timing(timing, bundle, task, chip, times)
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
    varied, settings = _settings(loop, latency_sweep, fault_sweep)
    _check_far_faults(connect, settings)
    points = _stored(json_out, bundle, task, range(seed, seed + episodes), settings)
    if connect is not None or backend is ChipBackend.LOIHI2:
        points = [None] * len(settings)
    left = [at for at, point in enumerate(points) if point is None]
    if len(left) < len(points):
        console.print(f"{len(points) - len(left)} of {len(points)} points are in {json_out}")
    chosen = [settings[at] for at in left]
    new = play_all(bundle, task, chosen, backend, connect, episodes, seed) if chosen else iter(())

    def result() -> dict[str, Any]:
        done = [point for point in points if point is not None]
        return result_to_json(bundle, task, seed, varied, done, len(settings), modelled, connect)

    for at, point in zip(left, new, strict=True):
        points[at] = point_to_json(point)
        # A sweep takes long: what was played stays, whatever happens later.
        if json_out is not None:
            write_json(json_out, result())
    if json_out is not None and not left:
        write_json(json_out, result())
    if picture is not None:
        title = f"{bundle.network.name}: {task}, {episodes} games a point"
        save_curve(result()["points"], str(varied), title, picture)
        console.print(f"wrote {picture}", soft_wrap=True)
    print_hil(result())


def _stored(
    path: Path | None,
    bundle: Bundle,
    task: str,
    seeds: range,
    settings: list[tuple[float | None, Loop]],
) -> list[dict[str, Any] | None]:
    """For each setting the point that an earlier run of it has written, or None."""
    from mtspark.sim.hil import setting_to_json, stored_points

    found = [] if path is None else stored_points(path, bundle.network_hash, task, seeds)
    asked = [setting_to_json(place, loop) for place, loop in settings]
    return [next((point for point in found if one.items() <= point.items()), None) for one in asked]


def _serve(
    bundle: Bundle, backend: ChipBackend, faults: Faults, address: str, task: str | None
) -> None:
    """Serve the chip until interrupted."""
    import sys

    from mtspark.sim.hil import Chip, check_address, end_on_sigterm, serve

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
    from mtspark.sim.hil import Faults, fault_kind, parse_rate

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
    from mtspark.sim.hil import CHIP_KINDS, FaultKind

    ours = (*CHIP_KINDS, FaultKind.CHIP_DEATH)
    if connect is not None and any(loop.faults.any_of(ours) for _, loop in settings):
        raise BadRequestError(
            "--connect: faults of the chip are ordered where it is served (--serve ... --fault), "
            "and only a chip that this command starts can be made to die"
        )

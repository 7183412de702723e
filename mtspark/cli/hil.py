"""The command ``mtspark hil``: a chip behind a process boundary, a game that does not wait."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtspark.cli._console import DETAILS, EXECUTOR, MOST, console, one_thread_each, refuse_given
from mtspark.cli._playing import (
    MaxDecisions,
    Sample,
    Seed,
    Sticky,
    Temperature,
    print_seed_notes,
)
from mtspark.core.files import check_json_target, check_target
from mtspark.sim.energy import DEFAULT_CARD
from mtspark.sim.hil import KEY_VARIABLE, SILENCE_S, ChipBackend, Hold, Jitter

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.hil import Faults
    from mtspark.workflows.hil import HilResult, Sweep

OF_CHIP = ("folder", "serve", "key", "task", "backend", "fault", "fault_seed")
"""Parameters of a chip that is served."""
DRAWS_NOTHING = "draws faults (--fault, --fault-sweep) and jitter (--jitter-ms), and none is given"


def hil_command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which game to play.")] = None,
    episodes: Annotated[
        int, typer.Option(min=1, max=MOST, help="Full games for each setting.")
    ] = 1,
    seed: Seed = 0,
    max_decisions: MaxDecisions = None,
    sticky: Sticky = None,
    sample: Sample = None,
    temperature: Temperature = 1.0,
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
    card: Annotated[
        str | None,
        typer.Option(
            help="Prices, a card's name or .toml file (default: the main card of --chip, else "
            f"{DEFAULT_CARD})."
        ),
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
            "spurious-spikes, lost-messages, chip-death, lost-changes. May be given again.",
        ),
    ] = None,
    fault_seed: Annotated[
        int, typer.Option(min=0, max=2**62, help="Draws of faults and jitter.")
    ] = 0,
    refresh_every: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Of an encoder that sends changes: a whole frame at least every N decisions. "
            "With a sweep, N,N,never draws a curve for each.",
        ),
    ] = None,
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
    key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE,
            help="Of a served chip: --serve draws and prints one unless it is given, --connect "
            "needs it.",
        ),
    ] = None,
    silence_s: Annotated[
        float,
        typer.Option(
            help="How long a chip that starts, or is connected to, may be silent before it is "
            "given up; one that this command starts is not silent while it works."
        ),
    ] = SILENCE_S,
    executor: Annotated[str | None, typer.Option(metavar="WHERE", help=EXECUTOR)] = None,
    details: Annotated[bool, typer.Option("--details", help=DETAILS)] = False,
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
    # No process that this one starts, a chip or Lava's, has a use for it.
    os.environ.pop(KEY_VARIABLE, None)
    from mtspark.cli._progress import progress_bar
    from mtspark.core.environments import sampling_of
    from mtspark.core.executor import check_executor
    from mtspark.deploy.bundle import load_bundle
    from mtspark.sim.hil import Loop, Timing, parse_faults
    from mtspark.workflows.hil import HilRequest, hil, parse_refreshes, parse_sweep

    check_json_target(json_out)
    check_target(picture)
    check_executor(executor, {"--serve": serve is not None})
    bundle = load_bundle(folder)
    faults = parse_faults(fault or [], fault_seed)
    if serve is not None:
        refuse_given(context, "is of games, and --serve plays none", but=OF_CHIP)
        if not faults.rates:
            refuse_given(context, DRAWS_NOTHING, "fault_seed")
        _serve(bundle, backend, faults, serve, task, key)
        return
    sweep = parse_sweep(latency_sweep, fault_sweep)
    _refuse_unused(context, sweep, connect=connect, jitter_ms=jitter_ms, faults=faults)
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
        sampling=sampling_of(sample, temperature),
    )
    what = (_game_of(bundle, task), loop, episodes, seed, backend, chip, times, sweep, connect, key)
    prices = DEFAULT_CARD if card is None and chip is None else card
    request = HilRequest(*what, parse_refreshes(refresh_every), prices, silence_s)
    with progress_bar() as progress:
        result = hil(bundle, request, into=json_out, executor=executor, progress=progress)
    _show(result, json_out, picture, details=details)
    print_seed_notes([bundle.network.tasks[bundle.network.task_index(what[0])]], executor)


def _show(result: HilResult, json_out: Path | None, picture: Path | None, *, details: bool) -> None:
    """Draw the curve, and print what was played; of a full disk, that is seen, too."""
    from mtspark.cli.show import print_hil
    from mtspark.core.errors import BadFileError

    try:
        if picture is not None:
            result.save_curve(picture)
    except BadFileError:
        print_hil(result, json_out, None, details=details)
        raise
    print_hil(result, json_out, picture, details=details)


def _refuse_unused(
    context: typer.Context,
    sweep: Sweep | None,
    *,
    connect: str | None,
    jitter_ms: float,
    faults: Faults,
) -> None:
    """Refuse options without the one that they belong to."""
    from mtspark.core.errors import BadRequestError
    from mtspark.sim.hil import FaultKind
    from mtspark.workflows.hil import FaultSweep

    swept = sweep.kind if isinstance(sweep, FaultSweep) else None
    given = context.params
    if given["picture"] is not None and not (given["latency_sweep"] or given["fault_sweep"]):
        raise BadRequestError("--picture draws a curve; add --latency-sweep or --fault-sweep")
    if connect is not None:
        refuse_given(context, "is of the chip, so it is given where that is served", "backend")
    else:
        refuse_given(context, "is of a served chip, --connect", "key")
    if not (jitter_ms or faults.rates or given["fault_sweep"]):
        refuse_given(context, DRAWS_NOTHING, "fault_seed")
    if not jitter_ms:
        refuse_given(context, "distributes the time of --jitter-ms, which is 0", "jitter")
    if not faults.any_of((FaultKind.CHIP_DEATH,)) and swept is not FaultKind.CHIP_DEATH:
        refuse_given(context, "is of a chip that dies, --fault chip-death=RATE", "away_ms")


def _game_of(bundle: Bundle, task: str | None) -> str:
    """The game that was named, or the only one."""
    from mtspark.core.errors import BadRequestError

    if task is None and len(bundle.network.tasks) == 1:
        return bundle.network.tasks[0].name
    if task is None and not bundle.network.plays:
        raise BadRequestError(f"{bundle.folder}: plays no game, and hil plays games alone")
    if task is None:
        known = ", ".join(one.name for one in bundle.network.tasks)
        raise BadRequestError(
            f"{bundle.folder}: name the game with --task ({known}), or serve the chip with --serve"
        )
    return task


def _serve(
    bundle: Bundle,
    backend: ChipBackend,
    faults: Faults,
    address: str,
    task: str | None,
    given_key: str | None,
) -> None:
    """Serve the chip until interrupted."""
    import sys

    from mtspark.sim.hil import end_on_sigterm
    from mtspark.workflows.hil import serve_chip

    def announce(endpoint: str, drawn: str | None) -> None:
        key = "the key that was given" if drawn is None else f"--key {drawn}"
        console.print(
            f"serving {bundle.network.name} at {endpoint}; connect with {key}; Ctrl-C ends it",
            soft_wrap=True,
        )

    end_on_sigterm()
    serve_chip(
        bundle,
        address,
        key=given_key,
        backend=backend,
        faults=faults,
        task=task,
        announce=announce,
        complain=lambda line: print(line, file=sys.stderr),
    )

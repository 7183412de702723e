"""The command ``mtspark run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtspark.cli._console import DETAILS, EXECUTOR, MOST, console, one_thread_each, refuse_given
from mtspark.cli._playing import MaxDecisions, Seed, Sticky, Temperature, print_seed_notes
from mtspark.cli._progress import progress_bar
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, write_json
from mtspark.sim.energy import DEFAULT_CARD
from mtspark.workflows.backends import BackendName

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle

OF_GAMES = ("episodes", "seed", "max_decisions", "sticky", "sample", "temperature")
"""Parameters that mean nothing to recorded inputs."""


def run_command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which game to play.")] = None,
    episodes: Annotated[int, typer.Option(min=1, max=MOST, help="Full games to play.")] = 1,
    backend: Annotated[BackendName, typer.Option(help="Who decides.")] = BackendName.ENGINE,
    seed: Seed = 0,
    max_decisions: MaxDecisions = None,
    sticky: Sticky = None,
    sample: Annotated[
        int | None,
        typer.Option(help="Draw actions with this seed instead of taking the best."),
    ] = None,
    temperature: Temperature = 1.0,
    recording: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Instead of playing: run inputs, .npy of frames (batch, ...) or series (batch, T, "
            "...); of spikes also one series (T, ...). With memory: episodes (batch, T, ...) or "
            "one (T, ...), each from rest.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="With --input: write spikes and values, .npz."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Write a film of the first game, .gif or .webp: picture and spikes."),
    ] = None,
    card: Annotated[str, typer.Option(help="Prices, a card's name or .toml file.")] = DEFAULT_CARD,
    executor: Annotated[str | None, typer.Option(metavar="WHERE", help=EXECUTOR)] = None,
    details: Annotated[bool, typer.Option("--details", help=DETAILS)] = False,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file, too.")
    ] = None,
) -> None:
    """Play games with a deployed agent and count spikes, operations and energy."""
    one_thread_each()
    from mtspark.cli.show import print_film, print_run
    from mtspark.core.environments import sampling_of
    from mtspark.core.executor import check_executor
    from mtspark.deploy.bundle import load_bundle, writable_runs
    from mtspark.sim.recording import Reel, check_film_target
    from mtspark.workflows.report import run_sentences
    from mtspark.workflows.run import run_games, store_run

    check_json_target(json_out)
    check_film_target(video)
    sampling = sampling_of(sample, temperature)
    check_executor(executor, {"--input": recording is not None, "--video": video is not None})
    bundle = load_bundle(folder)
    if recording is not None:
        if video is not None:
            raise BadRequestError("--video: films a game, and with --input none is played")
        refuse_given(context, "is of games, and with --input none is played", *OF_GAMES)
        _run_recording(bundle, recording, task, backend, card, output, json_out, details=details)
        return
    refuse_given(context, "is the file of what --input gives", "output")
    if not bundle.network.plays:
        raise BadRequestError(f"{folder}: plays no game; give it recorded inputs, --input FILE.npy")
    if task is None and len(bundle.network.tasks) == 1:
        task = bundle.network.tasks[0].name
    if task is None:
        known = ", ".join(one.name for one in bundle.network.tasks)
        raise BadRequestError(f"{folder}: name the game to play, --task NAME; it knows {known}")
    bundle.network.task_index(task)
    writable_runs(bundle)
    reel = None if video is None else Reel(bundle.network, task, sticky=sticky)
    with progress_bar() as progress:
        result = run_games(
            bundle,
            task,
            backend=backend,
            episodes=episodes,
            seed=seed,
            max_decisions=max_decisions,
            sticky=sticky,
            card=card,
            observe=reel,
            progress=progress,
            sampling=sampling,
            executor=executor,
        )
    sentences = run_sentences(bundle, result.to_json())
    # Before anything is written: what was played is seen also where the disk is full.
    print_run(result.to_json(), sentences, bundle.network, details=details)
    print_seed_notes([bundle.network.tasks[bundle.network.task_index(task)]], executor)
    stored = store_run(bundle, result)
    console.print(f"wrote {stored}", soft_wrap=True)
    if json_out is not None:
        write_json(json_out, result.to_json())
    if video is not None and reel is not None:
        with progress_bar() as progress:
            film = reel.save(video, result.run.episodes[0], progress=progress)
        print_film(film)


def _run_recording(
    bundle: Bundle,
    recording: Path,
    task: str | None,
    backend: BackendName,
    card: str,
    output: Path | None,
    json_out: Path | None,
    *,
    details: bool,
) -> None:
    from mtspark.cli.show import print_recorded
    from mtspark.sim.energy import load_card
    from mtspark.workflows.report import recorded_sentences
    from mtspark.workflows.run import check_archive_target, run_recording, save_archive

    check_archive_target(output)
    load_card(card)
    with progress_bar() as progress:
        recorded = run_recording(bundle, recording, task=task, backend=backend, progress=progress)
    if output is not None:
        save_archive(recorded.result, output)
    sentences = recorded_sentences(bundle, recorded, card)
    print_recorded(recorded.to_json(), sentences, output, details=details)
    if json_out is not None:
        write_json(json_out, recorded.to_json())

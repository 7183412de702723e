"""The command ``mtspark run``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli._console import console, one_thread_each
from mtspark.cli._progress import play_progress
from mtspark.core.errors import BadRequestError
from mtspark.core.files.atomic import check_target, writable_folder, write_json
from mtspark.workflows.backends import BackendName, one_at_a_time, open_backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from mtspark.core.backend import AgentBackend, Moment
    from mtspark.deploy.bundle import Bundle


def run_command(
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which game to play.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Full games to play.")] = 1,
    backend: Annotated[BackendName, typer.Option(help="Who decides.")] = BackendName.ENGINE,
    seed: Annotated[int, typer.Option(help="Of the first game; the next has seed + 1.")] = 0,
    max_decisions: Annotated[
        int | None, typer.Option(min=1, help="Cut every game off after this many decisions.")
    ] = None,
    sticky: Annotated[
        float | None, typer.Option(help="Sticky action probability (default: the agent's own).")
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Instead of playing: run recorded inputs, .npy of (T, ...) or (batch, T, ...).",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="With --input: write spikes and values, .npz."),
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file, too.")
    ] = None,
) -> None:
    """Play Atari with a deployed agent and count spikes, operations and energy."""
    one_thread_each()
    from mtspark.cli.show.runs import print_run
    from mtspark.deploy.bundle import load_bundle

    check_target(json_out)
    bundle = load_bundle(folder)
    if recording is not None:
        from mtspark.cli.run_input import run_recorded

        recorded = run_recorded(bundle, recording, output, task=task, backend=backend)
        if json_out is not None:
            write_json(json_out, recorded)
        return
    if bundle.network.protocol is None:
        raise BadRequestError(f"{folder}: plays no game; give it recorded inputs, --input FILE.npy")
    if task is None:
        known = ", ".join(one.name for one in bundle.network.tasks)
        raise BadRequestError(f"{folder}: name the game to play, --task NAME; it knows {known}")
    bundle.network.task_index(task)
    writable_folder(bundle.runs)
    result = run_bundle(
        bundle,
        task,
        backend=backend,
        episodes=episodes,
        seed=seed,
        max_decisions=max_decisions,
        sticky=sticky,
    )
    stored = store_run(bundle, result)
    if json_out is not None:
        write_json(json_out, result)
    print_run(result, bundle.network)
    console.print(f"wrote {stored}", soft_wrap=True)


def run_bundle(
    bundle: Bundle,
    task: str,
    *,
    backend: BackendName,
    episodes: int,
    seed: int,
    max_decisions: int | None = None,
    sticky: float | None = None,
    observe: Callable[[Moment], None] | None = None,
) -> dict[str, Any]:
    """Play with a progress bar; returns the run as JSON values."""
    from mtspark.sim.play import MAX_GAMES_AT_ONCE, play
    from mtspark.sim.results import run_to_json

    with (
        open_backend(backend, bundle, task) as player,
        play_progress(f"{task} on {backend.value}", episodes) as progress,
    ):

        def both(moment: Moment) -> None:
            progress(moment)
            if observe is not None:
                observe(moment)

        if backend is BackendName.ENGINE:
            _warm_up(player, bundle, task, min(episodes, MAX_GAMES_AT_ONCE))
        started = time.perf_counter()
        run = play(
            player,
            bundle.network,
            task,
            episodes=episodes,
            seed=seed,
            max_decisions=max_decisions,
            sticky=sticky,
            one_at_a_time=one_at_a_time(backend),
            observe=both,
        )
        seconds = time.perf_counter() - started
    result = run_to_json(
        run,
        bundle.network,
        backend=backend.value,
        task=task,
        seed=seed,
        network_hash=bundle.network_hash,
        sticky=sticky,
        host_s=seconds,
    )
    if backend is BackendName.ENGINE:
        result["host_time"]["includes"] += "; without the engine's first decision, which compiles"
    return result


def _warm_up(player: AgentBackend, bundle: Bundle, task: str, games: int) -> None:
    """Decide once on black frames, so that the clock does not count the engine's compilation."""
    import numpy as np

    frames = np.zeros((games, *bundle.network.input.shape), dtype=np.uint8)
    player.decide(frames, bundle.network.task_index(task))


def store_run(bundle: Bundle, result: dict[str, Any]) -> Path:
    """Write a run into the bundle's runs folder, under a name of its own."""
    stamp = "".join(letter for letter in result["date"].split("+")[0] if letter.isalnum())
    stem = f"{stamp}-{result['task']}-{result['backend']}-seed{result['seed']}"
    writable_folder(bundle.runs)
    path, number = bundle.runs / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = bundle.runs / f"{stem}-{number}.json"
    write_json(path, result)
    return path

"""Whole episodes of a game, counted and priced, and the files of runs in a bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mtspark.core.backend import AgentBackend, Moment
from mtspark.core.environments import Sampling, check_sampling
from mtspark.core.errors import BadRequestError
from mtspark.core.executor import finished_jobs, parse_executor
from mtspark.core.files import AnyPath
from mtspark.core.progress import Progress, ProgressCallback, begin, no_progress
from mtspark.deploy.bundle import Bundle, add_run
from mtspark.sim.counts import ShareCounter
from mtspark.sim.energy import DEFAULT_CARD, load_card
from mtspark.sim.play import MAX_GAMES_AT_ONCE, check_length, play
from mtspark.sim.results import RunResult, run_result
from mtspark.workflows.backends import BackendName, one_at_a_time, open_backend
from mtspark.workflows.run.progress import episode_reports
from mtspark.workflows.workers import GameQuestion, PlayedParts, game_jobs, package_of


def run_games(
    bundle: Bundle,
    task: str,
    *,
    backend: BackendName = BackendName.ENGINE,
    episodes: int = 1,
    seed: int = 0,
    max_decisions: int | None = None,
    sticky: float | None = None,
    card: AnyPath = DEFAULT_CARD,
    observe: Callable[[Moment], None] | None = None,
    progress: ProgressCallback = no_progress,
    sampling: Sampling | None = None,
    executor: str | None = None,
) -> RunResult:
    """Play a game with a deployed agent.

    Args:
        bundle: of the agent.
        task: the game's name.
        backend: who decides.
        episodes: full games.
        seed: of the first game; the next has seed + 1.
        max_decisions: cut every game off after this many.
        sticky: sticky action probability; default: the agent's own.
        card: prices of the run's bill, a name or a file.
        observe: called after every decision.
        progress: called at every decision.
        sampling: draw actions; None takes the best.
        executor: workers that play, as of :func:`mtspark.core.executor.parse_executor`; None:
            this process. Episodes and counts are the same.

    Raises:
        BadRequestError: unknown task, a network that plays no game, numbers that cannot be, or an
            observer, which workers cannot call.
        BackendMissingError, BackendFailedError: see the backend.
    """

    task = bundle.network.task_name(task)
    # A network that plays no game is refused before anything starts.
    bundle.network.protocol_with(sticky)
    check_length(episodes, max_decisions)
    if executor is not None:
        question = GameQuestion(task, backend, episodes, seed, max_decisions, sticky, sampling)
        return _run_elsewhere(bundle, question, executor, card, observe, progress)

    shares = None if backend is BackendName.TORCH else ShareCounter(bundle.network)

    def both(moment: Moment) -> None:
        report(moment)
        if shares is not None:
            shares.add(moment.decision.activity.window, moment.frames, moment.episodes)
        if observe is not None:
            observe(moment)

    stage = f"{task} on {backend.value}"
    begin(progress, stage, "torch" if backend is BackendName.TORCH else "numba")
    with open_backend(backend, bundle, task) as player:
        report = episode_reports(progress, stage, episodes)
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
            sampling=sampling,
        )
        seconds = time.perf_counter() - started
    return run_result(
        run,
        bundle.network,
        backend=backend.value,
        task=task,
        seed=seed,
        network_hash=bundle.network_hash,
        sticky=sticky,
        host_s=seconds,
        card=card,
        compiled_before=backend is BackendName.ENGINE,
        sampling=sampling,
        shares=shares,
    )


def _run_elsewhere(
    bundle: Bundle,
    question: GameQuestion,
    executor: str,
    card: AnyPath,
    observe: Callable[[Moment], None] | None,
    progress: ProgressCallback,
) -> RunResult:
    """Let workers play."""
    if observe is not None:
        raise BadRequestError("--executor: workers call no observer; leave one of both out")
    check_sampling(
        bundle.network.tasks[bundle.network.task_index(question.task)], question.sampling
    )
    load_card(card)
    where = parse_executor(executor).text
    started = time.perf_counter()
    stage = f"{question.task} on {question.backend.value}"
    progress(Progress(stage, 0, question.episodes, "episodes"))
    jobs = game_jobs(question, package_of(bundle), question.task)
    parts = PlayedParts(bundle.network, question)
    for _, part in finished_jobs(executor, jobs, stage=stage, unit="episodes", progress=progress):
        parts.add(part)
    return run_result(
        parts.run(),
        bundle.network,
        backend=question.backend.value,
        task=question.task,
        seed=question.seed,
        network_hash=bundle.network_hash,
        sticky=question.sticky,
        host_s=time.perf_counter() - started,
        card=card,
        executor=where,
        sampling=question.sampling,
        shares=parts.shares,
    )


def _warm_up(player: AgentBackend, bundle: Bundle, task: str, games: int) -> None:
    """Decide once on black frames, so that the clock does not count the engine's compilation."""
    frames = np.zeros((games, *bundle.network.input.shape), dtype=bundle.network.input.dtype)
    player.decide(frames, bundle.network.task_index(task))


def store_run(bundle: Bundle, result: RunResult) -> Path:
    """Write a run into the bundle's runs folder, under a name of its own; return its path.

    Raises:
        BadFileError: the folder cannot be written.
    """
    stamp = "".join(letter for letter in result.date.split("+")[0] if letter.isalnum())
    name = f"{stamp}-{result.task}-{result.backend}-seed{result.seed}.json"
    text = json.dumps(result.to_json(), indent=2, allow_nan=False) + "\n"
    return add_run(bundle, name, text.encode("utf-8"))

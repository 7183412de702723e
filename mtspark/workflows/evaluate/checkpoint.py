"""Scores of an agent's float network alone, be it for a chip or not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.core.environments import Sampling, Task, named_task
from mtspark.core.errors import BadRequestError
from mtspark.core.executor import Job, Package, finished_jobs
from mtspark.core.files import AnyPath, check_checkpoint_file, current_policy, read_whole
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.deploy.bundle import AGENT
from mtspark.sim.play import MAX_GAMES_AT_ONCE, Episode, play_task
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate.bundle import EvaluationRequest, questions_of
from mtspark.workflows.evaluate.images import float_image_row
from mtspark.workflows.evaluate.rows import (
    Evaluation,
    GameRow,
    ImageRow,
    Question,
    game_row,
    store,
    stored_games,
)
from mtspark.workflows.run import episode_reports
from mtspark.workflows.workers import episode_of, episode_values, own_modules, seeds_text

if TYPE_CHECKING:
    from mtspark.train.checkpoint import Agent


def evaluate_checkpoint(
    path: AnyPath,
    request: EvaluationRequest,
    *,
    content: bytes | None = None,
    check: Callable[[Sequence[Task]], None] = lambda tasks: None,
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Score an agent by its own protocol, then with sticky actions.

    Args:
        path: of the agent's file.
        request: tasks, episodes, seeds.
        content: the file's bytes where they have been read; then `path` only names them.
        check: called with the tasks that are scored, before they are; may refuse them.
        progress: called at every decision.

    Raises:
        BadFileError: no agent file.
        BadRequestError: unknown task, or numbers that cannot be.
    """
    request.check()
    path = Path(path)
    if content is None:
        check_checkpoint_file(path)
        # Read once: the digest is that of the weights that play.
        content = read_whole(path, current_policy().limits)
    begin(progress, f"reading {path.name}", "torch")
    from mtspark.train.checkpoint import load_agent

    agent = load_agent(path, content=content)
    names = tuple(named_task(agent.tasks, name) for name in request.tasks)
    request = replace(request, tasks=names)
    digest = hashlib.sha256(content).hexdigest()
    images: list[ImageRow] = []
    chosen = [
        (row, task)
        for row, task in enumerate(agent.tasks)
        if not request.tasks or task.name in request.tasks
    ]
    check([task for _, task in chosen])
    request.check_used(agent.tasks)
    questions = {
        question: row
        for row, task in chosen
        for question in questions_of(task, agent.protocol, request)
    }
    known = {
        one.question: one
        for one in reversed(stored_games(request.store, digest))
        if one.question in questions and one.backend == BackendName.TORCH.value
    }

    def evaluation() -> Evaluation:
        games = [known[question] for question in questions if question in known]
        return Evaluation(path.stem, digest, tuple(games), tuple(images))

    if request.executor is not None:
        if not questions:
            raise BadRequestError("--executor: plays games; leave it out for image sets")
        left = {one: row for one, row in questions.items() if one not in known}
        modules = own_modules(agent.tasks)
        for game in _rows_elsewhere(content, modules, left, request.executor, digest, progress):
            known[game.question] = game
            store(request.store, evaluation())
    for row, task in chosen:
        if not task.game:
            data, count = request.data, request.images
            images.append(float_image_row(agent, row, data, count, digest, progress))
        for question in questions_of(task, agent.protocol, request):
            if question not in known:
                known[question] = float_game_row(agent, task, row, question, digest, progress)
            store(request.store, replace(evaluation(), images=()))
    store(request.store, evaluation())
    return evaluation()


def _rows_elsewhere(
    content: bytes,
    modules: tuple[str, ...],
    questions: Mapping[Question, int],
    executor: str,
    digest: str,
    progress: ProgressCallback,
) -> Iterator[GameRow]:
    """Let workers play what :func:`float_game_row` plays; yield each row when it is complete."""
    package = Package({AGENT: content}, modules)
    name = BackendName.TORCH.value
    jobs, owners = [], []
    for question, row in questions.items():
        drawn = question.sampling
        for first in range(0, question.episodes, MAX_GAMES_AT_ONCE):
            count = min(MAX_GAMES_AT_ONCE, question.episodes - first)
            arguments = {
                "row": row,
                "episodes": count,
                "seed": question.seed + first,
                "max_decisions": question.max_decisions,
                "sticky": question.sticky,
                "sampling": None if drawn is None else [drawn.seed, drawn.temperature],
            }
            text = f"{question.text}, {name}, {seeds_text(question.seed + first, count)}"
            jobs.append(Job(text, play_float_games, arguments, package, weight=count))
            owners.append(question)
    played: dict[Question, list[Episode]] = {question: [] for question in questions}
    for index, part in finished_jobs(
        executor, jobs, stage="games on torch", unit="episodes", progress=progress
    ):
        question = owners[index]
        played[question] += [episode_of(values) for values in part]
        if len(played[question]) == question.episodes:
            games = sorted(played[question], key=lambda episode: episode.seed)
            yield game_row(games, name, question, digest)


def play_float_games(
    folder: Path,
    row: int,
    episodes: int,
    seed: int,
    max_decisions: int | None,
    sticky: float,
    sampling: Sequence[Any] | None,
) -> list[dict[str, Any]]:
    """Play games with the float network of an agent's file; runs on a worker.

    Args:
        folder: of the file.
        row: of the task.
        episodes, seed, max_decisions, sticky: as for :func:`mtspark.sim.play.play_task`.
        sampling: seed and temperature.

    Returns:
        The episodes, as plain values.
    """
    from mtspark.train.backend import TorchBackend
    from mtspark.train.checkpoint import load_agent

    agent = load_agent(folder / AGENT)
    with closing(TorchBackend(agent)) as player:
        played = play_task(
            player,
            agent.tasks[row],
            row,
            agent.protocol,
            episodes=episodes,
            seed=seed,
            max_decisions=max_decisions,
            sticky=sticky,
            sampling=None if sampling is None else Sampling(*sampling),
        )
    return [episode_values(episode) for episode in played]


def float_game_row(
    agent: Agent,
    task: Task,
    row: int,
    question: Question,
    digest: str,
    progress: ProgressCallback = no_progress,
) -> GameRow:
    """Play one task with an agent's float network; `digest` names its file."""
    from mtspark.train.backend import TorchBackend

    name = BackendName.TORCH.value
    stage = f"{question.text}, {name}"
    with closing(TorchBackend(agent)) as player:
        played = play_task(
            player,
            task,
            row,
            agent.protocol,
            episodes=question.episodes,
            seed=question.seed,
            max_decisions=question.max_decisions,
            sticky=question.sticky,
            observe=episode_reports(progress, stage, question.episodes),
            sampling=question.sampling,
        )
    return game_row(played, name, question, digest)

"""Scores of an agent's float network alone, be it for a chip or not."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtspark.core.environments import Task, named_task, sticky_of
from mtspark.core.files import AnyPath, check_checkpoint_file, current_policy, read_whole
from mtspark.core.progress import ProgressCallback, begin, no_progress
from mtspark.sim.play import play_task
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate.bundle import EvaluationRequest
from mtspark.workflows.evaluate.images import float_image_row
from mtspark.workflows.evaluate.rows import (
    Evaluation,
    GameRow,
    ImageRow,
    game_row,
    store,
    stored_games,
)
from mtspark.workflows.run import episode_reports

if TYPE_CHECKING:
    from mtspark.train.checkpoint import Agent


def evaluate_checkpoint(
    path: AnyPath,
    request: EvaluationRequest,
    *,
    content: bytes | None = None,
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Score an agent by its own protocol, then with sticky actions.

    Args:
        path: of the agent's file.
        request: tasks, episodes, seeds.
        content: the file's bytes where they have been read; then `path` only names them.
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
    known = stored_games(request.store, digest)
    games: list[GameRow] = []
    images: list[ImageRow] = []

    def evaluation() -> Evaluation:
        return Evaluation(path.stem, digest, tuple(games), tuple(images))

    for row, task in enumerate(agent.tasks):
        if request.tasks and task.name not in request.tasks:
            continue
        if not task.game:
            data, count = request.data, request.images
            images.append(float_image_row(agent, row, data, count, digest, progress))
            continue
        usual = sticky_of(agent.protocol)
        for sticky in dict.fromkeys((usual, request.sticky if task.is_ale else usual)):
            question = (
                task.name,
                sticky,
                request.seed,
                request.episodes,
                request.max_decisions,
            )
            same = [
                one
                for one in known
                if one.question == question and one.backend == BackendName.TORCH.value
            ][:1]
            games += same or [float_game_row(agent, task, row, sticky, request, digest, progress)]
            store(request.store, replace(evaluation(), images=()))
    store(request.store, evaluation())
    return evaluation()


def float_game_row(
    agent: Agent,
    task: Task,
    row: int,
    sticky: float,
    request: EvaluationRequest,
    digest: str,
    progress: ProgressCallback = no_progress,
) -> GameRow:
    """Play one task with an agent's float network; `digest` names its file."""
    from mtspark.train.backend import TorchBackend

    name = BackendName.TORCH.value
    stage = f"{task.name}, sticky {sticky:g}, {name}"
    with closing(TorchBackend(agent)) as player:
        played = play_task(
            player,
            task,
            row,
            agent.protocol,
            episodes=request.episodes,
            seed=request.seed,
            max_decisions=request.max_decisions,
            sticky=sticky,
            observe=episode_reports(progress, stage, request.episodes),
        )
    return game_row(played, task.name, name, sticky, request.seed, digest, request.max_decisions)

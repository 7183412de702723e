"""``mtspark eval`` of an agent file: its float network alone, be it for a chip or not."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli._progress import play_progress
from mtspark.cli.evaluate_images import float_image_row
from mtspark.cli.evaluate_rows import asked_of, row_of, store_rows, stored_rows
from mtspark.cli.show.evaluation import print_game_rows, print_image_rows
from mtspark.workflows.backends import BackendName

if TYPE_CHECKING:
    from mtspark.core.environments.protocol import Task
    from mtspark.train.checkpoint.agent import Agent


def evaluate_checkpoint(
    path: Path,
    wanted: list[str],
    episodes: int,
    seed: int,
    sticky: float,
    data: Path | None,
    images: int,
    json_out: Path | None,
) -> None:
    """Score an agent by its own protocol, then with sticky actions; as the command's options.

    Raises:
        BadFileError: no agent file.
        BadRequestError: unknown task.
    """
    from mtspark.core.environments.protocol import task_index
    from mtspark.deploy.bundle import sha256
    from mtspark.train.checkpoint.agent import load_agent

    agent = load_agent(path)
    for name in wanted:
        task_index(agent.tasks, name)
    digest = sha256(path)
    stored = stored_rows(json_out, digest)
    rows: list[dict[str, Any]] = []
    of_images: list[dict[str, Any]] = []
    for row, task in enumerate(agent.tasks):
        if wanted and task.name not in wanted:
            continue
        if not task.game:
            of_images.append(float_image_row(agent, row, data, images, digest))
            continue
        assert agent.protocol is not None
        for stickiness in dict.fromkeys((agent.protocol.sticky_action_probability, sticky)):
            asked = (task.name, stickiness, seed, episodes)
            known = [row for row in stored if asked_of(row) == asked]
            rows += known or [_game_row(agent, task, row, stickiness, episodes, seed, digest)]
            if json_out is not None:
                store_rows(json_out, path.stem, digest, rows)
    if json_out is not None:
        store_rows(json_out, path.stem, digest, rows + of_images)
    if rows:
        print_game_rows(path.stem, rows)
    if of_images:
        print_image_rows(path.stem, of_images)


def _game_row(
    agent: Agent, task: Task, row: int, sticky: float, episodes: int, seed: int, digest: str
) -> dict[str, Any]:
    from mtspark.sim.play import play_task
    from mtspark.train.backend import TorchBackend

    assert agent.protocol is not None
    name = BackendName.TORCH.value
    with (
        closing(TorchBackend(agent)) as player,
        play_progress(f"{task.name}, sticky {sticky:g}, {name}", episodes) as progress,
    ):
        played = play_task(
            player,
            task,
            row,
            agent.protocol,
            episodes=episodes,
            seed=seed,
            sticky=sticky,
            observe=progress,
        )
    return row_of(played, task.name, name, sticky, seed, digest)

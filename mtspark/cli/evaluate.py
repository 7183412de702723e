"""The command ``mtspark eval``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtspark.cli._console import DETAILS, EXECUTOR, MOST, one_thread_each, refuse_given
from mtspark.cli._playing import MaxDecisions, Sample, Temperature, print_seed_notes
from mtspark.cli._progress import progress_bar
from mtspark.cli.measuring import DATA, LABELS, score_labelled
from mtspark.core.errors import BadRequestError
from mtspark.core.files import check_json_target, write_json
from mtspark.sim.energy import DEFAULT_CARD

if TYPE_CHECKING:
    from mtspark.core.environments import Task

OF_GAMES = ("episodes", "seed", "sticky", "max_decisions", "sample", "temperature")
OF_SETS = ("images", "into")
"""Parameters that mean nothing to other inputs."""


def evaluate_command(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle made by mtspark export; or an agent file (.pt), whose float network "
            "then plays alone.",
        ),
    ],
    task: Annotated[
        list[str] | None, typer.Option(help="Only this task; repeat for several (all).")
    ] = None,
    episodes: Annotated[int, typer.Option(min=2, max=MOST, help="Full games per row.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the first game of every row.")] = 0,
    sticky: Annotated[
        float, typer.Option(help="Sticky actions of the second pair of rows.")
    ] = 0.25,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help=f"{DATA}; for image tasks, the folder with their sets (or download).",
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help=LABELS)] = None,
    images: Annotated[
        int, typer.Option(min=0, max=MOST, help="Test images of each task; 0: all.")
    ] = 0,
    max_decisions: MaxDecisions = None,
    sample: Sample = None,
    temperature: Temperature = 1.0,
    into: Annotated[
        Path | None, typer.Option(help="Store the rows in this checkpoint, too.")
    ] = None,
    card: Annotated[str, typer.Option(help="Prices, a card's name or .toml file.")] = DEFAULT_CARD,
    executor: Annotated[str | None, typer.Option(metavar="WHERE", help=EXECUTOR)] = None,
    details: Annotated[bool, typer.Option("--details", help=DETAILS)] = False,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write the result to this file, row by row; a run that was stopped goes on.",
        ),
    ] = None,
) -> None:
    """Score float network and chip on the same starts, without and with sticky actions.

    Every task is played over full, unclipped episodes, greedily or, with --sample, by drawn
    actions, as an agent of PPO learned. While the chip plays, the float network is asked about the
    same frames: the share of decisions with the same (best) action is printed (of numbers: each
    within 5 % of its range). Image sets and data of your own, --data, are scored by the share that
    is named rightly. An agent that no chip can run, as one without spikes, is scored by its file.
    """
    one_thread_each()
    from mtspark.cli.show import print_evaluation
    from mtspark.core.environments import sampling_of
    from mtspark.core.executor import check_executor
    from mtspark.deploy.bundle import load_bundle
    from mtspark.workflows.evaluate import (
        EvaluationRequest,
        evaluate_bundle,
        evaluate_checkpoint,
        is_labelled,
    )

    check_json_target(json_out)
    if data is not None and (labels is not None or is_labelled(data)):
        check_executor(executor, {"--data with labels": True})
        refuse_given(context, "is of games and image sets, --data has labels", *OF_SETS, *OF_GAMES)
        _evaluate_data(folder, data, labels, task or [], card, json_out, details=details)
        return
    if labels is not None:
        raise BadRequestError("--labels: belongs to inputs; give them, too: --data FILE.npy")
    request = EvaluationRequest(
        tasks=tuple(task or ()),
        episodes=episodes,
        seed=seed,
        sticky=sticky,
        data=None if data is None else Path(data),
        images=images,
        store=json_out,
        max_decisions=max_decisions,
        executor=executor,
        card=card,
        sampling=sampling_of(sample, temperature),
    )
    request.check()
    is_agent_file = folder.is_file() or (folder.suffix == ".pt" and not folder.exists())
    if is_agent_file and into is not None:
        raise BadRequestError("--into stores what float and chip scored; give a bundle")
    if is_agent_file:
        refuse_given(context, "prices a chip, and an agent file runs on none", "card")
    played: list[Task] = []
    with progress_bar() as progress:
        if is_agent_file:
            check = partial(_refuse_of_other_tasks, context, played)
            result = evaluate_checkpoint(folder, request, check=check, progress=progress)
        else:
            bundle = load_bundle(folder)
            chosen = {bundle.network.task_name(name) for name in request.tasks}
            tasks = [one for one in bundle.network.tasks if not chosen or one.name in chosen]
            _refuse_of_other_tasks(context, played, tasks)
            result = evaluate_bundle(bundle, request, into=into, progress=progress)
    print_evaluation(result, details=details)
    print_seed_notes(played, executor)


def _refuse_of_other_tasks(
    context: typer.Context, played: list[Task], tasks: Sequence[Task]
) -> None:
    """Refuse options that mean nothing to the tasks that are scored, and add those to `played`."""
    played += tasks
    if not any(task.game for task in tasks):
        refuse_given(context, "is of games, and no task is one", *OF_GAMES)
    if all(task.game for task in tasks):
        refuse_given(context, "is of image sets, and no task is one", "data", "images")
    if not any(task.is_ale for task in tasks):
        refuse_given(context, "is of ALE's games, and no task is one", "sticky")


def _evaluate_data(
    folder: Path,
    data: str,
    labels: Path | None,
    tasks: list[str],
    card: str,
    json_out: Path | None,
    *,
    details: bool,
) -> None:
    """Score a bundle on data of the user's own."""
    values = score_labelled(folder, data, labels, tasks=tuple(tasks), card=card, details=details)
    if json_out is not None:
        write_json(json_out, values)

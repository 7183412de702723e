"""The command ``mtspark eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli._console import one_thread_each
from mtspark.cli._progress import play_progress
from mtspark.cli.evaluate_rows import asked_of, row_of, store_rows, stored_rows
from mtspark.cli.show.evaluation import print_game_rows
from mtspark.core.files.atomic import check_target, writable_folder
from mtspark.workflows.backends import BackendName, open_backend

if TYPE_CHECKING:
    from mtspark.core.backend import Moment
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.play import Run

SEEDS = 2**30
"""Games can be seeded with 0 to one less."""

QUANTISATION = ("weight_bits", "weight_scale", "rounding")
"""Entries of a network's provenance that say how its weights became integers."""


def evaluate_command(
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
    episodes: Annotated[int, typer.Option(min=2, help="Full games per row.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the first game of every row.")] = 0,
    sticky: Annotated[
        float, typer.Option(help="Sticky actions of the second pair of rows.")
    ] = 0.25,
    data: Annotated[
        Path | None, typer.Option(help="Folder with test images, for image tasks (or download).")
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="Test images of each task; 0: all.")] = 0,
    into: Annotated[
        Path | None, typer.Option(help="Store the rows in this checkpoint, too.")
    ] = None,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write the result to this file, row by row; a run that was stopped goes on.",
        ),
    ] = None,
) -> None:
    """Score float network and chip on the same starts, without and with sticky actions.

    Every task is played greedily over full, unclipped episodes. While the chip plays, the
    float network is asked about the same frames: the share of equal actions is printed. A task
    that is an image set is scored by the share of its test images that are named rightly. An
    agent that no chip can run, such as a teacher that does not spike, is scored by its own file.
    """
    one_thread_each()
    from mtspark.cli.evaluate_float import evaluate_checkpoint
    from mtspark.cli.evaluate_images import image_rows
    from mtspark.cli.show.evaluation import print_image_rows
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import load_bundle

    check_target(json_out)
    if not 0 <= sticky < 1:
        raise BadRequestError(f"--sticky {sticky:g}: 0 up to below 1 is a probability; change it")
    if not 0 <= seed <= SEEDS - episodes:
        raise BadRequestError(
            f"--seed {seed}: 0 to {SEEDS - episodes} can be used with {episodes} episodes"
        )
    if folder.is_file():
        if into is not None:
            raise BadRequestError("--into stores what float and chip scored; give a bundle")
        evaluate_checkpoint(folder, task or [], episodes, seed, sticky, data, images, json_out)
        return
    bundle = load_bundle(folder)
    for asked_task in task or ():
        bundle.network.task_index(asked_task)
    if into is not None:
        if task:
            raise BadRequestError("--into stores the rows of all tasks; leave --task out")
        _check_same_agent(bundle, into)
        # A link to a checkpoint stays a link.
        into = into.resolve()
        writable_folder(into.parent)
    rows: list[dict[str, Any]] = []
    of_images: list[dict[str, Any]] = []
    name, sha256 = bundle.network.name, bundle.network_hash
    stored = stored_rows(json_out, sha256)
    for one in bundle.network.tasks:
        if task and one.name not in task:
            continue
        if not one.game:
            notes = {key: bundle.network.provenance.get(key) for key in QUANTISATION}
            of_images += image_rows(bundle, one.name, data, images, notes)
            continue
        for stickiness in dict.fromkeys(
            (bundle.network.game_protocol.sticky_action_probability, sticky)
        ):
            asked = (one.name, stickiness, seed, episodes)
            pair = [row for row in stored if asked_of(row) == asked]
            rows += pair or _pair_of_rows(bundle, one.name, stickiness, episodes, seed)
            if json_out is not None:
                store_rows(json_out, name, sha256, rows)
    if json_out is not None:
        store_rows(json_out, name, sha256, rows + of_images)
    if into is not None:
        from mtspark.train.checkpoint.agent import load_agent, save_agent

        agent = load_agent(into)
        agent.evaluations = rows + of_images
        save_agent(agent, into)
    if rows:
        print_game_rows(name, rows)
    if of_images:
        print_image_rows(name, of_images)


def _check_same_agent(bundle: Bundle, checkpoint: Path) -> None:
    """Refuse to store the scores of one agent in the file of another.

    Raises:
        BadRequestError: the bundle was made of other weights.
    """
    import torch

    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import AGENT
    from mtspark.train.checkpoint.agent import load_agent

    own = load_agent(bundle.folder / AGENT).network.state_dict()
    other = load_agent(checkpoint).network.state_dict()
    same = own.keys() == other.keys() and all(torch.equal(own[key], other[key]) for key in own)
    if not same:
        raise BadRequestError(f"{checkpoint}: other weights than those of {bundle.folder}")


def _pair_of_rows(
    bundle: Bundle, task: str, sticky: float, episodes: int, seed: int
) -> list[dict[str, Any]]:
    """Float and chip on the same starts; the chip's row has the agreement of actions."""
    from mtspark.core.backend import greedy_actions
    from mtspark.sim.play import play

    network = bundle.network
    index = network.task_index(task)
    legal = network.tasks[index].legal_actions
    same, asked = 0, 0
    runs: dict[str, Run] = {}
    with open_backend(BackendName.TORCH, bundle, task) as torch_agent:

        def ask_torch(moment: Moment) -> None:
            nonlocal same, asked
            answer = torch_agent.decide(moment.frames, index)
            agree = greedy_actions(answer.values, legal) == moment.actions
            same += int(agree.sum())
            asked += len(agree)

        for name in (BackendName.TORCH, BackendName.ENGINE):
            title = f"{task}, sticky {sticky:g}, {name.value}"
            with (
                open_backend(name, bundle, task) as player,
                play_progress(title, episodes) as progress,
            ):
                chip = name is BackendName.ENGINE

                def observe(moment: Moment, progress: Any = progress, chip: bool = chip) -> None:
                    progress(moment)
                    if chip:
                        ask_torch(moment)

                runs[name.value] = play(
                    player,
                    network,
                    task,
                    episodes=episodes,
                    seed=seed,
                    sticky=sticky,
                    observe=observe,
                )
    notes = {key: network.provenance.get(key) for key in QUANTISATION}
    rows = [
        {**row_of(run.episodes, task, name, sticky, seed, bundle.network_hash), **notes}
        for name, run in runs.items()
    ]
    rows[1].update(action_agreement=same / asked, decisions_compared=asked)
    return rows

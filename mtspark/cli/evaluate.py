"""The command ``mtspark eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli.common import (
    BackendName,
    check_json_target,
    console,
    one_thread_each,
    open_backend,
    play_progress,
    writable_folder,
    write_json,
)

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.play import Moment, Run

SEEDS = 2**30
"""Games can be seeded with 0 to one less."""

QUANTISATION = ("weight_bits", "weight_scale", "rounding")
"""Entries of a network's provenance that say how its weights became integers."""


def evaluate_command(
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
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
    that is an image set is scored by the share of its test images that are named rightly.
    """
    one_thread_each()
    from mtspark.cli.evaluate_images import image_rows, print_image_rows
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import load_bundle

    check_json_target(json_out)
    bundle = load_bundle(folder)
    if not 0 <= sticky < 1:
        raise BadRequestError(f"--sticky {sticky:g}: 0 up to below 1 is a probability; change it")
    if not 0 <= seed <= SEEDS - episodes:
        raise BadRequestError(
            f"--seed {seed}: 0 to {SEEDS - episodes} can be used with {episodes} episodes"
        )
    for name in task or ():
        bundle.network.task_index(name)
    if into is not None:
        if task:
            raise BadRequestError("--into stores the rows of all tasks; leave --task out")
        _check_same_agent(bundle, into)
        # A link to a checkpoint stays a link.
        into = into.resolve()
        writable_folder(into.parent)
    rows: list[dict[str, Any]] = []
    of_images: list[dict[str, Any]] = []
    stored = [] if json_out is None else _stored_rows(json_out, bundle)
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
            pair = [row for row in stored if _asked(row) == asked]
            rows += pair or _pair_of_rows(bundle, one.name, stickiness, episodes, seed)
            if json_out is not None:
                _store_rows(json_out, bundle, rows)
    if json_out is not None:
        _store_rows(json_out, bundle, rows + of_images)
    if into is not None:
        from mtspark.train.checkpoint import load_agent, save_agent

        agent = load_agent(into)
        agent.evaluations = rows + of_images
        save_agent(agent, into)
    if rows:
        _print(bundle, rows)
    if of_images:
        print_image_rows(bundle.network.name, of_images)


def _asked(row: dict[str, Any]) -> tuple[Any, ...]:
    keys = ("task", "sticky_action_probability", "seed", "episodes")
    return tuple(row.get(key) for key in keys)


def _store_rows(path: Path, bundle: Bundle, rows: list[dict[str, Any]]) -> None:
    write_json(
        path,
        {
            "format": "mtspark-eval",
            "version": 1,
            "agent": bundle.network.name,
            "network_sha256": bundle.network_hash,
            "rows": rows,
        },
    )


def _stored_rows(path: Path, bundle: Bundle) -> list[dict[str, Any]]:
    """Rows of games that an earlier run of the same network has written; none of another."""
    import json

    from mtspark.core.errors import BadFileError
    from mtspark.core.sandbox import read_text_guarded

    try:
        found = read_text_guarded(path, json.loads)
        same = found["format"] == "mtspark-eval" and found["network_sha256"] == bundle.network_hash
        return [row for row in found["rows"] if same and "returns" in row]
    except (BadFileError, KeyError, TypeError):
        return []


def _check_same_agent(bundle: Bundle, checkpoint: Path) -> None:
    """Refuse to store the scores of one agent in the file of another.

    Raises:
        BadRequestError: the bundle was made of other weights.
    """
    import torch

    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import AGENT
    from mtspark.train.checkpoint import load_agent

    own = load_agent(bundle.folder / AGENT).network.state_dict()
    other = load_agent(checkpoint).network.state_dict()
    same = own.keys() == other.keys() and all(torch.equal(own[key], other[key]) for key in own)
    if not same:
        raise BadRequestError(f"{checkpoint}: other weights than those of {bundle.folder}")


def _pair_of_rows(
    bundle: Bundle, task: str, sticky: float, episodes: int, seed: int
) -> list[dict[str, Any]]:
    """Float and chip on the same starts; the chip's row has the agreement of actions."""
    from mtspark.core.agent import greedy_actions
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
    rows = []
    for backend, run in runs.items():
        scores = [episode.score for episode in run.episodes]
        low, high = confidence_interval(scores)
        rows.append(
            {
                "task": task,
                "backend": backend,
                "network_sha256": bundle.network_hash,
                **{key: network.provenance.get(key) for key in QUANTISATION},
                "sticky_action_probability": sticky,
                "seed": seed,
                "episodes": len(scores),
                "distinct_episodes": run.distinct_episodes,
                "unfinished_episodes": sum(not episode.finished for episode in run.episodes),
                "mean_return": sum(scores) / len(scores),
                "interval_95": [low, high],
                "returns": scores,
                "decisions": run.counts.decisions,
                "action_agreement": same / asked if backend == "engine" else None,
                "decisions_compared": asked if backend == "engine" else None,
            }
        )
    return rows


def confidence_interval(scores: list[float], resamples: int = 10_000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, seeded.

    Greedy episodes repeat: with few distinct ones the interval is too narrow, so the number of
    distinct ones stands beside it.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    picks = generator.integers(0, len(scores), size=(resamples, len(scores)))
    low, high = np.percentile(np.asarray(scores)[picks].mean(1), [2.5, 97.5])
    return float(low), float(high)


def _print(bundle: Bundle, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title=f"{bundle.network.name}: greedy, full episodes, unclipped returns")
    for column in ("task", "who", "sticky", "mean return", "95 %", "episodes", "distinct", "agree"):
        table.add_column(column, justify="left" if column in ("task", "who") else "right")
    for row in rows:
        low, high = row["interval_95"]
        agreement = row["action_agreement"]
        table.add_row(
            row["task"],
            "float (torch)" if row["backend"] == "torch" else "chip (integers)",
            f"{row['sticky_action_probability']:g}",
            f"{row['mean_return']:.2f}",
            f"{low:.1f} to {high:.1f}",
            str(row["episodes"]),
            str(row["distinct_episodes"]),
            "" if agreement is None else f"{agreement:.1%}",
        )
    console.print(table)
    compared = sum(row["decisions_compared"] or 0 for row in rows)
    console.print(f"agree: share of equal actions of float and chip, {compared:,} decisions in all")

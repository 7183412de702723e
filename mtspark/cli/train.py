"""The command ``mtspark train``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mtspark.train.ablation.grid import AblationSettings
    from mtspark.train.config.games import TrainConfig
    from mtspark.train.images.trainer import ImageConfig


def train_command(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A TOML file, or a shipped recipe: pong, pong-dqn, breakout-teacher, "
            "realtime-teacher, three-games, three-games-taught, dendrites (Atari); images (MNIST "
            "and CIFAR-10); ablation (a grid of networks on images)."
        ),
    ] = "pong",
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder of the run; an existing run goes on (runs/RECIPE)."
        ),
    ] = None,
    game: Annotated[
        list[str] | None, typer.Option(help="ALE game instead of the recipe's; repeat for several.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="Network: dqn, dueling-dqn, dsqn, mtspark-ad or mtspark-add."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Agent decisions over all games.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Of weights, tasks and exploration."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the image sets (default: download from OpenML)."),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(help="Fuse neurons with torch.compile: a third faster after a minute."),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field: name=value, e.g. network.hidden=512."),
    ] = None,
    list_fields: Annotated[
        bool, typer.Option("--show", help="Print the whole configuration and stop.")
    ] = False,
) -> None:
    """Train a spiking agent on Atari games or images; stop any time, the same command goes on.

    Progress shows each game's mean unclipped return, or each image set's test accuracy; the
    folder gets agent.pt, log.jsonl and TensorBoard's files. The fields of a recipe are
    documented in docs/training.md.
    """
    from mtspark.cli._console import console
    from mtspark.core.errors import BadRequestError
    from mtspark.train.ablation.grid import AblationSettings
    from mtspark.train.config.games import TrainConfig
    from mtspark.train.config.notes import notes
    from mtspark.train.config.recipe import override, read_recipe, to_config

    fields, dropped = read_recipe(recipe), ""
    if game:
        fields, dropped = _with_games(fields, game)
    if variant is not None:
        fields = override(fields, [f"network.variant={variant}"])
    given = {"total_steps": steps, "seed": seed, "device": device, "compiled": compiled}
    fields.update({key: value for key, value in given.items() if value is not None})
    fields = override(fields, assignments or [])
    config = to_config(fields, recipe)
    if list_fields:
        import json
        from dataclasses import asdict

        # For programs to read: neither coloured nor folded, whatever the terminal.
        print(json.dumps({"kind": fields.get("kind", "games"), **asdict(config)}, indent=2))
        return
    target = folder or Path("runs") / Path(recipe).stem
    if isinstance(config, AblationSettings):
        _compare(config, target, data)
        return
    if isinstance(config, TrainConfig) and data is not None:
        raise BadRequestError("--data: is of image sets, this recipe plays games; leave it out")
    _check_machine(config)
    for note in [*filter(None, [dropped]), *notes(config)]:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    if isinstance(config, TrainConfig):
        path = _train_games(config, target)
    else:
        path = _train_images(config, target, data)
    console.print(f"wrote {path}", soft_wrap=True)


def _with_games(fields: dict[str, Any], games: list[str]) -> tuple[dict[str, Any], str]:
    """The recipe for other games, without what it says of each of its own; what was left out.

    One value for all games stays, also as a list of one, and teachers always go.
    """
    from mtspark.train.config.games import PER_GAME

    if games == fields.get("games"):
        return fields, ""
    kept, dropped = dict(fields), []
    for name in (name for name in PER_GAME if name in fields):
        value = fields[name]
        if name == "teachers" or (isinstance(value, list) and len(value) > 1):
            del kept[name]
            dropped.append(name)
        elif isinstance(value, list):
            kept[name] = value * len(games)
    network = fields.get("network", {})
    if isinstance(network, dict):
        network = {key: value for key, value in network.items() if key != "tasks"}
    told = f"--game: without the recipe's {', '.join(dropped)}, of its own games only"
    return {**kept, "games": games, "network": network}, told if dropped else ""


def _check_machine(config: TrainConfig | ImageConfig) -> None:
    from mtspark.train.runs.setup import check_compiler, check_device

    check_device(config.device)
    if config.compiled:
        check_compiler()


def _train_games(config: TrainConfig, folder: Path) -> Path:
    from mtspark.train.rl.run import RUN_FORMAT, train
    from mtspark.train.runs.setup import STATE, check_folder, check_games, only_run_in

    check_games(config.games)
    check_folder(folder, RUN_FORMAT, STATE)
    with _interruption_as_one_line(), only_run_in(folder):
        return train(config, folder)


def _train_images(config: ImageConfig, folder: Path, data: Path | None) -> Path:
    from mtspark.train.images.data import load_images
    from mtspark.train.images.trainer import RUN_FORMAT, STATE, train_images
    from mtspark.train.runs.setup import check_folder, only_run_in

    check_folder(folder, RUN_FORMAT, STATE)
    training, test = ([load_images(name, split, data) for name in config.tasks] for split in SPLITS)
    with _interruption_as_one_line(), only_run_in(folder):
        return train_images(config, training, test, folder)


def _compare(settings: AblationSettings, folder: Path, data: Path | None) -> None:
    from mtspark.train.ablation.grid import TASKS, as_markdown, run_grid
    from mtspark.train.images.data import load_images
    from mtspark.train.runs.setup import check_folder, only_run_in

    check_folder(folder, "mtspark-ablation", ())
    training, test = ([load_images(name, split, data) for name in TASKS] for split in SPLITS)
    kept = "finished runs are kept, the same command goes on with the others"
    with _interruption_as_one_line(kept), only_run_in(folder):
        result = run_grid(folder, settings, training, test)
    print(as_markdown(result))


@contextmanager
def _interruption_as_one_line(kept: str = "") -> Iterator[None]:
    """On Ctrl-C, say what is kept, in the interruption's own words if it has any."""
    from mtspark.cli._console import EXIT_INTERRUPTED, stop

    try:
        yield
    except KeyboardInterrupt as interruption:
        words = [str(word) for word in interruption.args] or [kept]
        stop("; ".join(["interrupted", *filter(None, words)]), EXIT_INTERRUPTED)


SPLITS = ("train", "test")

"""The command ``mtspark train``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli._console import EXECUTOR, refuse_given

if TYPE_CHECKING:
    from mtspark.train.config import RunConfig
    from mtspark.train.images import ImageTrainingResult
    from mtspark.train.rl import TrainingResult


def train_command(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            help="A TOML file or a shipped recipe: cartpole, cartpole-offline (recorded data), "
            "cartpole-hidden (memory), lunarlander, pendulum, halfcheetah, halfcheetah-pair, "
            "halfcheetah-goals (Gymnasium); mt10 (Meta-World); doorkey, doorkey-ppo (MiniGrid); "
            "pong, pong-waiting, pong-dqn, breakout-teacher, realtime-teacher, three-games, "
            "three-games-waiting, three-games-taught, three-games-pathways, dendrites (Atari); "
            "images (MNIST and CIFAR-10); ablation (a grid of networks on images)."
        ),
    ] = "pong",
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder of the run; resumes a run in it (default: runs/RECIPE)."
        ),
    ] = None,
    game: Annotated[
        list[str] | None,
        typer.Option(
            help="Game, instead of the recipe's: of ALE or Gymnasium; repeat for several."
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(help="Network: dqn, dueling-dqn, dsqn, mtspark-ad or mtspark-add."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**12,
            help="Agent decisions over all games; gradient steps on recorded data.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Seed of weights, tasks and exploration."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="A run for each of these seeds, as 1,2,3 or 1-8, in folders seed-N of --output.",
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help=f"Of --seeds. {EXECUTOR}"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with the image sets (default: download from OpenML)."),
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(
            help="Fuse the neurons' steps with torch.compile: a third faster, after a minute of "
            "compilation."
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set any field: name=value, e.g. network.hidden=512."),
    ] = None,
    list_fields: Annotated[
        bool, typer.Option("--show", help="Print the whole configuration as JSON and stop.")
    ] = False,
) -> None:
    """Train a spiking agent on games, environments or images, or resume a stopped training run.

    Stop a run at any time; the same command resumes it, and a larger --steps makes it longer.
    Progress shows each game's mean unclipped return, or each image set's test accuracy. The folder
    gets agent.pt, log.jsonl and TensorBoard's files. docs/training.md documents the fields of a
    recipe.

    How it learns, --set algorithm=NAME: pqn (the default), lists of actions, without a replay; dqn,
    lists, where play is dear and a replay pays; ppo, lists or numbers, where a policy should stay
    random; sac, numbers. From recorded data (cartpole-offline): iql weighs the data's actions by
    how well they paid, for lists and numbers; bcq takes the best of those it has often, for lists.

    Sparse networks, --set pruning.layers=all and one method, --set pruning.method=METHOD:
    magnitude cuts the smallest weights step by step; for the best score, as training begins dense.
    evolution is sparse from the start and exchanges its smallest weights; where a dense network
    would be too large to train. static is sparse from the start at random places; the baseline that
    the others have to beat. pathways are synapses of each task; where a chip plays one at a time.

    With pathways, pruning.pretrain_steps=N lets each task find its path alone first; where early
    play of one task drowns the others' scores; pruning.gradual=true narrows paths step by step, for
    an agent of start_from that has learned; pruning.ranking=layer cuts every layer alike, where
    operations of convolutions should fall, too. With magnitude, pruning.scope=actor leaves the
    target network whole, where cuts make the learned values unstable; pruning.scope=critics cuts
    the critics of sac and ppo, too, as a comparison; pruning.reopen=true gives the agent of
    start_from its cut synapses back, where it should learn more.

    Several tasks: the recipes three-games, halfcheetah-pair (HalfCheetah forward and backward),
    halfcheetah-goals (those, jump and five speeds) and mt10 (Meta-World's ten tasks of a robot
    arm). How a network is told which one it plays, --set task_context=VALUE: dendrites, thresholds
    of each task; one_hot, a flag in what it sees; both.

    What tasks share, --set network.NAME=VALUE: dense=256, a dense layer before the last one; where
    one is too small for all tasks, or for their paths. experts=N, groups of hidden neurons that
    each task weighs; for tasks that need different features. expert_gate=current deploys as
    thresholds, output one task at a time, orthogonal not at all. heads=task gives each task a head;
    where the same action means different things.

    Plasticity, --set plasticity.NAME=N: measure_every, updates between two measurements in the log;
    whether a long run still learns. redo_every, between two renewals of dormant neurons (ReDo);
    where that log shows many. reset_every, between two resets of the head; where values stopped
    following the games. weight_decay shrinks the weights of the network that plays, and of sac's
    critics; where the log shows norms that grow.

    sac.critic_layer_norm, ppo.critic_layer_norm and offline.critic_layer_norm (true or false):
    normalise the hidden layers of critics, which stay on the host; where their values run away or
    their units fall silent. network.layer_norm: as a comparison only, since no chip computes it.
    """
    if list_fields:
        why = "is of training, and --show trains nothing"
        refuse_given(context, why, "folder", "seeds", "executor")
    chosen = _seeds(seeds, seed, executor)
    _refuse_of_games(context, recipe)
    _refuse_set_twice(context, assignments or [])
    given = {"total_steps": steps, "seed": seed, "device": device, "compiled": compiled}
    changed = {key: value for key, value in given.items() if value is not None}
    fields, dropped = _fields(recipe, game, variant, changed, assignments or [])
    if chosen is None:
        _start(fields, recipe, folder, data, dropped, shown=list_fields)
    else:
        _start_seeds(fields, recipe, folder, data, dropped, chosen, executor)


FIELDS = {
    "steps": "total_steps",
    "seed": "seed",
    "seeds": "seed",
    "device": "device",
    "compiled": "compiled",
    "game": "games",
    "variant": "network.variant",
}
"""Parameters that set a field of the recipe, and which."""


def _refuse_set_twice(context: typer.Context, assignments: list[str]) -> None:
    """Refuse an option beside a --set of the same field, of which one would be ignored.

    Raises:
        BadRequestError: there is one.
    """
    for assignment in assignments:
        path = assignment.partition("=")[0].strip()
        options = [name for name, field in FIELDS.items() if field == path]
        if options:
            refuse_given(context, f"--set {assignment} sets {path}, too", *options)


def _refuse_of_games(context: typer.Context, recipe: str) -> None:
    """Refuse options that mean nothing to a recipe of images.

    Raises:
        BadRequestError: there is one, or no such recipe.
    """
    from mtspark.train.config import read_recipe

    if read_recipe(recipe).get("kind", "games") != "games":
        why = "is of games, and this recipe learns images"
        refuse_given(context, f"{why}, for so many passes: --set epochs=N", "steps")
        refuse_given(context, why, "game")


def _seeds(text: str | None, seed: int | None, executor: str | None) -> tuple[int, ...] | None:
    """Read the seeds of several runs; None without.

    Raises:
        BadRequestError: no list of seeds, or options that mean nothing beside it.
    """
    from mtspark.core.errors import BadRequestError
    from mtspark.core.executor import check_executor
    from mtspark.train.config import parse_seeds

    if text is None:
        if executor is not None:
            raise BadRequestError("--executor: trains several seeds, one a worker; give --seeds")
        return None
    if seed is not None:
        raise BadRequestError("--seed: --seeds names the seeds already; leave one of both out")
    check_executor(executor)
    return parse_seeds(text)


def _start_seeds(
    fields: dict[str, Any],
    recipe: str,
    folder: Path | None,
    data: Path | None,
    dropped: str,
    seeds: tuple[int, ...],
    executor: str | None,
) -> None:
    """Train a run for each seed; print a line of each, and their mean."""
    from mtspark.cli._console import console
    from mtspark.cli._progress import progress_bar
    from mtspark.cli.start import quiet_interrupts
    from mtspark.train.config import AblationSettings, notes, to_config

    config, folder = to_config(fields, recipe), folder or Path("runs") / Path(recipe).stem
    if "torch" not in sys.modules:
        print(f"training in {folder}: loading PyTorch", file=sys.stderr, flush=True)
    with quiet_interrupts():
        from mtspark.train.seeds import train_seeds

    if not isinstance(config, AblationSettings):
        for note in [*filter(None, [dropped]), *notes(config)]:
            console.print(f"note: {note}", soft_wrap=True, markup=False)
    with _interruption_as_one_line(), progress_bar() as progress:
        runs = train_seeds(config, folder, seeds, executor=executor, data=data, progress=progress)
    for run in runs:
        console.print(f"seed {run.seed}: {_outcome(run.result)}", soft_wrap=True)
    console.print(f"wrote {folder}/seed-N/agent.pt", soft_wrap=True)


def _fields(
    recipe: str,
    games: list[str] | None,
    variant: str | None,
    changed: dict[str, Any],
    assignments: list[str],
) -> tuple[dict[str, Any], str]:
    """The fields of a recipe with what the options change; a note on what was dropped."""
    from mtspark.train.config import override, read_recipe

    fields, dropped = read_recipe(recipe), ""
    if games:
        fields, dropped = _with_games(fields, games)
    if variant is not None:
        fields = override(fields, [f"network.variant={variant}"])
    fields.update(changed)
    return override(fields, assignments), dropped


def _start(
    fields: dict[str, Any],
    recipe: str,
    folder: Path | None,
    data: Path | None,
    dropped: str,
    *,
    shown: bool,
) -> None:
    """Show the configuration, or train by it."""
    from mtspark.core.errors import BadRequestError
    from mtspark.train.config import TrainConfig, to_config

    config = to_config(fields, recipe)
    if isinstance(config, TrainConfig) and data is not None:
        raise BadRequestError("--data: is of image sets, this recipe plays games; leave it out")
    if shown:
        if data is not None:
            raise BadRequestError("--data: is of training, and --show trains nothing; leave it out")
        import json
        from dataclasses import asdict

        # For programs to read: neither coloured nor folded, whatever the terminal.
        print(json.dumps({"kind": fields.get("kind", "games"), **asdict(config)}, indent=2))
        return
    _train(config, folder or Path("runs") / Path(recipe).stem, data, dropped)


def _train(config: RunConfig, folder: Path, data: Path | None, dropped: str) -> None:
    """Train, with notes before and the result after; `dropped` is the first note, or empty."""
    from mtspark.cli._console import console
    from mtspark.cli._progress import progress_bar
    from mtspark.cli.start import quiet_interrupts
    from mtspark.train.config import AblationSettings, notes
    from mtspark.train.runs import check_request

    check_request(config, folder)
    if "torch" not in sys.modules:
        print(f"training in {folder}: loading PyTorch", file=sys.stderr, flush=True)
    with quiet_interrupts():
        from mtspark.train.ablation import AblationResult, as_markdown
        from mtspark.train.training import check_run, train_agent

    check_run(config, folder)
    if not isinstance(config, AblationSettings):
        for note in [*filter(None, [dropped]), *notes(config)]:
            console.print(f"note: {note}", soft_wrap=True, markup=False)
    with _interruption_as_one_line(), progress_bar() as progress:
        result = train_agent(config, folder, data=data, progress=progress)
    if isinstance(result, AblationResult):
        print(as_markdown(result))
        return
    known = notes(config) if not isinstance(config, AblationSettings) else []
    for note in (note for note in result.notes if note not in known):
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    console.print(_outcome(result), soft_wrap=True, markup=False)
    if result.is_new:
        console.print(f"wrote {result.path}", soft_wrap=True)


def _outcome(result: TrainingResult | ImageTrainingResult) -> str:
    """One line: whether the run was finished now or before, and its last scores."""
    from mtspark.train.rl import TrainingResult

    if isinstance(result, TrainingResult):
        scores = [
            f"{game} {'-' if value is None else value}"
            + (f" ({result.success[game]:.0%} solved)" if game in result.success else "")
            for game, value in result.returns.items()
        ]
        done = f"{result.steps:,} decisions, {result.episodes:,} games"
        shown, longer = "mean return of the last games", "; a larger --steps makes it longer"
        if result.unit != "decisions":
            # Nothing was played.
            done, shown = f"{result.steps:,} {result.unit} on recorded data", "scores"
            scores = [f"mtspark eval {result.path}"]
    else:
        scores = [f"{name} {share:.1%}" for name, share in result.accuracies.items()]
        done, shown, longer = f"{result.epochs} epochs", "test accuracy", ""
    outcome = f"{done}; {shown}: {', '.join(scores)}"
    if result.is_new:
        return f"finished: {outcome}"
    return f"{result.path.parent}: this run was finished before: {outcome}{longer}"


def _with_games(fields: dict[str, Any], games: list[str]) -> tuple[dict[str, Any], str]:
    """The recipe for other games, without entries for each of its own; a note on what was dropped.

    One value for all games stays, also as a list of one; teachers always go, and what environments
    do not have goes where the others are some.
    """
    from mtspark.core.environments import is_world
    from mtspark.train.config import OF_CONSOLES, PER_GAME

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
    settings = fields.get("environments", ())
    if isinstance(settings, list) and all(isinstance(one, dict) for one in settings):
        named = [one for one in settings if one.get("name", one.get("id")) in games]
        if len(named) < len(settings):
            kept["environments"] = named
            dropped.append("environments")
    if all(map(is_world, games)):
        dropped += [name for name in OF_CONSOLES if kept.pop(name, None)]
    network = fields.get("network", {})
    if isinstance(network, dict):
        network = {key: value for key, value in network.items() if key != "tasks"}
    note = f"--game: without the recipe's {', '.join(dropped)}, of its own games only"
    return {**kept, "games": games, "network": network}, note if dropped else ""


@contextmanager
def _interruption_as_one_line() -> Iterator[None]:
    """On a signal, print one line that says where the run resumes, if the interruption says so.

    The exit code is that of a process that the signal has ended: 130 on Ctrl-C, 143 on SIGTERM.
    """
    from mtspark.cli._console import EXIT_INTERRUPTED, stop

    try:
        yield
    except KeyboardInterrupt as interruption:
        number = getattr(interruption, "signal", None)
        code = EXIT_INTERRUPTED if number is None else 128 + number
        word = "interrupted" if code == EXIT_INTERRUPTED else "terminated"
        stop("; ".join([word, *map(str, interruption.args)]), code)

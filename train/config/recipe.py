"""Recipes: training runs as TOML files, checked field by field."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from mtspark.core.environments import (
    Environment,
    GameProtocol,
    is_world,
    named_games,
    side_by_side,
    world_task,
)
from mtspark.core.errors import BadFileError, BadNetworkError, BadRequestError, one_line
from mtspark.core.files import AnyPath, current_policy, parse_toml, read_toml
from mtspark.train.config.ablation import AblationSettings, grid, run_config
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.images import ImageConfig, check_image_config
from mtspark.train.config.offline import OFFLINE
from mtspark.train.config.ppo import why_not_together
from mtspark.train.config.sac import why_not_learned
from mtspark.train.config.tasks import run_environments
from mtspark.train.networks import (
    NEURONS,
    VARIANTS,
    NetworkConfig,
    check_agent_limits,
    check_fan_in,
    check_network_config,
    decided_fields,
    spiking_layers,
    with_variant,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RunConfig = TrainConfig | ImageConfig | AblationSettings
"""What a recipe can describe."""
POLICIES = ("ppo", *OFFLINE)
"""Algorithms whose network is a policy, of which a dueling head is no part."""
SHIPPED = files("mtspark.train.config") / "recipes"


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with mtspark."""
    names = (entry.name for entry in SHIPPED.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def read_recipe(name: AnyPath) -> dict[str, Any]:
    """Read the fields of a recipe, by the name of a shipped one or the path of a TOML file.

    Raises:
        BadFileError: no such recipe, or not TOML.
    """
    name = os.fspath(name)
    if name in shipped_recipes():
        return tomllib.loads((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"))
    path = Path(name)
    if not path.is_file():
        names = ", ".join(shipped_recipes())
        remedy = f"; to train in an environment: cartpole --game {name}" if is_world(name) else ""
        raise BadFileError(f"{name}: no such recipe; give a TOML file or one of {names}{remedy}")
    return read_toml(path)


def override(fields: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Set fields by ``name=value`` or ``table.name=value``; values are TOML, or plain words.

    Raises:
        BadRequestError: an assignment without a name or an equals sign.
    """
    changed: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else value for key, value in fields.items()
    }
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *tables, last = path.strip().split(".")
        if not equals or not last or len(tables) > 1:
            raise BadRequestError(
                f"--set {assignment}: write name=value or table.name=value, for example "
                "network.hidden=512"
            )
        try:
            value = parse_toml(f"value = {text}", current_policy().limits)["value"]
        except (ValueError, RecursionError):
            value = text.strip()
        owner = changed.setdefault(tables[0], {}) if tables else changed
        if not isinstance(owner, dict):
            raise BadRequestError(f"--set {assignment}: {tables[0]} is no table")
        owner[last] = value
    return changed


def to_config(fields: dict[str, Any], where: str) -> RunConfig:
    """Build the configuration of a recipe's kind of run.

    Beside the fields of the configuration, ``kind`` is games (the default), images or ablation.
    In the table ``network``, ``variant`` and ``constants`` choose a published network
    (:data:`mtspark.train.networks.variants.VARIANTS`, ``NEURONS``). The network's tasks and frames
    follow from other fields and may be left out; one value stands for a list of one.

    Args:
        fields: of the recipe.
        where: names the recipe in errors.

    Raises:
        BadRequestError: an unknown field, or a value of the wrong type or range; the message
            lists all of them.
        BadFileError: a network whose agent file would be over a limit.
    """
    fields = dict(fields)
    schema = _schema(fields.pop("kind", "games"), where)
    truths = list(_truths(fields, schema, ""))
    if truths:
        raise BadRequestError(f"{where}: " + "; ".join(truths))
    if schema is AblationSettings:
        settings: AblationSettings = _validated(schema, fields, where)
        return _checked(settings, where)
    fields = _listed(fields, schema)
    network, variant, constants = fields.get("network", {}), None, None
    if isinstance(network, dict):
        network = dict(network)
        variant, constants = network.pop("variant", None), network.pop("constants", None)
        _refuse_contradictions(network, variant, constants, where)
        fields["network"] = {**_implied(fields, schema, where), **network}
        fields = _with_masked_layers(fields, where)
    config = _validated(schema, fields, where)
    if variant is not None or constants is not None:
        try:
            config = replace(config, network=with_variant(config.network, variant, constants))
        except ValueError as error:
            raise BadRequestError(f"{where}: {one_line(error, 300)}") from error
    return _checked(config, where)


def config_of(recipe: AnyPath | Mapping[str, Any] | RunConfig) -> RunConfig:
    """Build and check the configuration of a run.

    Args:
        recipe: the name of a shipped recipe, the path of a TOML file, a recipe's fields, or a
            configuration.

    Raises:
        BadRequestError: see :func:`to_config`.
        BadFileError: no such recipe, or a network whose agent file would be over a limit.
    """
    if isinstance(recipe, (TrainConfig, ImageConfig, AblationSettings)):
        return _checked(recipe, "recipe")
    if isinstance(recipe, Mapping):
        return to_config(dict(recipe), "recipe")
    return to_config(read_recipe(recipe), os.fspath(recipe))


def _checked(config: RunConfig, where: str) -> RunConfig:
    """The configuration, with the networks of its runs checked."""
    if isinstance(config, TrainConfig) and (games := named_games(config.games)) != config.games:
        try:
            config = replace(config, games=games)
        except ValueError as error:
            raise BadRequestError(f"{where}: {one_line(error, 300)}") from error
    if isinstance(config, AblationSettings):
        for cell in grid(replace(config, seeds=1)):
            _check_network(run_config(cell, config).network, where)
        return config
    _check_network(config.network, where)
    if isinstance(config, ImageConfig):
        check_image_config(config)
    return config


def _check_network(network: NetworkConfig, where: str) -> None:
    """Check at the start what the reader of the agent file will check at the end."""
    try:
        check_network_config(network)
        check_fan_in(network)
    except BadNetworkError as error:
        raise BadRequestError(f"{where}: {error}") from error
    check_agent_limits(network, f"{where}: this network's agent file", current_policy().limits)


def _schema(kind: Any, where: str) -> type[RunConfig]:
    kinds: dict[str, type[RunConfig]] = {
        "games": TrainConfig,
        "images": ImageConfig,
        "ablation": AblationSettings,
    }
    if not isinstance(kind, str) or kind not in kinds:
        raise BadRequestError(f"{where}: kind {kind!r}: choose {', '.join(kinds)}")
    return kinds[kind]


def _listed(fields: dict[str, Any], schema: Any) -> dict[str, Any]:
    """The fields, with a single value made a list of one where a field takes any number."""
    hints = get_type_hints(schema)
    listed: dict[str, Any] = {}
    for name, value in fields.items():
        hint = hints.get(name)
        many = get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis
        if isinstance(value, dict):
            listed[name] = _listed(value, hint) if is_dataclass(hint) else value
        else:
            listed[name] = (value,) if many and not isinstance(value, (list, tuple)) else value
    return listed


def _implied(fields: dict[str, Any], schema: type[RunConfig], where: str) -> dict[str, Any]:
    """Fields of the network that follow from the tasks of a run."""
    if schema is ImageConfig:
        standard = ImageConfig()
        return {**asdict(standard.network), "tasks": len(fields.get("tasks", standard.tasks))}
    games = fields.get("games", ())
    settings = fields.get("environments", ())
    if games and all(isinstance(name, str) for name in games):
        named = [one.get("name") for one in settings if isinstance(one, dict)]
        if all(name in named or is_world(name) for name in games):
            algorithm = str(fields.get("algorithm", "pqn"))
            context = fields.get("task_context", TrainConfig.task_context)
            return _implied_by_worlds(games, settings, algorithm, context, where)
    protocol = fields.get("protocol", {})
    if not isinstance(protocol, dict):
        protocol = {}
    size = protocol.get("screen_size", GameProtocol.screen_size)
    shape = (protocol.get("frame_stack", GameProtocol.frame_stack), size, size)
    tasks = len(fields.get("games", TrainConfig.games))
    implied: dict[str, Any] = {"tasks": tasks, "observation_shape": shape}
    if fields.get("task_context") == "one_hot" and tasks > 1:
        implied["dendrite_segments"] = 0
    return {**implied, **({"dueling": False} if fields.get("algorithm") in POLICIES else {})}


def _implied_by_worlds(
    games: Any, settings: Any, algorithm: str, context: Any, where: str
) -> dict[str, Any]:
    """Fields of a network for environments, by what is found in their spaces.

    Raises:
        BadRequestError: no such environment, settings that it has not, environments that one
            network cannot see, or that the algorithm cannot learn.
    """
    try:
        environments = TypeAdapter(tuple[Environment, ...]).validate_python(settings)
    except ValidationError as error:
        problems = [_described(problem, Environment) for problem in error.errors()]
        raise BadRequestError(f"{where}: environments: " + "; ".join(problems)) from error
    told = context in ("one_hot", "both") and len(games) > 1
    described = run_environments(games, environments, context if told else "dendrites")
    tasks = [world_task(one) for one in described]
    for task in tasks:
        problem = why_not_learned(task, algorithm)
        if problem is not None:
            raise BadRequestError(f"{where}: {problem}")
    problem = why_not_together(tuple(tasks), algorithm)
    if problem is not None:
        raise BadRequestError(f"{where}: {problem}")
    found = [task.environment.found for task in tasks if task.environment is not None]
    shapes = {(seen.shape, seen.graded) for seen in found}
    boxes = {None if task.environment is None else task.environment.box for task in tasks}
    if len(shapes) > 1:
        tasks = list(side_by_side(tuple(tasks)))
        found = [task.environment.found for task in tasks if task.environment is not None]
    return {
        "tasks": len(tasks),
        "observation_shape": found[0].shape,
        "convolutions": (),
        "actions": max(len(task.legal_actions) for task in tasks),
        "input": "values" if found[0].graded else "spikes",
        # Of numbers there is no best one, so no advantage over a mean; a policy has none, either.
        **({"dendrite_segments": 0} if context == "one_hot" and told else {}),
        **({} if boxes == {None} and algorithm not in POLICIES else {"dueling": False}),
    }


def _with_masked_layers(fields: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields, with masks or paths of the pruned layers; "all" names every spiking layer.

    Raises:
        BadRequestError: a name that no layer of the network has.
    """
    pruning, network = fields.get("pruning", {}), fields["network"]
    if not isinstance(pruning, dict) or "layers" not in pruning:
        return fields
    layers = pruning["layers"]
    sizes = (
        network.get("convolutions", NetworkConfig.convolutions),
        network.get("dense", NetworkConfig.dense),
    )
    every = spiking_layers(*(len(size) if isinstance(size, (list, tuple)) else 0 for size in sizes))
    if not isinstance(layers, (list, tuple)):
        # The schema says what is wrong.
        return fields
    if tuple(layers) == ("all",):
        layers = every
    unknown = [repr(name) for name in layers if isinstance(name, str) and name not in every]
    if unknown:
        several = f"; several are written {list(every[:2])}" if len(every) > 1 else ""
        raise BadRequestError(
            f"{where}: pruning.layers has {one_line(', '.join(unknown), 100)}, must be of "
            f"{', '.join(every)}, or all{several}"
        )
    owner = "pathway_layers" if pruning.get("method") == "pathways" else "masked_layers"
    network = {owner: layers, **network}
    return {**fields, "pruning": {**pruning, "layers": layers}, "network": network}


def _refuse_contradictions(
    network: dict[str, Any], variant: Any, constants: Any, where: str
) -> None:
    for name, source, known in (("variant", variant, VARIANTS), ("constants", constants, NEURONS)):
        if source is not None and (not isinstance(source, str) or source not in known):
            raise BadRequestError(f"{where}: network.{name} {source!r}: choose {', '.join(known)}")
    for name, value in decided_fields(variant, constants).items():
        # Any number of segments is an active dendrite.
        wanted = bool(value) if name == "dendrite_segments" else value
        given = bool(network.get(name)) if name == "dendrite_segments" else network.get(name)
        if name in network and given != wanted:
            choice = variant if name in VARIANTS.get(variant or "", {}) else constants
            raise BadRequestError(
                f"{where}: network.{name} is {network[name]!r}, {choice} has {value!r}; "
                "leave one out"
            )


def _validated(schema: type[RunConfig], fields: dict[str, Any], where: str) -> Any:
    try:
        return TypeAdapter(schema).validate_python(fields)
    except ValidationError as error:
        problems = [_described(problem, schema) for problem in error.errors()]
        raise BadRequestError(f"{where}: " + "; ".join(problems)) from error


def _truths(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Truth values where none belongs: they would be taken as the numbers 1 and 0."""
    parts = [part for part in (get_args(hint) or (hint,)) if part not in (type(None), Ellipsis)]
    if isinstance(value, bool):
        if {int, float} & set(parts) and bool not in parts:
            yield f"{path} is {str(value).lower()}, must be a number"
    elif isinstance(value, dict) and is_dataclass(hint):
        hints = get_type_hints(hint)
        for name, entry in value.items():
            yield from _truths(entry, hints.get(name, Any), f"{path}.{name}".lstrip("."))
    elif isinstance(value, (list, tuple)) and parts:
        for number, entry in enumerate(value):
            yield from _truths(entry, parts[0], f"{path}.{number}")


def _described(problem: Any, schema: Any) -> str:
    """One problem as `field: what is wrong`."""
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] not in ("unexpected_keyword_argument", "extra_forbidden"):
        message = str(problem["msg"]).removeprefix("Value error, ")
        return f"{path}: {message}" if path else message
    for part in problem["loc"][:-1]:
        # A number is a place in a list, whose entries the hint of the list names.
        hint = schema if isinstance(part, int) else get_type_hints(schema).get(str(part), schema)
        schema = get_args(hint)[0] if get_origin(hint) is tuple else hint
    near = get_close_matches(str(problem["loc"][-1]), get_type_hints(schema), 1)
    return f"{path}: no such field" + (f", did you mean {near[0]}?" if near else "")

"""The network that a run on games begins with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mtspark.core.environments import Task, box_of, task_for_game, world_task
from mtspark.core.errors import BadRequestError, one_line
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, run_environments, why_not_learned, why_not_together
from mtspark.train.networks import MTSparkNetwork, NetworkConfig, network_to_json
from mtspark.train.rl.collect import random_frames
from mtspark.train.rl.known import known_as
from mtspark.train.sparsity import density, reopen

SAME_DENSITY = 0.005
"""Densities that are as far apart count as the same: layers have whole synapses."""
FAVOUR = 0.2
"""Of a favoured action's value; those of untrained networks differ by hundredths."""


def run_tasks(config: TrainConfig) -> tuple[Task, ...]:
    """Look at the games of a run, or at its environments, which may show which task they are."""
    if not config.worlds:
        tasks = tuple(map(task_for_game, config.games))
        if config.task_context == "dendrites":
            return tasks
        return tuple(replace(task, told=(index, len(tasks))) for index, task in enumerate(tasks))
    described = run_environments(config.games, config.environments, config.task_context)
    return tuple(map(world_task, described))


def start_network(config: TrainConfig, tasks: tuple[Task, ...]) -> MTSparkNetwork:
    """Build a new network, or load that of `config.start_from`.

    Raises:
        BadFileError: the agent cannot be read.
        BadRequestError: it plays other games, or its network has other sizes.
    """
    if not config.start_from:
        network = MTSparkNetwork(config.network)
        if config.favoured_action is not None:
            _favour(network, config.favoured_action, tasks[0])
        if config.network.context == "prototype":
            network.context.set_prototypes(
                [random_frames(task, config.training_protocol, config.seed) for task in tasks]
            )
        return network
    agent = load_agent(Path(config.start_from))
    _check_tasks(config, agent.tasks, tasks)
    sizes, reopened = agent.network.config, set(config.pruning.layers)
    cut = set(sizes.masked_layers) - (reopened if config.pruning.reopen else set())
    if config.pruning.reopen and not set(sizes.masked_layers) & reopened:
        raise BadRequestError(
            f"pruning.reopen: {config.start_from} has cut nothing for all tasks in "
            f"{', '.join(config.pruning.layers)}; leave it out"
        )
    if not cut <= set(config.network.masked_layers):
        others = [name for name in sizes.layer_names if name in cut]
        have = "pruning.reopen = true to have them back"
        if config.pruning.reopen:
            have = "name them in pruning.layers, too, to have them back"
        raise BadRequestError(
            f"start_from: {config.start_from} has cut synapses in {', '.join(others)}; set "
            f"network.masked_layers so, or {have}"
        )
    for_all = [name for name in sizes.pathway_layers if name in config.network.masked_layers]
    if for_all:
        raise BadRequestError(
            f"start_from: {config.start_from} has a path for each task in {', '.join(for_all)}, "
            f"and {config.pruning.method} cuts for all tasks alike; set pruning.method = "
            "'pathways', and gradual = true to narrow the paths, or leave these layers out"
        )
    # Weights hold for any number of steps; a run may learn to decide in fewer.
    resized = replace(
        sizes,
        masked_layers=config.network.masked_layers,
        pathway_layers=sizes.pathway_layers or config.network.pathway_layers,
        time_steps=config.network.time_steps,
    )
    if resized != config.network:
        own, asked = network_to_json(resized), network_to_json(config.network)
        wanted = [
            f"{name} = {one_line(_in_toml(own.get(name, getattr(NetworkConfig, name))), 80)}"
            for name in sorted(own.keys() | asked.keys())
            if getattr(resized, name) != getattr(config.network, name)
        ]
        raise BadRequestError(
            f"start_from: the network of {config.start_from} is another one than this run's; set "
            f"in [network]: {', '.join(wanted)}"
        )
    network = agent.network
    _check_density_stays(config, network)
    if config.pruning.scope == "actor" and not config.pruning.reopen:
        _check_target_is_whole(config, network)
    if config.pruning.reopen:
        reopen(network, [name for name in sizes.masked_layers if name in reopened])
    if sizes != config.network:
        # Masks and paths that the agent lacks start without a cut; reopened masks may be gone.
        stored = agent.network.state_dict()
        network = MTSparkNetwork(config.network)
        fresh = network.state_dict()
        network.load_state_dict(
            {**fresh, **{name: one for name, one in stored.items() if name in fresh}}
        )
    return network


def _check_tasks(config: TrainConfig, known: tuple[Task, ...], tasks: tuple[Task, ...]) -> None:
    """Check that a run goes on with the tasks of its agent, each in its place.

    Raises:
        BadRequestError: it does not. Heads, dendrites and paths go by the places of tasks.
    """
    what = f"start_from: {config.start_from}"
    games, played = ([task.game for task in of] for of in (tasks, known))
    if sorted(games) != sorted(played):
        raise BadRequestError(f"{what} plays {', '.join(played)}, this run {', '.join(games)}")
    if [known_as(task, known, what) for task in tasks] != list(range(len(tasks))):
        names = ", ".join(task.name for task in known)
        raise BadRequestError(
            f"{what} has its tasks in the order {names}, this run "
            f"{', '.join(task.name for task in tasks)}; write games, and all that is given by "
            "game, in that order"
        )
    for task, one in zip(tasks, known, strict=True):
        if task.environment is None or one.environment is None:
            continue
        own, other = task.environment.found, one.environment.found
        if other.frame and (own.frame, own.start) != (other.frame, other.start):
            raise BadRequestError(
                f"{what} learned {one.name} beside other tasks, in a frame of {other.frame} values "
                f"of which it is shown {other.size}; this run has no such places: go on with all "
                "tasks of the agent that it was taken from, or from one that learned it alone"
            )


def _in_toml(value: Any) -> str:
    """Write a field as a recipe does."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_in_toml(one)}' for name, one in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_in_toml, value))}]"
    return json.dumps(value)


def _check_density_stays(config: TrainConfig, network: MTSparkNetwork) -> None:
    """Refuse a density that a run keeps as its agent has it.

    Raises:
        BadRequestError: static and evolution are asked for another one, or magnitude for more
            synapses than any layer has left.
    """
    wanted = config.pruning
    if wanted.method == "magnitude" and not wanted.reopen:
        left = {name: density(network, name) for name in wanted.layers}
        sizes = [network.layer(name).synapses.weight.numel() for name in wanted.layers]
        # As it cuts, in whole synapses.
        asked = [round(wanted.density * size) / size for size in sizes]
        rows = zip(asked, left.values(), strict=True)
        if left and all(one - own > SAME_DENSITY for one, own in rows):
            has = ", ".join(f"{one:.3g} in {name}" for name, one in left.items())
            raise BadRequestError(
                f"pruning.density is {wanted.density:g}: of these synapses {config.start_from} has "
                f"{one_line(has, 80)}, and magnitude only cuts; set a lower density, or "
                "pruning.reopen = true to have them back first"
            )
    if wanted.method not in ("static", "evolution"):
        return
    # What its agent has no mask of is whole.
    layers = [network.layer(name) for name in wanted.layers]
    size = sum(layer.synapses.weight.numel() for layer in layers)
    cut = sum(int((~layer.mask).sum()) for layer in layers if layer.mask is not None)
    if cut and abs(1 - cut / size - wanted.density) > SAME_DENSITY:
        raise BadRequestError(
            f"pruning.density is {wanted.density:g}: {config.start_from} has "
            f"{1 - cut / size:.3g} of these synapses, and {wanted.method} keeps how many there "
            "are; set that density, or method magnitude or pathways"
        )


def _check_target_is_whole(config: TrainConfig, network: MTSparkNetwork) -> None:
    """Refuse an agent whose cut weights would act in the target, which keeps all synapses.

    Raises:
        BadRequestError: it has cut some.
    """
    cut = [name for name in config.pruning.layers if density(network, name) < 1]
    if cut:
        raise BadRequestError(
            f"pruning.scope is 'actor': the target keeps all synapses, and {config.start_from} has "
            f"cut some in {', '.join(cut)}; set scope = 'all', or pruning.reopen = true"
        )


@torch.no_grad()
def _favour(network: MTSparkNetwork, action: int, task: Task) -> None:
    """Let an untrained network prefer an action."""
    if action not in task.legal_actions:
        legal = ", ".join(map(str, task.legal_actions))
        raise BadRequestError(f"favoured_action {action}: {task.name} has the actions {legal}")
    network.advantage.bias[action] += FAVOUR


def start_tasks(config: TrainConfig, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """The tasks of a run, with the statistics of the agent that it starts from.

    Its weights know numbers relative to these. Call :func:`start_network` first, which checks that
    the agent plays the same games.
    """
    if not config.start_from:
        return tasks
    known = load_agent(Path(config.start_from)).tasks
    return tuple(
        task
        if task.environment is None or agent.environment is None
        else replace(
            task,
            environment=replace(task.environment, observation=agent.environment.observation),
        )
        for task, agent in zip(tasks, known, strict=True)
    )


def check_actions(tasks: tuple[Task, ...], config: TrainConfig) -> None:
    """Check that the algorithm learns such actions, and that the head has outputs for all.

    Raises:
        BadRequestError: it does not, or has not.
    """
    problem = why_not_together(tasks, config.algorithm)
    if problem is not None:
        raise BadRequestError(problem)
    for task in tasks:
        problem = why_not_learned(task, config.algorithm)
        if problem is not None:
            raise BadRequestError(problem)
        looks = (config.plasticity.measure_every, config.plasticity.redo_every)
        if config.algorithm == "iql" and box_of(task) is not None and any(looks):
            raise BadRequestError(
                f"plasticity: with iql, is of a list of actions, {task.name} takes numbers; leave "
                "it out"
            )
        unknown = any(looks) or config.network.pathway_layers
        if config.algorithm == "ppo" and box_of(task) is not None and unknown:
            raise BadRequestError(
                f"plasticity and pathways: with ppo, are of a list of actions, {task.name} takes "
                "numbers; leave them out"
            )
        needed = max(task.legal_actions) + 1
        if needed > config.network.actions:
            raise BadRequestError(
                f"network.actions is {config.network.actions}, {task.name} needs {needed}; "
                "18 serve every game of ALE"
            )
        if config.algorithm == "dqn" and task.environment is not None and task.environment.masked:
            raise BadRequestError(
                f"algorithm dqn: {task.name} allows some of its actions at a time, which a replay "
                "does not keep; use pqn"
            )
        seen = None if task.environment is None else task.environment.found
        if seen is not None and seen.shape != config.network.observation_shape:
            raise BadRequestError(
                f"network.observation_shape is {config.network.observation_shape}, {task.name} "
                f"shows {seen.shape}"
            )

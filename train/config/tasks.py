"""The environments that a run's names mean, and how its network is told which task it plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from mtspark.core.environments import Environment, Wrapper, is_world

TaskContext = Literal["dendrites", "one_hot", "both"]
TOLD = "task"
"""Entry of an observation that holds the task."""


def are_worlds(games: Sequence[str], environments: Sequence[Environment]) -> list[bool]:
    """Whether each of a run's names is that of an environment of gymnasium's."""
    named = {one.name for one in environments if one.name}
    return [name in named or is_world(name) for name in games]


def run_environments(
    games: Sequence[str], environments: Sequence[Environment], context: TaskContext
) -> tuple[Environment, ...]:
    """Return the environment of each task.

    Args:
        games: names or ids of environments.
        environments: settings of some of these.
        context: with one_hot or both, each shows which task it is.
    """
    known = {one.key: one for one in environments}
    made = [known.get(name, Environment(name)) for name in games]
    if context == "dendrites":
        return tuple(made)
    return tuple(_telling(one, index, len(made)) for index, one in enumerate(made))


def _telling(environment: Environment, task: int, tasks: int) -> Environment:
    told = Wrapper("TaskOneHot", {"task": task, "tasks": tasks})
    entries = (*environment.entries, TOLD) if environment.entries else ()
    return replace(environment, wrappers=(*environment.wrappers, told), entries=entries)

"""The environment of an actor that was trained elsewhere, described by its user."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from mtspark.core.environments.environment import (
    LARGEST_NUMBER,
    SPREAD,
    Environment,
    Wrapper,
)
from mtspark.core.environments.names import game_name
from mtspark.core.environments.protocol import Task
from mtspark.core.environments.worlds import world_task
from mtspark.core.errors import BadRequestError, one_line

FOUND = ("id", "observation", "actions", "choices", "masked", "box")
"""Fields that follow from the environment itself."""
PYDANTICS = "Input should be "
"""How pydantic begins what it wants."""


def environment_task(
    id: str,
    *,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    **settings: Any,
) -> Task:
    """Look at an environment of gymnasium and describe the task in it, for an actor of one's own.

    Args:
        id: gymnasium's name, ``CartPole-v1``.
        mean, deviation: of each number that the environment shows, as the actor was trained with:
            it is given (number - mean) / deviation, in steps of 1/32 up to almost 4. Spikes
            have none.
        **settings: fields of :class:`mtspark.core.environments.environment.Environment`, for
            example ``max_steps`` or ``entries``.

    Raises:
        TypeError: no such setting.
        BadRequestError: there is no such environment, an agent cannot see or act in it, or the
            statistics do not fit it.
        BackendMissingError: a package that it needs is missing.
    """
    known = [field.name for field in fields(Environment) if field.name not in FOUND]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise TypeError(
            f"environment_task: no setting {unknown[0]!r}; there are {', '.join(known)}"
        )
    for name in ("entries", "symbols", "wrappers", "reward_range"):
        if isinstance(settings.get(name), list):
            settings[name] = tuple(settings[name])
    if isinstance(settings.get("wrappers"), tuple):
        settings["wrappers"] = tuple(map(_wrapper, settings["wrappers"]))
    _check_types({"id": id, "arguments": {}, **settings})
    if game_name(id) != id:
        raise BadRequestError(
            f"environment_task: {one_line(id, 80)} is a game of ALE, which takes agents that "
            f"mtspark trained: mtspark train pong --game {game_name(id)}"
        )
    # A caller that changes its lists afterwards changes no task.
    task = world_task(Environment(id, **copy.deepcopy(settings)))
    assert task.environment is not None
    seen = task.environment.found
    given = {"mean": mean, "deviation": deviation}
    for name, values in given.items():
        if seen.graded != (values is not None):
            wanted = f"{seen.size} numbers" if seen.graded else "left out: it is sent as spikes"
            raise BadRequestError(f"{id}: {name} is {values}; must be {wanted}")
    if not seen.graded:
        return task
    try:
        means, spreads = (np.asarray(values, np.float64).reshape(-1) for values in given.values())
    except (TypeError, ValueError) as error:
        raise BadRequestError(
            f"{id}: mean and deviation are no numbers ({one_line(error, 80)}); must be {seen.size} "
            "each"
        ) from error
    if not means.shape == spreads.shape == (seen.size,):
        raise BadRequestError(
            f"{id}: mean and deviation have {means.size} and {spreads.size} numbers; must be "
            f"{seen.size} each"
        )
    far = ~(np.abs(means) <= LARGEST_NUMBER)
    narrow = ~((spreads >= SPREAD) & (spreads <= LARGEST_NUMBER))
    for name, numbers, wrong, wanted in (
        ("mean", means, far, f"finite, at most {LARGEST_NUMBER:g}"),
        ("deviation", spreads, narrow, f"from {SPREAD:g}; a number that never changes has 1"),
    ):
        if wrong.any():
            place = int(wrong.argmax())
            raise BadRequestError(f"{id}: {name}[{place}] is {numbers[place]:g}; must be {wanted}")
    seen = seen.with_statistics(tuple(means.tolist()), tuple(spreads.tolist()))
    return replace(task, environment=replace(task.environment, observation=seen))


def _wrapper(given: Any) -> Any:
    """A wrapper of a table with its name and arguments; what is no such table stays as it is."""
    table = isinstance(given, dict) and "name" in given and set(given) <= {"name", "arguments"}
    return Wrapper(**given) if table else given


def _check_types(settings: dict[str, Any]) -> None:
    """Check that settings are of the types that files hold.

    Raises:
        BadRequestError: one is not.
    """
    # Not with this module: pydantic takes a while to load, and every command loads this.
    from mtspark.core.files import first_problem

    problem = first_problem(Environment, settings)
    if problem is None:
        return
    shown, wanted = one_line(repr(problem.value), 80), problem.wanted.removeprefix(PYDANTICS)
    if problem.kind == "missing":
        shown, wanted = "missing", "given"
    raise BadRequestError(f"environment_task: {problem.place} is {shown}; must be {wanted}")

"""The environment of an actor that was trained elsewhere, described by its user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from mtspark.core.environments.environment import Environment, Wrapper
from mtspark.core.environments.protocol import Task
from mtspark.core.environments.worlds import world_task
from mtspark.core.errors import BadRequestError

FOUND = ("id", "observation", "actions", "choices", "masked", "box")
"""Fields that follow from the environment itself."""


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
    for name in ("entries", "symbols", "wrappers"):
        if name in settings:
            settings[name] = tuple(settings[name])
    if "wrappers" in settings:
        settings["wrappers"] = tuple(
            one if isinstance(one, Wrapper) else Wrapper(**one) for one in settings["wrappers"]
        )
    task = world_task(Environment(id, **settings))
    assert task.environment is not None
    seen = task.environment.found
    given = {"mean": mean, "deviation": deviation}
    for name, values in given.items():
        if seen.graded != (values is not None):
            wanted = f"{seen.size} numbers" if seen.graded else "left out: it is sent as spikes"
            raise BadRequestError(f"{id}: {name} is {values}; must be {wanted}")
    if not seen.graded:
        return task
    means, spreads = (np.asarray(values, np.float64).reshape(-1) for values in given.values())
    fits = means.shape == spreads.shape == (seen.size,)
    if not fits or not np.isfinite(means).all() or not (spreads > 0).all():
        raise BadRequestError(
            f"{id}: mean and deviation have {means.size} and {spreads.size} numbers; must be "
            f"{seen.size} each, finite, and deviations above 0"
        )
    seen = seen.with_statistics(tuple(means.tolist()), tuple(spreads.tolist()))
    return replace(task, environment=replace(task.environment, observation=seen))

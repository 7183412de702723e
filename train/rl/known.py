"""Tasks of another agent, which a run starts from or is taught by, as the run's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mtspark.core.environments import Task
from mtspark.core.errors import BadRequestError, one_line

CHANGE_WHAT_IS_SEEN = (
    *("FilterObservation", "FrameStackObservation", "HideEntries", "RescaleObservation"),
    *("TaskOneHot", "TimeAwareObservation"),
)
"""Wrappers behind which the numbers of an observation are others."""


def known_as(task: Task, known: tuple[Task, ...], what: str) -> int:
    """Find a task of a run among those of an agent: that of its name, or the only one of its game.

    Args:
        task: of the run.
        known: of the agent.
        what: names the field and the file in an error.

    Returns:
        Its place.

    Raises:
        BadRequestError: the agent does not play its game, has several tasks in it and none of its
            name, or is shown something else in it.
    """
    same = [place for place, one in enumerate(known) if one.game == task.game]
    named = [place for place in same if known[place].name == task.name]
    if not same:
        played = ", ".join(one.game for one in known)
        raise BadRequestError(f"{what} plays {played}, it does not know {task.game}")
    if not named and len(same) > 1:
        names = ", ".join(known[place].name for place in same)
        raise BadRequestError(
            f"{what} has {len(same)} tasks in {task.game}, {names}, and none called {task.name}; "
            "give this run's tasks the names of those that they go on from"
        )
    place = (named or same)[0]
    own, other = _shown(task), _shown(known[place])
    for name, value in own.items():
        if value != other[name]:
            raise BadRequestError(
                f"{what} was shown {known[place].name} with {name} "
                f"{one_line(repr(other[name]), 80)}, this run has {one_line(repr(value), 80)}: "
                "other numbers than its network knows; make them the same"
            )
    return place


def _shown(task: Task) -> dict[str, Any]:
    """What decides which numbers an agent sees in an environment, by the names of fields."""
    if task.environment is None:
        return {}
    own = task.environment
    wrappers = [asdict(one) for one in own.wrappers if one.name in CHANGE_WHAT_IS_SEEN]
    return {"entries": own.entries, "symbols": own.symbols, "wrappers": wrappers}

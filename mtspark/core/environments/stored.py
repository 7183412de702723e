"""Environments in files: as JSON values, and back with everything checked."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from mtspark.core.environments.environment import (
    LARGEST_NUMBER,
    SPREAD,
    ActionBox,
    Environment,
    FieldProblem,
    Observation,
    Part,
    Wrapper,
    first_wrong,
)
from mtspark.core.errors import BadFileError, one_line

VERSION = 1
OPTIONAL = (
    *("arguments", "wrappers", "max_steps", "reward_range", "entries", "symbols", "choices"),
    *("name", "masked", "decision_delay", "box"),
)
"""Fields that are not written at their default."""
OPTIONAL_OF_OBSERVATION = ("parts", "frame", "start", "as_numbers")


def environment_to_json(environment: Environment) -> dict[str, Any]:
    """Return the environment as plain JSON values."""
    default, values = Environment(environment.id), asdict(environment)
    content = {
        name: value
        for name, value in values.items()
        if name not in OPTIONAL or getattr(environment, name) != getattr(default, name)
    }
    for name in OPTIONAL_OF_OBSERVATION:
        if environment.observation is not None and not getattr(environment.observation, name):
            del content["observation"][name]
    return {"version": VERSION, **json.loads(json.dumps(content))}


def environment_from_json(data: Any, where: str) -> Environment:
    """Rebuild an environment; `where` names the file in the error.

    Raises:
        BadFileError: a field is unknown, missing, of the wrong type or out of range, or its
            observations have no statistics.
    """
    # Not with this module: pydantic takes a while to load, and every command loads this.
    from mtspark.core.environments.schema import EnvironmentEntry
    from mtspark.core.files import first_problem

    problem = first_problem(EnvironmentEntry, data)
    if problem is not None:
        shown = one_line(repr(problem.value), 80)
        raise BadFileError(f"{where}: Environment.{problem.place} is {shown}, not {problem.wanted}")
    content = {key: value for key, value in data.items() if key != "version"}
    seen = content["observation"]
    parts = tuple(
        Part(**{**part, "choices": tuple(part["choices"])}) for part in seen.get("parts", ())
    )
    rows = {name: tuple(seen[name]) for name in ("mean", "deviation")}
    content["observation"] = Observation(**{**seen, **rows, "parts": parts})
    for name in ("entries", "symbols", "choices"):
        content[name] = tuple(content.get(name, ()))
    if content.get("box") is not None:
        content["box"] = ActionBox(**{key: tuple(row) for key, row in content["box"].items()})
    content["wrappers"] = tuple(Wrapper(**entry) for entry in content.get("wrappers", ()))
    if content.get("reward_range") is not None:
        content["reward_range"] = tuple(content["reward_range"])
    environment = Environment(**content)
    wrong = first_wrong(environment) or _unplayable(environment)
    if wrong is not None:
        shown = one_line(repr(wrong.value), 80)
        raise BadFileError(f"{where}: Environment.{wrong.field} is {shown}, not {wrong.wanted}")
    return environment


def _unplayable(environment: Environment) -> FieldProblem | None:
    """What an environment of a file lacks to be played."""
    seen = environment.found
    if not environment.decisions_per_s > 0:
        return FieldProblem("decisions_per_s", environment.decisions_per_s, "above 0")
    sizes = [part.size for part in seen.parts]
    if (seen.kind == "parts") != bool(sizes) or (sizes and sum(sizes) != seen.size):
        return FieldProblem("observation.parts", sizes[:4], f"parts of {seen.size} messages")
    if (seen.frame or seen.start) and seen.start + seen.size > seen.frame:
        return FieldProblem("observation.start", seen.start, f"a place in {seen.frame} messages")
    if environment.choices and math.prod(environment.choices) != environment.actions:
        wanted_product = f"of {environment.actions} combinations"
        return FieldProblem("choices", list(environment.choices)[:4], wanted_product)
    wanted = seen.size if seen.graded else 0
    for name, values in (("mean", seen.mean), ("deviation", seen.deviation)):
        if len(values) != wanted:
            return FieldProblem(f"observation.{name}", list(values)[:4], f"{wanted} numbers")
        if not all(abs(value) <= LARGEST_NUMBER for value in values):
            return FieldProblem(f"observation.{name}", list(values)[:4], "of moderate size")
    if min(seen.deviation, default=1.0) < SPREAD:
        return FieldProblem("observation.deviation", min(seen.deviation), f"{SPREAD:g} or more")
    if environment.shown_actions >= seen.size:
        return FieldProblem("observation.size", seen.size, "room for the pressed action")
    return None if environment.box is None else _wrong_box(environment.box, environment.actions)


def _wrong_box(box: ActionBox, numbers: int) -> FieldProblem | None:
    """What no box of so many numbers can have."""
    lengths = {"low": box.low, "high": box.high}
    if box.deviation:
        lengths["deviation"] = box.deviation
    for name, values in lengths.items():
        if len(values) != numbers:
            return FieldProblem(f"box.{name}", list(values)[:4], f"{numbers} numbers")
        if not all(abs(value) <= LARGEST_NUMBER for value in values):
            return FieldProblem(f"box.{name}", list(values)[:4], "of moderate size")
    if not all(low < high for low, high in zip(box.low, box.high, strict=True)):
        return FieldProblem("box.high", list(box.high)[:4], "above box.low")
    if min(box.deviation, default=1.0) < 0:
        return FieldProblem("box.deviation", min(box.deviation), "0 or more")
    return None

"""Plain values that are read back: one schema a format, checked by pydantic.

A schema is a pydantic model or a dataclass whose fields have the types below. Nothing is
converted: a value is what the schema says, or it is refused.
"""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MaxLen, Predicate
from pydantic import (
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticCustomError

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files.atomic import AnyPath
from mtspark.core.files.sandbox import read_text_guarded

LARGEST = 2**62
"""Numbers of results stay far below; a longer one in a file is damage."""
LONGEST_TEXT = 100_000
"""Letters of a text in a file of results; the actions of an episode are the longest."""
MOST_EPISODES = 2**30
"""Games have a seed each, and there are no more seeds."""


def _described(text: str) -> WrapValidator:
    """Have the error of a value say what it should have been."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise PydanticCustomError("described", "{text}", {"text": text}) from error

    return WrapValidator(check)


Count = Annotated[int, Strict(), Ge(0), Lt(LARGEST), _described("a whole number from 0")]
Positive = Annotated[int, Strict(), Gt(0), Lt(LARGEST), _described("a whole number from 1")]
VersionOne = Annotated[int, Strict(), Ge(1), Le(1), _described("version 1")]
Number = Annotated[
    float,
    Strict(),
    Gt(-LARGEST),
    Lt(LARGEST),
    AllowInfNan(False),
    _described("a finite number"),
]
# Control characters and lone surrogates must not reach the terminal.
Text = Annotated[
    str, Strict(), MaxLen(LONGEST_TEXT), Predicate(str.isprintable), _described("printable text")
]
Share = Annotated[
    float, Strict(), Ge(0), Le(1), AllowInfNan(False), _described("a number from 0 to 1")
]
Flag = Annotated[bool, Strict(), _described("true or false")]
Bytes = Annotated[bytes, Strict(), _described("bytes")]

_MEANING = {
    "int_type": "int",
    "float_type": "float",
    "bool_type": "bool",
    "string_type": "str",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object of named fields",
    "model_type": "an object of named fields",
    "dataclass_type": "an object of named fields",
}


class Entry(BaseModel):
    """Base of the objects in a file; fields that nothing reads may be of any kind."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Problem(NamedTuple):
    """The first thing that is wrong with a value.

    Attributes:
        place: of the part, ``layers[0].neurons``; empty for the whole.
        value: that stands there; None where nothing does.
        kind: pydantic's name of the error.
        wanted: what it should have been, as a noun.
    """

    place: str
    value: Any
    kind: str
    wanted: str


def first_problem(schema: Any, data: Any) -> Problem | None:
    """Compare a value with a schema: a type, a model, or a dataclass."""
    try:
        _adapter(schema).validate_python(data)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        kind = detail["type"]
        return Problem(
            place=_place(detail["loc"]),
            value=None if kind == "missing" else detail["input"],
            kind=kind,
            wanted=_MEANING.get(kind, detail["msg"]),
        )
    return None


@lru_cache(maxsize=64)
def _adapter(schema: Any) -> TypeAdapter[Any]:
    if not is_dataclass(schema):
        return TypeAdapter(schema)
    # A strict dataclass of pydantic takes its own instances only.
    hints = get_type_hints(schema, include_extras=True)
    parts: dict[str, Any] = {
        part.name: (hints[part.name], ... if part.default is MISSING else part.default)
        for part in fields(schema)
    }
    return TypeAdapter(create_model(str(schema), __base__=Entry, **parts))


def _place(keys: tuple[int | str, ...]) -> str:
    parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return "".join(parts).removeprefix(".")


def read_result(path: AnyPath, schema: type[BaseModel], refusal: str) -> dict[str, Any]:
    """Read and check a JSON file of results.

    Args:
        path: the file.
        schema: of its content.
        refusal: what an error says behind the file's name; the reason is filled in.

    Returns:
        Its JSON values; fields that the schema lacks may be of any kind, but no number in the
        file is infinite or none at all.

    Raises:
        BadFileError: unreadable, no JSON, or not what the schema says.
    """

    def parse(text: str) -> dict[str, Any]:
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
        problem = first_problem(schema, content)
        if problem is not None:
            raise ValueError(_reason(problem))
        return dict(content)

    content: dict[str, Any] = read_text_guarded(Path(path), parse, refusal)
    return content


def stored_result(path: AnyPath | None, schema: type[BaseModel]) -> dict[str, Any] | None:
    """What an earlier run wrote, to go on from; None where there is no such file, or another."""
    if path is None:
        return None
    try:
        return read_result(path, schema, "{}")
    except BadFileError:
        return None


def _reason(problem: Problem) -> str:
    place = problem.place or "the file"
    if problem.kind == "missing":
        return f"{place} is missing"
    if problem.kind == "too_short":
        return f"{place} is empty"
    if problem.kind == "list_type":
        return f"{place} is no list"
    if problem.kind == "model_type":
        return f"{place} is no object of named fields"
    return f"{place} cannot be {one_line(repr(problem.value), 40)}"


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


class SamplingEntry(Entry):
    """How actions were drawn; a plain :class:`mtspark.core.environments.Sampling`."""

    seed: Annotated[int, Strict(), Ge(0), Lt(2**63)]
    temperature: Annotated[Number, Ge(1e-6), Le(1e6)]


class EvaluationRow(Entry):
    """The games of one task by one player, in a file of ``mtspark eval``."""

    task: Text
    backend: Text
    network_sha256: Text
    sticky_action_probability: Share
    seed: Annotated[Count, Lt(MOST_EPISODES)]
    episodes: Annotated[Positive, Le(MOST_EPISODES)]
    distinct_episodes: Positive
    unfinished_episodes: Count
    truncated_episodes: Count = 0
    mean_return: Number
    success_rate: Share | None = None
    interval_95: tuple[Number, Number] = Field(strict=False)
    returns: list[Number] = Field(min_length=1)
    decisions: Count
    action_agreement: Share | None
    decisions_compared: Count | None
    weight_bits: Text | None = None
    weight_scale: Text | None = None
    rounding: Text | None = None
    max_decisions: Positive | None = None
    sampling: SamplingEntry | None = None


class EvaluationFile(Entry):
    """A file of ``mtspark eval``; its rows are of games (:class:`EvaluationRow`) or of images."""

    format: Literal["mtspark-eval"]
    version: VersionOne
    network_sha256: Text
    rows: list[dict[str, Any]]

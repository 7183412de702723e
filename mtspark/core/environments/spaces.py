"""What of Gymnasium's spaces an agent on the chip can see and do, and how it is read.

An observation is read as one row of numbers, part after part: the numbers of a box as they are,
everything that is chosen or set as flags, 0 or 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mtspark.core.arrays import Floats
from mtspark.core.environments.environment import (
    LARGEST_NUMBER,
    MOST_ACTIONS,
    MOST_VALUES,
    SPREAD,
    ActionBox,
    Environment,
    Observation,
    Part,
)
from mtspark.core.errors import BackendFailedError, BadRequestError, one_line

if TYPE_CHECKING:
    from gymnasium import Space

MINIGRID_SYMBOLS = (11, 6, 3)
"""Objects, colours and states of minigrid.core.constants."""
MOST_MISSIONS = 10_000


@dataclass(frozen=True)
class SeenPart:
    """A part of an observation, and how it is read.

    Attributes:
        part: its description.
        path: keys of the Dict and Tuple spaces that lead to it.
        read: turns what the environment shows there into `part.size` numbers.
    """

    part: Part
    path: tuple[Any, ...]
    read: Callable[[Any], Floats]


def seen_parts(space: Space[Any], environment: Environment) -> tuple[SeenPart, ...]:
    """Describe the parts of what an environment shows, in the order in which they are sent.

    Args:
        space: its observation space.
        environment: names itself in errors, and says which entries are sent, and the symbols.

    Raises:
        BadRequestError: a space that cannot be sent as a frame; one line with its limit.
    """
    leaves = dict(_leaves(space))
    names: dict[str, Any] = {}
    for path in leaves:
        name = ".".join(map(str, path))
        if name in names:
            raise BadRequestError(
                f"{environment.id}: observation space has two entries that are called "
                f"{one_line(repr(name), 80)}, {names[name]} and {path}; rename one of them"
            )
        names[name] = path
    chosen = environment.entries or tuple(names)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise BadRequestError(
            f"{environment.id}.entries: {unknown[0]!r}; must be of "
            f"{one_line(', '.join(names) or 'a Dict or Tuple space', 200)}"
        )
    parts: list[SeenPart] = []
    size = 0
    for name in chosen:
        part = _seen_part(name, leaves[names[name]], names[name], environment, space)
        size += part.part.size
        # A text without gaps says nothing.
        parts += [part] if part.part.size else []
    if not size:
        raise _refused(
            environment.id, "observation", space, "it shows no value; 1 or more is needed"
        )
    if size > MOST_VALUES:
        limit = f"{MOST_VALUES:,} values is the limit"
        if len(parts) > 1:
            limit += "; name fewer of its entries in `entries`"
        raise _refused(environment.id, "observation", space, limit)
    return tuple(parts)


def check_widths(space: Space[Any], environment: Environment) -> None:
    """Refuse numbers whose bounds are so near that they would always count as constant.

    Args:
        space: its observation space.
        environment: see :func:`seen_parts`.

    Raises:
        BadRequestError: there are some.
    """
    for seen in seen_parts(space, environment):
        if seen.part.kind != "box":
            continue
        inner: Any = space
        for key in seen.path:
            inner = inner[key]
        width = np.asarray(inner.high, np.float64) - np.asarray(inner.low, np.float64)
        narrow = width[(width > 0) & (width < 2 * SPREAD)]
        if narrow.size:
            limit = (
                f"numbers between bounds that are {narrow.min():g} apart count as constant (below "
                f"a deviation of {SPREAD:g}); rescale them, a Box by the wrapper RescaleObservation"
            )
            entry = _entry(seen.part.name, inner)
            raise _refused(environment.id, "observation", space, entry + limit)


def observation_of(space: Space[Any], environment: Environment) -> Observation:
    """Describe what an environment shows; numbers still lack their statistics.

    Args:
        space: its observation space.
        environment: see :func:`seen_parts`.

    Raises:
        BadRequestError: a space that cannot be sent as a frame; one line with its limit.
    """
    parts = tuple(seen.part for seen in seen_parts(space, environment))
    size = sum(part.size for part in parts)
    (alone,) = parts if len(parts) == 1 else (None,)
    if alone is not None and not alone.name and alone.kind != "multidiscrete":
        return Observation(alone.kind, size)
    return Observation("parts", size, parts=parts)


def _leaves(space: Space[Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Space[Any]]]:
    """The spaces inside of Dict and Tuple, by their path."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for place, inner in enumerate(space.spaces):
            yield from _leaves(inner, (*path, place))
    else:
        yield path, space


def _seen_part(
    name: str, space: Space[Any], path: tuple[Any, ...], environment: Environment, whole: Any
) -> SeenPart:
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        kinds = int(space.n)
        read = _one_hot((kinds,), int(space.start))
        return SeenPart(Part(name, "discrete", kinds), path, read)
    flags = isinstance(space, spaces.Box) and space.dtype == bool
    if isinstance(space, spaces.MultiBinary) or flags:
        size = math.prod(space.shape or ())
        return SeenPart(Part(name, "multibinary", size), path, _flags(size))
    if isinstance(space, spaces.MultiDiscrete):
        choices = tuple(map(int, space.nvec.reshape(-1)))
        return _chosen(name, path, choices, 1, space.start.reshape(-1))
    if isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.kind in "fiu":
        symbols = environment.symbols
        if len(space.shape) < 3:
            size = math.prod(space.shape)
            return SeenPart(Part(name, "box", size), path, _numbers(size))
        if len(space.shape) == 3 and space.dtype.kind in "iu" and space.shape[2] == len(symbols):
            return _chosen(name, path, symbols, space.shape[0] * space.shape[1], 0)
        limit = "of pictures, ALE's games alone are read"
        own = f"wrap it in an environment of your own that shows at most {MOST_VALUES:,} numbers"
        limit += "; name other entries in `entries`" if name else f"; {own}"
        raise _refused(environment.id, "observation", whole, _entry(name, space) + limit)
    if type(space).__module__ == "minigrid.core.mission" and type(space).__name__ == "MissionSpace":
        return _mission(name, path, space, environment.id)
    limit = "Box of numbers, Discrete, MultiDiscrete or MultiBinary can be sent"
    if name:
        limit += "; name those of its entries in `entries`"
    raise _refused(environment.id, "observation", whole, _entry(name, space) + limit)


def _entry(name: str, space: Space[Any]) -> str:
    return f"entry {one_line(name, 40)} is {one_line(str(space), 60)}; " if name else ""


def _numbers(size: int) -> Callable[[Any], Floats]:
    """Read so many numbers."""

    def read(shown: Any) -> Floats:
        values = np.asarray(shown, dtype=np.float64).reshape(-1)
        if values.size != size:
            raise BackendFailedError(f"{values.size} numbers, it has {size}")
        if not np.isfinite(values).all():
            raise BackendFailedError("a number is not finite")
        return values

    return read


def _flags(size: int) -> Callable[[Any], Floats]:
    """Read so many flags."""

    def read(shown: Any) -> Floats:
        flags = np.asarray(shown).reshape(-1)
        if flags.size != size:
            raise BackendFailedError(f"{flags.size} flags, it has {size}")
        return (flags != 0).astype(np.float64)

    return read


def _chosen(
    name: str, path: tuple[Any, ...], choices: tuple[int, ...], repeats: int, first: Any
) -> SeenPart:
    """Numbers, each one of its choices; the choices repeat."""
    size = sum(choices) * repeats
    read = _one_hot(choices * repeats if size <= MOST_VALUES else (), first)
    return SeenPart(Part(name, "multidiscrete", size, choices), path, read)


def _one_hot(choices: tuple[int, ...], first: Any) -> Callable[[Any], Floats]:
    """Read whole numbers, each as flags of its choices, of which `first` is the smallest."""
    most = np.array(choices, dtype=np.int64)
    starts, size = np.cumsum(most) - most, int(most.sum())

    def read(shown: Any) -> Floats:
        indices = np.asarray(shown, dtype=np.int64).reshape(-1) - first
        if indices.shape != most.shape or (indices < 0).any() or (indices >= most).any():
            kinds = ", ".join(map(str, dict.fromkeys(choices)))
            raise BackendFailedError(f"it has {len(most)} whole numbers of {kinds} kinds")
        row = np.zeros(size)
        row[starts + indices] = 1
        return row

    return read


def _mission(name: str, path: tuple[Any, ...], space: Any, where: str) -> SeenPart:
    """MiniGrid's text: what stands in its gaps, each gap one of its words."""
    gaps: list[list[str]] = space.ordered_placeholders or []
    choices = tuple(map(len, gaps))
    if math.prod(choices) > MOST_MISSIONS:
        raise _refused(where, "observation", space, f"{MOST_MISSIONS:,} missions is the limit")
    places = itertools.product(*(range(count) for count in choices))
    known = {
        space.mission_func(*(words[place] for words, place in zip(gaps, chosen, strict=True))): (
            chosen
        )
        for chosen in places
    }
    one_hot = _one_hot(choices, 0)

    def read(shown: Any) -> Floats:
        if shown not in known:
            raise BackendFailedError(f"it has {len(known)} missions, this is none of them")
        return one_hot(known[shown])

    return SeenPart(Part(name, "multidiscrete", sum(choices), choices), path, read)


def actions_of(space: Space[Any], where: str) -> tuple[int, tuple[int, ...], ActionBox | None]:
    """Describe what an environment takes.

    Returns:
        The number of actions, or of numbers; choices of each number of a MultiDiscrete or
        MultiBinary action, otherwise none; and the box of an environment that takes numbers.

    Raises:
        BadRequestError: a space that an agent cannot act in; one line with its limit.
    """
    from gymnasium import spaces

    choices: tuple[int, ...] = ()
    if isinstance(space, spaces.Box):
        box = _box(space, where)
        return box.size, (), box
    if isinstance(space, spaces.Discrete):
        actions = int(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        choices = tuple(map(int, space.nvec.reshape(-1)))
        actions = math.prod(choices)
    elif isinstance(space, spaces.MultiBinary):
        choices = (2,) * math.prod(space.shape)
        actions = math.prod(choices)
    else:
        limit = "Discrete, MultiDiscrete, MultiBinary or Box of floats is needed"
        raise _refused(where, "action", space, limit)
    if actions > MOST_ACTIONS:
        many = f" (here {actions:,} combinations)" if choices else ""
        raise _refused(where, "action", space, f"{MOST_ACTIONS} actions is the limit{many}")
    return actions, choices, None


def _box(space: Any, where: str) -> ActionBox:
    """Describe a box of actions."""
    if space.dtype.kind != "f":
        raise _refused(where, "action", space, "a Box of floats is needed, or MultiDiscrete")
    size = math.prod(space.shape)
    if not 1 <= size <= MOST_ACTIONS:
        raise _refused(where, "action", space, f"1 to {MOST_ACTIONS} numbers can be sent")
    low, high = (bound.astype(np.float64).reshape(-1) for bound in (space.low, space.high))
    if not (np.abs([low, high]) <= LARGEST_NUMBER).all() or not (low < high).all():
        limit = "each number needs a lower and a higher bound, between which it is stretched"
        raise _refused(where, "action", space, limit)
    lowest = np.nextafter(low.astype(np.float32), np.float32(np.inf))
    if not (lowest < high).all():
        limit = "the bounds of each number need float32 numbers between them; rescale them"
        raise _refused(where, "action", space, limit)
    return ActionBox(tuple(low.tolist()), tuple(high.tolist()))


def _refused(where: str, kind: str, space: Space[Any], limit: str) -> BadRequestError:
    return BadRequestError(f"{where}: {kind} space {one_line(str(space), 120)}; {limit}")

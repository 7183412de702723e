"""Checks of numbers that the configurations of all kinds of runs share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

LARGEST_SEED = 2**63 - 1
"""The largest seed that PyTorch's and NumPy's generators both take; the smallest is 0."""


def check_finite(settings: Any) -> None:
    """Check every float of a dataclass, of its tuples and of the dataclasses in it.

    Raises:
        ValueError: one is not finite; the message names it as ``table.field``.
    """
    for name, value in _floats(settings, ""):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, must be a finite number")


def check_seed(seed: int) -> None:
    """Check that random generators take a seed.

    Raises:
        ValueError: it is below 0 or above 2**63 - 1.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed is {seed}, must be from 0 to {LARGEST_SEED}")


MOST_THREADS = 1024
"""More CPU threads than any machine has; PyTorch ends the process at a hundred million."""
MOST_STEPS = 10**12
"""Decisions, gradient steps: centuries on any machine, and exact in floats."""
MOST_IMAGES = 10**7
MOST_PASSES = 10**6
LARGEST_BATCH = 2**16


def check_at_most(settings: Any, largest: Mapping[str, int]) -> None:
    """Check that fields, or all entries of a tuple, are no larger than their bound.

    Raises:
        ValueError: one is larger.
    """
    for name, bound in largest.items():
        value = getattr(settings, name)
        highest = max(value, default=0) if isinstance(value, tuple) else value
        if highest > bound:
            raise ValueError(f"{name} is {highest:,}, must be at most {bound:,}")


def check_once(name: str, layers: Sequence[str]) -> None:
    """Check that no layer is named twice: what is done to each would be done to it again.

    Raises:
        ValueError: one is.
    """
    twice = sorted({layer for layer in layers if layers.count(layer) > 1})
    if twice:
        raise ValueError(f"{name} has {', '.join(twice)} more than once; name each layer once")


def check_above_zero(settings: Any, names: tuple[str, ...]) -> None:
    """Check that these fields are above 0.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} is {getattr(settings, name)}, must be above 0")


def _floats(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield name, value
    elif isinstance(value, tuple):
        for entry in value:
            yield from _floats(entry, name)
    elif is_dataclass(value):
        for entry in fields(value):
            inner = getattr(value, entry.name)
            yield from _floats(inner, f"{name}.{entry.name}".lstrip("."))

"""Contenders take turns, so that what else a machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

Times = dict[str, list[float]]
TURN_S = 0.02
"""How long one turn of a contender lasts, or one decision where that is longer."""


class Milliseconds(float):
    """What a contender in another program took for a step and sample, by its own clock."""


def spread(times: list[float]) -> dict[str, float]:
    """Median, least and most, of milliseconds a step and sample."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def take_turns(
    decides: dict[str, Callable[[], Any]],
    per: dict[str, int],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> Times:
    """Milliseconds a step of each contender, `repeats` times, in turns; the first are dropped.

    In a turn a contender decides as often as fits 20 ms, once at least: what came before has the
    caches, and the first decisions would pay for that the more the faster they are. The clock
    counts this process's own time on the processor, which on an idle machine is the time that
    passes, and on a busy one leaves out what other programs took.
    """
    times: Times = {name: [] for name in decides}
    for turn in range(repeats + 1):
        for name, decide in decides.items():
            began, count, took = clock(), 0, None
            while not count or (clock() - began < TURN_S and not isinstance(took, Milliseconds)):
                took = decide()
                count += 1
            if turn and isinstance(took, Milliseconds):
                times[name].append(float(took))
            elif turn:
                times[name].append((clock() - began) / count / per[name] * 1e3)
    return times

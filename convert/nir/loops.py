"""Put one step of delay into every loop of populations that has none of its own.

NIR's equations are continuous in time; a simulator in steps can only use, around a loop, what
was sent a step before. The edges that lead back towards the input get the step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mtspark.convert.nir.signals import Signal
from mtspark.core.chip_network import INPUT

Edge = tuple[str, int, str]
"""Source, delay in steps, target."""


@dataclass
class Loops:
    """The delays that :func:`break_loops` adds.

    Attributes:
        notional: steps to be added to an edge.
        notes: sentences for the user.
        rank: distance of every population from the input, and its place among equals.
    """

    notional: dict[Edge, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rank: dict[str, tuple[int, list[object]]] = field(default_factory=dict)

    def later(self, target: str) -> Loops:
        """The delays where everything reaches a population one step later."""
        notional = {
            (source, delay + (end == target), end): steps
            for (source, delay, end), steps in self.notional.items()
        }
        return replace(self, notional=notional)


def break_loops(arriving: Mapping[str, Signal]) -> Loops:
    """Put one step on the edges that lead back within a loop without delay.

    Args:
        arriving: what every population receives, by name.

    Returns:
        The edges that get a step, and the ranks that :func:`computing_order` needs.
    """
    loops = Loops(rank=_ranks(arriving))
    together = _strong_components(arriving)
    for target, signal in arriving.items():
        for source, delay in signal.maps:
            if source == INPUT or delay or together[source] != together[target]:
                continue
            if loops.rank[source] >= loops.rank[target]:
                loops.notional[(source, delay, target)] = 1
    if loops.notional:
        shown = ", ".join(f"{source!r} to {target!r}" for source, _, target in loops.notional)
        loops.notes.append(f"recurrent with one step of delay: {shown}")
    return loops


def computing_order(arriving: Mapping[str, Signal], loops: Loops) -> list[str]:
    """Order populations: sources of undelayed connections first, then those near the input.

    Args:
        arriving: what every population receives, by name.
        loops: of these populations.
    """
    before = {
        target: {
            source
            for source, delay in signal.maps
            if source != INPUT and not delay and (source, delay, target) not in loops.notional
        }
        for target, signal in arriving.items()
    }
    order: list[str] = []
    waiting = sorted(arriving, key=loops.rank.__getitem__)
    while waiting:
        ready = next(name for name in waiting if before[name] <= set(order))
        order.append(ready)
        waiting.remove(ready)
    return order


def _ranks(arriving: Mapping[str, Signal]) -> dict[str, tuple[int, list[object]]]:
    """Connections from the input, the fewest; names in natural order tell equals apart."""
    distance = {INPUT: 0}
    changed = True
    while changed:
        changed = False
        for target, signal in arriving.items():
            reached = [distance[source] + 1 for source, _ in signal.maps if source in distance]
            if reached and min(reached) < distance.get(target, len(arriving) + 2):
                distance[target] = min(reached)
                changed = True
    far = len(arriving) + 2
    return {name: (distance.get(name, far), _natural(name)) for name in arriving}


def _natural(name: str) -> list[object]:
    """ "layer10" after "layer9"."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def _strong_components(arriving: Mapping[str, Signal]) -> dict[str, int]:
    """Number of the strongly connected component of every population, over undelayed edges."""
    following: dict[str, list[str]] = {name: [] for name in arriving}
    leading: dict[str, list[str]] = {name: [] for name in arriving}
    for target, signal in arriving.items():
        for source, delay in signal.maps:
            if source != INPUT and not delay:
                following[source].append(target)
                leading[target].append(source)
    finished: list[str] = []
    seen: set[str] = set()
    for start in arriving:
        stack = [(start, iter(following[start]))] if start not in seen else []
        seen.add(start)
        while stack:
            name, rest = stack[-1]
            step = next((other for other in rest if other not in seen), None)
            if step is None:
                finished.append(name)
                stack.pop()
            else:
                seen.add(step)
                stack.append((step, iter(following[step])))
    component: dict[str, int] = {}
    for number, start in enumerate(reversed(finished)):
        waiting = [start]
        while waiting:
            name = waiting.pop()
            if name not in component:
                component[name] = number
                waiting += leading[name]
    return component

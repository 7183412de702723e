"""Signals along edges: sums of linear maps of what populations send, and constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mtspark.convert.linear import (
    Dense,
    LinearMap,
    Scale,
    add,
    compose,
    connection,
    identity,
    is_identity,
)
from mtspark.convert.nir.nodes import Effect, size
from mtspark.core.arrays import Floats
from mtspark.core.float_network import CONSTANT, FloatConnection
from mtspark.core.geometry import Shape

Key = tuple[str, int]
"""Source (a population or the input) and delay in steps."""


@dataclass
class Signal:
    """A sum over sources and delays of linear maps, plus constants that set in after a delay.

    Attributes:
        maps: by source and delay; several maps are summed.
        constants: by delay; flattened.
    """

    maps: dict[Key, list[LinearMap]] = field(default_factory=dict)
    constants: dict[int, Floats] = field(default_factory=dict)

    @staticmethod
    def of(source: str, values: int) -> Signal:
        """The signal that a source sends."""
        return Signal({(source, 0): [identity(values)]})

    def population(self) -> str | None:
        """The source whose values these are, unchanged; None if there is more to it."""
        if len(self.maps) != 1 or self.constants:
            return None
        (((source, delay), maps),) = self.maps.items()
        unchanged = len(maps) == 1 and delay == 0 and is_identity(maps[0])
        return source if unchanged else None

    def later(self, steps: int) -> Signal:
        """The same signal some steps later."""
        return Signal(
            {(source, delay + steps): maps for (source, delay), maps in self.maps.items()},
            {delay + steps: value for delay, value in self.constants.items()},
        )

    def include(self, key: Key, linear: LinearMap) -> None:
        """Add a map; it joins one that is there where their sum is a map."""
        maps = self.maps.setdefault(key, [])
        for index, other in enumerate(maps):
            joined = add(other, linear)
            if joined is not None:
                maps[index] = joined
                return
        maps.append(linear)

    def include_constant(self, delay: int, value: Floats) -> None:
        """Add a constant."""
        self.constants[delay] = self.constants.get(delay, 0.0) + value


def total(signals: Mapping[str, Signal], sources: Iterable[str], shape: Shape) -> Signal:
    """Add up what several nodes send.

    Args:
        signals: of all nodes, by name.
        sources: names of the nodes.
        shape: of what the first of them sends.
    """
    result = Signal()
    for source in sources:
        for key, maps in signals[source].maps.items():
            for linear in maps:
                result.include(key, linear)
        for delay, value in signals[source].constants.items():
            result.include_constant(delay, value)
    assert all(m.outputs == size(shape) for maps in result.maps.values() for m in maps)
    return result


def through(effect: Effect, signal: Signal) -> Signal:
    """Send a signal through a node.

    Args:
        effect: of the node.
        signal: that arrives.

    Raises:
        BadNetworkError: a composition that would be too large.
    """
    result = Signal()
    for key, maps in signal.maps.items():
        for linear in maps:
            result.include(key, compose(effect.map, linear))
    for delay, value in signal.constants.items():
        result.include_constant(delay, effect.map.apply(value.reshape(1, -1))[0])
    if effect.bias is not None:
        result.include_constant(0, effect.bias.reshape(-1))
    if effect.delays is None:
        return result
    shifted = Signal()
    for steps, mask in effect.delays.items():
        for (source, delay), maps in result.maps.items():
            for linear in maps:
                shifted.include((source, delay + steps), compose(Scale(mask), linear))
        for delay, value in result.constants.items():
            shifted.include_constant(delay + steps, value * mask)
    return shifted


def connections_of(
    target: str, signal: Signal, notional: Mapping[tuple[str, int, str], int]
) -> list[FloatConnection]:
    """Make the connections that bring a signal to a population.

    Args:
        target: population.
        signal: what it receives.
        notional: steps to be added, by source, delay and target.
    """
    links: list[FloatConnection] = []
    for (source, delay), maps in signal.maps.items():
        extra = notional.get((source, delay, target), 0)
        for linear in maps:
            link = connection(linear, _free_name(source, target, links), source, target)
            links.append(replace(link, delay=delay + extra, notional_delay=extra))
    for delay, value in signal.constants.items():
        if delay and np.any(value):
            name = _free_name(CONSTANT, target, links)
            column = connection(Dense(value[:, None]), name, CONSTANT, target)
            links.append(replace(column, delay=delay))
    return links


def _free_name(source: str, target: str, others: list[FloatConnection]) -> str:
    """A name for a connection to `target`; further ones from the same source get numbers."""
    count = sum(other.source == source for other in others)
    return f"{source}->{target}" + (f"#{count + 1}" if count else "")

"""Messages of one decision as the engine counts them: a few bytes a neuron, read when wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network.network import INPUT
from mtspark.sim.engine.layout import LANE, Plan, by_neuron


@dataclass(frozen=True)
class Places:
    """Where each source stands among the engine's lanes.

    Attributes:
        plan: of the network.
        shapes: of the sources, in the order of Plan.sources.
    """

    plan: Plan
    shapes: dict[str, tuple[int, ...]]

    def of_population(self, name: str, lanes: NDArray[Any]) -> NDArray[Any]:
        """The part of an array (..., lanes) that belongs to a population, (..., *shape)."""
        number = list(self.shapes).index(name)
        first = int(self.plan.neurons[number - 1, LANE])
        return by_neuron(lanes, self.plan.sources[number], first, self.shapes[name])


class LaneCounts(Mapping[str, Integers]):
    """Messages by source; an array of int64 is made when it is asked for.

    Attributes:
        places: of the sources.
        lanes: spikes of all populations, unsigned (batch, lanes).
        inputs: messages of the input, (batch, values), bool or uint32; None where it sent none.
        times: how often each of them was sent.
    """

    def __init__(
        self, places: Places, lanes: NDArray[Any], inputs: NDArray[Any] | None, times: int = 1
    ) -> None:
        self.places, self.lanes, self.inputs, self.times = places, lanes, inputs, times
        self._made: dict[str, Integers] = {}

    def __getitem__(self, name: str) -> Integers:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places.shapes)

    def __len__(self) -> int:
        return len(self.places.shapes)

    def _make(self, name: str) -> Integers:
        if name != INPUT:
            return self.places.of_population(name, self.lanes).astype(np.int64)
        shape = (len(self.lanes), *self.places.shapes[INPUT])
        if self.inputs is None:
            return np.zeros(shape, np.int64)
        return self.inputs.reshape(shape) * np.int64(self.times)


class LaneTotals:
    """Sums of such counts over decisions, in 32 bits until they are asked for or full."""

    def __init__(self, counts: LaneCounts) -> None:
        self._places, self._times = counts.places, counts.times
        self._lanes = np.zeros(counts.lanes.shape[1:], np.uint32)
        inputs = 0 if counts.inputs is None else counts.inputs.shape[1]
        self._inputs = np.zeros(inputs, np.uint32)
        self._added = 0

    def fits(self, counts: LaneCounts, most: int) -> bool:
        """Whether these counts are of the same kind, and the sums stay exact with them.

        Args:
            counts: to be added.
            most: the largest one among them, times the members of the batch.
        """
        same = counts.places is self._places and counts.times == self._times
        inputs = 0 if counts.inputs is None else counts.inputs.shape[1]
        return same and inputs == len(self._inputs) and self._added + most < 2**32

    def add(self, counts: LaneCounts, most: int) -> None:
        """Add every member of a batch, after :meth:`fits`."""
        self._added += most
        for member in range(len(counts.lanes)):
            np.add(self._lanes, counts.lanes[member], out=self._lanes)
            if counts.inputs is not None:
                np.add(self._inputs, counts.inputs[member], out=self._inputs)

    def counts(self) -> LaneCounts:
        """The sums, as a batch of one."""
        inputs = self._inputs[None].astype(np.int64) if len(self._inputs) else None
        return LaneCounts(self._places, self._lanes[None], inputs, self._times)

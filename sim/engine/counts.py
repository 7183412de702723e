"""Messages of one decision as the engine counts them: a few bytes a neuron, read when wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import INPUT
from mtspark.sim.engine.layout import Plan, by_neuron


@dataclass(frozen=True)
class LaneIndex:
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
        first = int(self.plan.neurons[number - 1]["lane_first"])
        return by_neuron(lanes, self.plan.sources[number], first, self.shapes[name])


class LaneCounts(Mapping[str, Integers]):
    """Messages by source; each becomes an array of int64 when it is read.

    Attributes:
        index: where the sources stand.
        lanes: spikes of all populations, unsigned (batch, lanes).
        inputs: messages of the input, (batch, values), bool or uint32; None where it sent none.
        times: how often each of them was sent.
    """

    def __init__(
        self, index: LaneIndex, lanes: NDArray[Any], inputs: NDArray[Any] | None, times: int = 1
    ) -> None:
        self.index, self.lanes, self.inputs, self.times = index, lanes, inputs, times
        self._by_source: dict[str, Integers] = {}

    def __getitem__(self, name: str) -> Integers:
        if name not in self._by_source:
            self._by_source[name] = self._of_source(name)
        return self._by_source[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.index.shapes)

    def __len__(self) -> int:
        return len(self.index.shapes)

    def _of_source(self, name: str) -> Integers:
        if name != INPUT:
            return self.index.of_population(name, self.lanes).astype(np.int64)
        shape = (len(self.lanes), *self.index.shapes[INPUT])
        if self.inputs is None:
            return np.zeros(shape, np.int64)
        return self.inputs.reshape(shape) * np.int64(self.times)


class LaneTotals:
    """Sums of such counts over decisions, in 32 bits until they are asked for or full."""

    def __init__(self, counts: LaneCounts) -> None:
        self._index, self._times = counts.index, counts.times
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
        same = counts.index is self._index and counts.times == self._times
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
        return LaneCounts(self._index, self._lanes[None], inputs, self._times)

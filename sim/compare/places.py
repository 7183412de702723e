"""Neurons of a pruned network at the places that they had before others were removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans
from mtspark.core.backend import Activity, AgentBackend, ChipTrace, Decider, Decision


@dataclass(frozen=True)
class Places:
    """Where the neurons of a pruned network stood.

    Attributes:
        shapes: of each population before.
        kept: of each population, (neurons before,) True where the pruned network has the neuron;
            what it has stands there in order. All False where nothing is left of a population
            but a neuron that is off.
    """

    shapes: Mapping[str, tuple[int, ...]]
    kept: Mapping[str, Booleans]

    @property
    def removed(self) -> dict[str, int]:
        """How many neurons are gone, of the populations that lost some."""
        gone = {name: int((~kept).sum()) for name, kept in self.kept.items()}
        return {name: count for name, count in gone.items() if count}

    def same_as(self, other: Places) -> bool:
        """Whether the same neurons of the same populations are left."""
        return self.shapes == other.shapes and all(
            np.array_equal(flags, other.kept[name]) for name, flags in self.kept.items()
        )

    def spread(self, trace: ChipTrace) -> ChipTrace:
        """Return a trace of the pruned network in the shapes of before; removed neurons rest."""
        return ChipTrace(
            {name: self._spread(name, values, 2) for name, values in trace.spikes.items()},
            {name: self._spread(name, values, 2) for name, values in trace.membranes.items()},
        )

    def spread_activity(self, activity: Activity) -> Activity:
        """Return counts of the pruned network in the shapes of before; the input's as they are."""
        return Activity(
            {name: self._spread(name, values, 1) for name, values in activity.window.items()},
            {name: self._spread(name, values, 1) for name, values in activity.drain.items()},
        )

    def left_activity(self, activity: Activity, shapes: Mapping[str, tuple[int, ...]]) -> Activity:
        """Return counts of all neurons for those that are left, in the pruned network's shapes.

        Args:
            activity: with the shapes of before.
            shapes: of each population of the pruned network.
        """
        return Activity(
            {name: self._left(name, values, shapes) for name, values in activity.window.items()},
            {name: self._left(name, values, shapes) for name, values in activity.drain.items()},
        )

    def _left(
        self, name: str, values: NDArray[Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> NDArray[Any]:
        if name not in self.kept:
            return values
        kept, batch = self.kept[name], len(values)
        if not kept.any():
            # What stands for a population of which nothing is left is off.
            return np.zeros((batch, *shapes[name]), values.dtype)
        return values.reshape(batch, -1)[:, kept].reshape(batch, *shapes[name])

    def _spread(self, name: str, values: NDArray[Any], axes: int) -> NDArray[Any]:
        """Values with `axes` leading axes; those of a source that is no population stay."""
        if name not in self.kept:
            return values
        ahead, kept = values.shape[:axes], self.kept[name]
        full = np.zeros((*ahead, kept.size), values.dtype)
        if kept.any():
            full[..., kept] = values.reshape(*ahead, -1)
        return full.reshape(*ahead, *self.shapes[name])


@dataclass(frozen=True)
class SharedPlaces:
    """Places of the neurons of two sides of a comparison, of which one or both are pruned.

    Attributes:
        one, other: of each side; None: it has all neurons.
    """

    one: Places | None = None
    other: Places | None = None

    @property
    def only(self) -> dict[str, Booleans] | None:
        """By population, the neurons that both sides have; None: all."""
        sides = [side.kept for side in (self.one, self.other) if side is not None]
        if not sides:
            return None
        first, *rest = sides
        return {
            name: np.logical_and.reduce([flags, *(more[name] for more in rest if name in more)])
            for name, flags in first.items()
        }

    @property
    def removed(self) -> dict[str, int]:
        """How many neurons one side at least lacks, of the populations that have such."""
        only = self.only or {}
        return {name: int((~flags).sum()) for name, flags in only.items() if not flags.all()}


class InPlaces:
    """A backend of a pruned network whose records have the shapes of before.

    Args:
        backend: closed with this one.
        places: of its neurons.
    """

    def __init__(self, backend: Decider, places: Places) -> None:
        self.name, self._backend, self._places = backend.name, backend, places

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Answer a batch of frames; removed neurons rest in what is recorded."""
        answer = self._backend.decide(frames, task, trace=trace)
        recorded = None if answer.trace is None else self._places.spread(answer.trace)
        return Decision(answer.values, self._places.spread_activity(answer.activity), recorded)

    def close(self) -> None:
        """Release the backend."""
        self._backend.close()


class OfThoseLeft:
    """A backend of all neurons whose counts are those of a pruned network's neurons.

    Args:
        backend: of the network before, as the trained float network; closed with this one.
        places: of the neurons that are left.
        shapes: of each population of the pruned network.
    """

    def __init__(
        self, backend: AgentBackend, places: Places, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.name, self._backend, self._places = backend.name, backend, places
        self._shapes = shapes

    def start(self, batch: int) -> None:
        """Put the backend at rest."""
        self._backend.start(batch)

    def keep(self, members: NDArray[np.int64]) -> None:
        """Go on with some members of the batch, in this order."""
        self._backend.keep(members)

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Answer a batch of frames; neurons that were removed do not count."""
        answer = self._backend.decide(frames, task, trace=trace)
        activity = self._places.left_activity(answer.activity, self._shapes)
        return Decision(answer.values, activity, answer.trace)

    def close(self) -> None:
        """Release the backend."""
        self._backend.close()

"""The first value in which two backends differ: decision, step, layer, neuron, both values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMBRANE, SPIKE, SPIKE_COUNT = "membrane", "spike", "spikes in the decision"
"""What can differ. A membrane comes before a spike, since a wrong membrane makes a wrong spike."""


@dataclass(frozen=True)
class Divergence:
    """The first value in which two backends differ.

    Attributes:
        decision: from 0.
        step: within the decision, from 1; None for a count over the whole decision.
        layer: population.
        neuron: index in the population's shape.
        quantity: :data:`MEMBRANE`, :data:`SPIKE` or :data:`SPIKE_COUNT`.
        expected, got: both values; spikes are 0 or 1.
    """

    decision: int
    step: int | None
    layer: str
    neuron: tuple[int, ...]
    quantity: str
    expected: int
    got: int

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values of ``first_divergence``."""
        return {**asdict(self), "neuron": list(self.neuron)}


def first_in_trace(
    expected: NDArray[Any],
    got: NDArray[Any],
    unequal: NDArray[np.bool_],
    layer: str,
    quantity: str,
    *,
    decision: int = 0,
    step: int = 0,
) -> Divergence:
    """Find the first difference of one layer: by decision, then by step, then by neuron.

    Args:
        expected, got: (steps, batch, *shape).
        unequal: where they differ, at least once.
        layer, quantity: as in :class:`Divergence`.
        decision: number of the batch's first decision.
        step: steps of the decision before the first one of the arrays.
    """
    places = np.argwhere(unequal)
    where = tuple(int(i) for i in places[np.lexsort((places[:, 0], places[:, 1]))[0]])
    return Divergence(
        decision=decision + where[1],
        step=step + where[0] + 1,
        layer=layer,
        neuron=where[2:],
        quantity=quantity,
        expected=int(expected[where]),
        got=int(got[where]),
    )


def first_in_counts(
    expected: NDArray[Any],
    got: NDArray[Any],
    unequal: NDArray[np.bool_],
    layer: str,
    *,
    decision: int = 0,
) -> Divergence:
    """Find the first difference of one layer's spike counts: by decision, then by neuron.

    Args:
        expected, got: (batch, *shape), spikes of each neuron in the decision.
        unequal: where they differ, at least once.
        layer: as in :class:`Divergence`.
        decision: number of the batch's first decision.
    """
    where = tuple(int(i) for i in np.argwhere(unequal)[0])
    return Divergence(
        decision=decision + where[0],
        step=None,
        layer=layer,
        neuron=where[1:],
        quantity=SPIKE_COUNT,
        expected=int(expected[where]),
        got=int(got[where]),
    )

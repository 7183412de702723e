"""Where two chips first differ: decision, step, layer, neuron, and both values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtspark.core.backend import ChipTrace


@dataclass(frozen=True)
class Divergence:
    """The first value in which two traces differ.

    Attributes:
        decision: from 0.
        step: within the decision, from 1.
        layer: population.
        neuron: index in the population's shape.
        quantity: "membrane" or "spike".
        expected, got: both values; spikes are 0 or 1.
    """

    decision: int
    step: int
    layer: str
    neuron: tuple[int, ...]
    quantity: str
    expected: int
    got: int


@dataclass
class Comparison:
    """A running comparison of spikes and membranes.

    Attributes:
        compared: values compared so far.
        different: values that differed.
        first: the first of them.
        decisions: compared so far.
    """

    compared: int = 0
    different: int = 0
    first: Divergence | None = None
    decisions: int = 0

    @property
    def equal(self) -> bool:
        """Something was compared and nothing differed."""
        return self.compared > 0 and self.different == 0

    def add(self, expected: ChipTrace, got: ChipTrace, layers: Sequence[str]) -> None:
        """Compare one decision of a batch of one; earliest step first, then layer by layer.

        Membranes come before spikes, since a wrong membrane is why a spike is wrong.
        """
        decision = self.decisions
        self.decisions += 1
        found: list[tuple[int, int, int, Divergence]] = []
        for depth, layer in enumerate(layers):
            pairs = (
                ("membrane", expected.membranes[layer], got.membranes[layer]),
                ("spike", expected.spikes[layer], got.spikes[layer]),
            )
            for order, (quantity, one, other) in enumerate(pairs):
                if one.shape != other.shape:
                    raise ValueError(f"{layer}: shapes {one.shape} and {other.shape}")
                unequal = one != other
                self.compared += one.size
                self.different += int(unequal.sum())
                if unequal.any():
                    where = tuple(int(i) for i in np.argwhere(unequal)[0])
                    divergence = Divergence(
                        decision=decision,
                        step=where[0] + 1,
                        layer=layer,
                        neuron=where[2:],
                        quantity=quantity,
                        expected=int(one[where]),
                        got=int(other[where]),
                    )
                    found.append((where[0], depth, order, divergence))
        if found and self.first is None:
            self.first = min(found, key=lambda entry: entry[:3])[3]

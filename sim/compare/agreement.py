"""How far two backends agree: actions, values, spikes and membranes, and the first difference.

One comparison for all of mtspark. :func:`compare_traces` and :func:`compare_activity` ask two
backends about the same frames. Code that runs the two sides itself feeds a :class:`Comparison`::

    comparison = Comparison()
    comparison.add_trace(one.trace, two.trace)                 # every spike and membrane
    comparison.add_activity(one.activity, two.activity)        # spike counts of a decision
    comparison.add_values(one.values, two.values, legal)       # values and greedy actions
    comparison.add_actions(actions, other_actions)             # actions alone
    agreement = comparison.result()                            # frozen, with to_json()

Each call takes a batch; calls of one kind go in order of the decisions. Use one kind of spikes for
one comparison: traces or activity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans
from mtspark.core.backend import Activity, ChipTrace, Decider, greedy_actions
from mtspark.core.chip_network import INPUT
from mtspark.core.environments import ActionBox, boxed_actions, same_actions
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.sim.compare.divergence import (
    MEMBRANE,
    SPIKE,
    Divergence,
    first_in_counts,
    first_in_trace,
)

BATCH = 25
"""Decisions that :func:`compare_activity` asks for at once."""


@dataclass(frozen=True)
class LayerAgreement:
    """How far one population agrees.

    Attributes:
        compared: values compared: spikes and membranes of traces, or counts of activity.
        different: of them.
        spike_distance: sum of |difference| of the spike counts; None where traces were compared.
    """

    compared: int
    different: int
    spike_distance: int | None = None

    @property
    def share(self) -> float:
        """Share of the values that differ; 0 where nothing was compared."""
        return self.different / max(self.compared, 1)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without the distance where none was measured."""
        data = {"compared": self.compared, "different": self.different}
        if self.spike_distance is not None:
            data["spike_distance"] = self.spike_distance
        return data


@dataclass(frozen=True)
class Agreement:
    """How far two backends agree over some decisions.

    Attributes:
        decisions: compared.
        layers: by population, in the order of the first backend's layers.
        first: the first difference of spikes and membranes.
        values_compared, values_different: action values.
        actions_compared, actions_equal: greedy actions; numbers of a box are equal within
            :data:`mtspark.core.environments.actions.EQUAL_SHARE` of its range.
    """

    decisions: int
    layers: dict[str, LayerAgreement]
    first: Divergence | None
    values_compared: int = 0
    values_different: int = 0
    actions_compared: int = 0
    actions_equal: int = 0

    @property
    def compared(self) -> int:
        """Spikes, membranes or counts compared, over all populations."""
        return sum(layer.compared for layer in self.layers.values())

    @property
    def different(self) -> int:
        """How many of them differ."""
        return sum(layer.different for layer in self.layers.values())

    @property
    def equal(self) -> bool:
        """Something was compared and nothing differed."""
        return self.compared > 0 and self.different == 0

    @property
    def action_agreement(self) -> float | None:
        """Share of equal greedy actions; None where no action was compared."""
        return self.actions_equal / self.actions_compared if self.actions_compared else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that every ``mtspark diff`` has; see also :meth:`layers_to_json`."""
        return {
            "equal": self.equal,
            "decisions": self.decisions,
            "compared": self.compared,
            "different": self.different,
            "first_divergence": None if self.first is None else self.first.to_json(),
        }

    def layers_to_json(self) -> dict[str, dict[str, Any]]:
        """Return the agreement of each population as JSON values."""
        return {name: layer.to_json() for name, layer in self.layers.items()}


@dataclass
class _LayerSums:
    compared: int = 0
    different: int = 0
    spike_distance: int | None = None


@dataclass
class Comparison:
    """Adds up the agreement of two backends, batch by batch; see the module's example.

    Attributes:
        decisions: compared so far.
        first: the first difference of spikes and membranes so far.
    """

    decisions: int = 0
    first: Divergence | None = None
    _layers: dict[str, _LayerSums] = field(default_factory=dict)
    _values: list[int] = field(default_factory=lambda: [0, 0])
    _actions: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def compared(self) -> int:
        """Spikes, membranes or counts compared so far."""
        return sum(layer.compared for layer in self._layers.values())

    @property
    def different(self) -> int:
        """How many of them differ."""
        return sum(layer.different for layer in self._layers.values())

    @property
    def equal(self) -> bool:
        """Something was compared and nothing differed."""
        return self.compared > 0 and self.different == 0

    def add_trace(
        self,
        expected: ChipTrace,
        got: ChipTrace,
        layers: Sequence[str] | Mapping[str, str] | None = None,
        *,
        first_steps: Mapping[str, int] | None = None,
        only: Mapping[str, Booleans] | None = None,
    ) -> None:
        """Compare every spike of a batch, and every membrane that both sides have.

        The first difference is that of the earliest decision, in it of the earliest step, in it
        of the first layer; membranes come before spikes.

        Args:
            expected, got: by population, (steps, batch, *shape). Neurons may have another shape
                on the other side, in the same order.
            layers: names to compare, input side first, or the other side's name by this side's;
                all of `expected` where None.
            first_steps: by population, steps of the decision before the first one of the arrays,
                where these hold a part of it. They change which step is reported, not the order.
            only: by population, (neurons,) True where a neuron is compared; all where None, and
                of populations that it does not name.

        Raises:
            ValueError: a layer has other steps, decisions or neurons on the other side.
        """
        pairs = _pairs(expected, layers)
        differences: list[tuple[tuple[int, int, int, int], Divergence]] = []
        batch = 0
        for depth, (name, theirs) in enumerate(pairs.items()):
            sums = self._layers.setdefault(name, _LayerSums())
            batch = expected.spikes[name].shape[1]
            kinds: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
                (SPIKE, expected.spikes[name], got.spikes[theirs])
            ]
            if name in expected.membranes and theirs in got.membranes:
                kinds.insert(0, (MEMBRANE, expected.membranes[name], got.membranes[theirs]))
            for order, (quantity, one, other) in enumerate(kinds):
                other = _like(one, other, name, axes=2)
                unequal, compared = _unequal(one, other, _flags(only, name))
                different = int(unequal.sum())
                sums.compared += compared
                sums.different += different
                if different and self.first is None:
                    start = 0 if first_steps is None else first_steps[name]
                    divergence = first_in_trace(
                        one, other, unequal, name, quantity, decision=self.decisions, step=start
                    )
                    assert divergence.step is not None
                    place = (divergence.decision, divergence.step - start, depth, order)
                    differences.append((place, divergence))
        self.decisions += batch
        if differences:
            self.first = min(differences, key=lambda entry: entry[0])[1]

    def add_activity(
        self,
        expected: Activity,
        got: Activity,
        layers: Sequence[str] | None = None,
        *,
        only: Mapping[str, Booleans] | None = None,
    ) -> None:
        """Compare the spike counts of every neuron in its window, for a batch of decisions.

        The first difference is that of the first layer that differs anywhere in the batch.

        Args:
            expected, got: as backends give them.
            layers: names to compare, input side first; all of `got` but the input where None.
            only: as for :meth:`add_trace`.

        Raises:
            ValueError: a layer has other decisions or neurons on the other side.
        """
        if layers is None:
            layers = [name for name in got.window if name != INPUT]
        batch, first = 0, self.first
        for name in layers:
            sums = self._layers.setdefault(name, _LayerSums(spike_distance=0))
            one = expected.window[name]
            other = _like(one, got.window[name], name, axes=1)
            unequal, compared = _unequal(one, other, _flags(only, name))
            batch = len(one)
            sums.compared += compared
            sums.different += int(unequal.sum())
            distance = int(np.abs(one - other)[unequal].sum())
            sums.spike_distance = (sums.spike_distance or 0) + distance
            if first is None and unequal.any():
                first = first_in_counts(one, other, unequal, name, decision=self.decisions)
        self.decisions += batch
        self.first = first

    def add_values(
        self,
        expected: NDArray[np.float64],
        got: NDArray[np.float64],
        legal_actions: tuple[int, ...],
        box: ActionBox | None = None,
        masks: Booleans | None = None,
    ) -> None:
        """Compare the values of all actions, and the best legal action.

        Args:
            expected, got: (batch, *shape of the readout).
            legal_actions: of the task; all where empty.
            box: of a task that takes numbers, which are compared in place of the best action.
            masks: (batch, legal actions) which of them the environment allowed; None: all.

        Raises:
            ValueError: other decisions or actions on the other side.
        """
        one = expected.reshape(len(expected), -1)
        other = _like(one, got.reshape(len(got), -1), "action values", axes=1)
        legal = legal_actions or tuple(range(one.shape[1]))
        self._values[0] += one.size
        self._values[1] += int((one != other).sum())
        if box is None:
            chosen = greedy_actions(one, legal, masks)
            self.add_actions(chosen, greedy_actions(other, legal, masks))
        else:
            self.add_actions(boxed_actions(one, box), boxed_actions(other, box), box)

    def add_actions(
        self, expected: NDArray[Any], got: NDArray[Any], box: ActionBox | None = None
    ) -> None:
        """Compare chosen actions, (batch,), or numbers of a box, (batch, numbers).

        Raises:
            ValueError: other decisions on the other side.
        """
        other = _like(expected, got, "actions", axes=1)
        self._actions[0] += len(expected)
        self._actions[1] += int(same_actions(expected, other, box).sum())

    def result(self) -> Agreement:
        """Return what was compared so far."""
        return Agreement(
            decisions=max(self.decisions, self._actions[0]),
            layers={
                name: LayerAgreement(sums.compared, sums.different, sums.spike_distance)
                for name, sums in self._layers.items()
            },
            first=self.first,
            values_compared=self._values[0],
            values_different=self._values[1],
            actions_compared=self._actions[0],
            actions_equal=self._actions[1],
        )


def compare_traces(
    expected: Decider,
    got: Decider,
    frames: NDArray[np.uint8],
    row: int,
    other_row: int | None = None,
    *,
    only: Mapping[str, Booleans] | None = None,
    progress: ProgressCallback = no_progress,
) -> Agreement:
    """Compare every spike and membrane of two chips, one decision after the other.

    Args:
        expected, got: backends that record traces, of networks with the same populations.
        frames: uint8 (decisions, *input shape), or (decisions, T, *input shape) of a series.
        row: of the task.
        other_row: of the task for `got`; the same where None.
        only: as for :meth:`Comparison.add_trace`.
        progress: receives the decisions compared so far.
    """
    comparison = Comparison()
    stage = f"{expected.name} against {got.name}"
    for number, frame in enumerate(frames):
        progress(Progress(stage, number, len(frames), "decisions"))
        one = expected.decide(frame[None], row, trace=True).trace
        two = got.decide(frame[None], row if other_row is None else other_row, trace=True).trace
        assert one is not None
        assert two is not None
        comparison.add_trace(one, two, only=only)
    progress(Progress(stage, len(frames), len(frames), "decisions"))
    return comparison.result()


def compare_activity(
    expected: Decider,
    got: Decider,
    frames: NDArray[np.uint8],
    row: int,
    legal_actions: tuple[int, ...],
    *,
    box: ActionBox | None = None,
    masks: Booleans | None = None,
    batch: int = BATCH,
    only: Mapping[str, Booleans] | None = None,
    progress: ProgressCallback = no_progress,
) -> Agreement:
    """Compare actions and spike counts of two backends, of which one may be a float network.

    Args:
        expected, got: backends whose populations have the same names.
        frames: uint8 (decisions, *input shape), or (decisions, T, *input shape) of a series.
        row: of the task.
        legal_actions: of the task; all where empty.
        box: of a task that takes numbers.
        masks: (decisions, legal actions) which of them the environment allowed; None: all.
        batch: decisions that are asked for at once.
        only: as for :meth:`Comparison.add_trace`.
        progress: receives the decisions compared so far.
    """
    comparison = Comparison()
    stage = f"{expected.name} against {got.name}"
    for start in range(0, len(frames), batch):
        progress(Progress(stage, start, len(frames), "decisions"))
        part = frames[start : start + batch]
        one, two = expected.decide(part, row), got.decide(part, row)
        allowed = None if masks is None else masks[start : start + batch]
        comparison.add_values(one.values, two.values, legal_actions, box, allowed)
        comparison.add_activity(one.activity, two.activity, only=only)
    progress(Progress(stage, len(frames), len(frames), "decisions"))
    return comparison.result()


def _pairs(
    expected: ChipTrace, layers: Sequence[str] | Mapping[str, str] | None
) -> Mapping[str, str]:
    if isinstance(layers, Mapping):
        return layers
    return {name: name for name in (expected.spikes if layers is None else layers)}


def _like(one: NDArray[Any], other: NDArray[Any], name: str, *, axes: int) -> NDArray[Any]:
    """Give `other` the shape of `one`; the first `axes` axes must be the same.

    Raises:
        ValueError: they are not, or there are more or fewer values.
    """
    if one.shape[:axes] != other.shape[:axes] or one.size != other.size:
        raise ValueError(f"{name}: shapes {one.shape} and {other.shape}")
    return other.reshape(one.shape)


def _flags(only: Mapping[str, Booleans] | None, name: str) -> Booleans | None:
    return None if only is None else only.get(name)


def _unequal(
    one: NDArray[Any], other: NDArray[Any], flags: Booleans | None
) -> tuple[NDArray[np.bool_], int]:
    """Return where two arrays (..., *shape of `flags`) differ, and how many values count."""
    unequal = one != other
    if flags is None:
        return unequal, one.size
    ahead = one.size // flags.size
    return (unequal.reshape(ahead, -1) & flags).reshape(one.shape), ahead * int(flags.sum())

"""Maxima of spikes as layers of neurons: which of the recorded ones are used, and of which step.

A maximum belongs to the step of the latest of its spikes, whenever it is computed. Those that do
the same to the same layers in different steps are one layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mtspark.convert.linear import LinearMap, same
from mtspark.convert.snntorch.calling import Recording
from mtspark.convert.snntorch.values import Form, PoolCall, Series

_Row = tuple[int, int, LinearMap]
"""Layer (-1: the input), steps from sending to arriving, and the map in between."""


def add_pools(recording: Recording, returned: Iterable[Any]) -> None:
    """Add a layer for every maximum of spikes that a layer of neurons or an output needs.

    Args:
        recording: its layers get these behind the others, those first that others need.
        returned: what the module's outputs are.

    Raises:
        BadNetworkError: the input of a layer is no sum of linear maps of signals.
    """
    pools = _Pools(recording)
    for layer in range(len(recording.layers)):
        for at in range(len(recording.layers[layer])):
            pools.follow(recording.drive(layer, at))
    for value in returned:
        for form in value.forms if isinstance(value, Series) else [value]:
            if isinstance(form, Form):
                pools.follow(form)
    for calls in recording.layers:
        calls.sort(key=lambda call: recording.place(call)[1] or 0)


class _Pools:
    """The layers of maxima that were found so far."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._rows: dict[int, list[_Row]] = {}
        self._seen: set[int] = set()

    def follow(self, form: Form) -> None:
        """Find the maxima that a form is made of."""
        for term in form.terms:
            call = term.source.call
            if isinstance(call, PoolCall) and id(call) not in self._seen:
                self._seen.add(id(call))
                self.follow(call.drive)
                self._place(call)

    def _place(self, call: PoolCall) -> None:
        recording = self._recording
        steps = [recording.step_of(term.source) for term in call.drive.terms]
        step = max((one for one in steps if one is not None), default=None)
        rows: list[_Row] = []
        for term, own in zip(call.drive.terms, steps, strict=True):
            source = term.source.call
            layer = -1 if source is None else recording.place(source)[0]
            rows.append((layer, 0 if own is None or step is None else step - own, term.linear))
        for layer, known in self._rows.items():
            first = recording.layers[layer][0]
            assert isinstance(first, PoolCall)
            if _alike(rows, known) and np.array_equal(first.threshold, call.threshold):
                if all(recording.place(other)[1] != step for other in recording.layers[layer]):
                    recording.layers[layer].append(call)
                recording.put(call, layer, step)
                return
        layer = len(recording.layers)
        self._rows[layer] = rows
        recording.layers.append([call])
        recording.put(call, layer, step)


def _alike(rows: list[_Row], others: list[_Row]) -> bool:
    return len(rows) == len(others) and all(
        one[:2] == other[:2] and same(one[2], other[2])
        for one, other in zip(rows, others, strict=True)
    )

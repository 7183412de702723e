"""How often each neuron and each value of the input is not zero, and how often it changes.

Networks without spikes that skip zeros, or work on changes only, are counted by these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import INPUT, ChipNetwork


class ShareCounter:
    """Decisions in which each source sent something, and in which it had another value.

    Args:
        network: that decides.
    """

    def __init__(self, network: ChipNetwork) -> None:
        self._network = network
        names = (INPUT, *(population.name for population in network.populations))
        self.nonzero = {name: np.zeros(network.shape_of(name), np.int64) for name in names}
        self.changed = {name: np.zeros(network.shape_of(name), np.int64) for name in names}
        self._last: dict[int, dict[str, NDArray[Any]]] = {}
        self._decisions = 0

    def add(
        self, window: Mapping[str, NDArray[Any]], frames: NDArray[Any], episodes: Integers | None
    ) -> None:
        """Count one decision of every member of a batch.

        Args:
            window: spikes by population within its window, (batch, *shape).
            frames: (batch, *input shape), or (batch, T, *input shape), what was decided on.
            episodes: (batch,) whose decisions they are; members of one episode follow each other.
                None: samples that have nothing to do with each other, so that each is all new.
        """
        given = self._network.input
        for name, sent in window.items():
            if name != INPUT:
                self.nonzero[name] += (sent != 0).sum(0)
        # Whatever the encoder sends of a frame; a series counts once if any slice has the value.
        slices = frames if given.held else (frames != 0).any(1)
        self.nonzero[INPUT] += (slices != 0).sum(0)
        values = {**window, INPUT: frames if given.payload_bits else frames != 0}
        self._decisions += len(frames)
        if episodes is None:
            for name, value in values.items():
                axes = value.ndim - self.changed[name].ndim
                self.changed[name] += (value != 0).any(axis=tuple(range(1, axes))).sum(0)
            return
        for member, episode in enumerate(episodes.tolist()):
            before = self._last.get(episode, {})
            now = {name: value[member].astype(np.uint16) for name, value in values.items()}
            for name, value in now.items():
                changed = value != before.get(name, 0)
                # A series has its steps on the first axis: a value that changed in one of them.
                extra = changed.ndim - self.changed[name].ndim
                self.changed[name] += changed.any(axis=tuple(range(extra)))
            self._last[episode] = now

    @property
    def decisions(self) -> int:
        """How many were counted."""
        return self._decisions

    def add_totals(
        self, decisions: int, nonzero: Mapping[str, Integers], changed: Mapping[str, Integers]
    ) -> None:
        """Add what another counter of the same network has counted, in other episodes.

        Args:
            decisions: how many it has counted.
            nonzero, changed: its counts by source, of its shape.
        """
        for name in self.nonzero:
            self.nonzero[name] += nonzero[name]
            self.changed[name] += changed[name]
        self._decisions += decisions

    @property
    def shares(self) -> dict[str, NDArray[np.float64]]:
        """Share of decisions in which each source sent something within its window."""
        return {name: count / max(self._decisions, 1) for name, count in self.nonzero.items()}

    @property
    def changed_shares(self) -> dict[str, NDArray[np.float64]]:
        """Share of decisions in which each source had another value than in the one before."""
        return {name: count / max(self._decisions, 1) for name, count in self.changed.items()}

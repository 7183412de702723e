"""Where spikes of float network and chip first differ, and whether rounding is what parts them.

A neuron whose float membrane equals its threshold, but for what float32 rounds, is at a tie, which
a comparison decides and no number of bits. One whose membranes lie on both sides of zero has lost a
sign. Both are told from rounding, and from what only follows a difference in a layer before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import STATE_SHIFT
from mtspark.core.arrays import Floats
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.float_network import FloatNetwork, FloatPopulation, FloatReset, run_float
from mtspark.sim.backends import ReferenceChip

DECISIONS, BATCH = 50, 5
"""Most decisions that are looked at, and at once."""

TIE = 1e-6
"""Relative distance of a membrane from its threshold that sums of float32 numbers explain."""

OTHER_SIDE = 0.1
"""A membrane this far beyond zero, in thresholds, has the other sign."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class FirstDifferences:
    """Neurons of a layer, by decision, whose spikes differ, by what their first difference is.

    Attributes:
        layer: its name.
        ties: the float membrane equals its threshold.
        signs: one membrane is above its threshold, the other well below zero.
        followed: a layer that it hears, or itself, differed before.
        rounding: anything else.
    """

    layer: str
    ties: int = 0
    signs: int = 0
    followed: int = 0
    rounding: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each."""
        return asdict(self)

    def __str__(self) -> str:
        """One sentence."""
        total = self.ties + self.signs + self.followed + self.rounding
        parts = [
            f"{count} {text}"
            for count, text in (
                (self.ties, "at a lost tie (the membrane equals the threshold)"),
                (self.signs, "by a lost sign (the membranes lie on both sides of zero)"),
                (self.rounding, "by rounding"),
                (self.followed, "after a difference in what they hear"),
            )
            if count
        ]
        return (
            f"{self.layer}: in {total} case{'s' if total > 1 else ''} a neuron's spikes differ "
            f"from the float network's, at first {', '.join(parts)}"
        )


def first_differences(
    network: FloatNetwork, chip: ChipNetwork, frames: NDArray[np.uint8], row: int
) -> tuple[FirstDifferences, ...]:
    """Classify the first differences of every layer; layers without any are left out.

    Args:
        network: float.
        chip: made of it.
        frames: uint8 (decisions, *input shape), or with a slice a step; the first ones are taken.
        row: task, as row of the thresholds.
    """
    totals: dict[str, Any] = {}
    reference = ReferenceChip(chip)
    for start in range(0, min(len(frames), DECISIONS), BATCH):
        some = frames[start : start + BATCH]
        payload = (some if chip.input.payload_bits else some != 0) * network.input.scale
        series = payload[:, None].repeat(chip.time_steps, 1) if chip.input.held else payload
        shape = (chip.time_steps, len(some), *network.input.shape)
        run = run_float(network, series.swapaxes(0, 1).reshape(shape).astype(np.float64), row)
        trace = reference.decide(some, row, trace=True).trace
        assert trace is not None
        differed: dict[str, Flags] = {}
        for population in network.populations:
            name = population.name
            if not population.spiking:
                continue
            lines = (chip.time_steps, len(some), -1)
            window = chip.window(name)
            fired = run.spikes[name].reshape(lines) > 0
            got = trace.spikes[name][window].reshape(lines).astype(bool)
            differs = fired != got
            heard = [differed[c.source] for c in network.incoming(name) if c.source in differed]
            follows = _ever(heard, differs.shape[:2])
            differed[name] = differs.any(2)
            place = np.nonzero(differs.any(0))
            first = (differs.argmax(0)[place], *place)
            if not first[0].size:
                continue
            thresholds = chip.population(name).thresholds[row].reshape(-1)[first[2]]
            counts = _classified(
                run.membranes[name].reshape(lines)[first],
                _threshold(population, row)[first[2]],
                trace.membranes[name][window].reshape(lines)[first] / (thresholds << STATE_SHIFT),
                got[first],
                follows[first[:2]],
                population.reset is FloatReset.SUBTRACT_GUARDED,
            )
            totals[name] = totals.get(name, 0) + counts
    return tuple(
        FirstDifferences(name, *(int(count) for count in counts)) for name, counts in totals.items()
    )


def _ever(heard: list[Flags], shape: tuple[int, ...]) -> Flags:
    """Whether any source has differed up to each step, (T, batch)."""
    ever = np.zeros(shape, bool)
    for one in heard:
        ever |= np.logical_or.accumulate(one, axis=0)
    return ever


def _threshold(population: FloatPopulation, row: int) -> Floats:
    assert population.thresholds is not None
    return population.thresholds[row].reshape(-1)


@np.errstate(invalid="ignore", divide="ignore")
def _classified(
    membranes: Floats,
    thresholds: Floats,
    on_chip: Floats,
    chip_fired: Flags,
    follows: Flags,
    guarded: bool,
) -> NDArray[np.int64]:
    """Ties, signs, followed and rounding; `on_chip` are membranes in thresholds."""
    size = np.where(np.isfinite(thresholds), np.abs(thresholds), 0.0)
    near = TIE * np.maximum(size, np.finfo(float).tiny)
    ties = np.abs(membranes - thresholds) <= near
    if guarded:
        ties |= np.abs(membranes - 2 * thresholds) <= near
    ties &= ~follows
    other = np.where(chip_fired, membranes / np.abs(thresholds), on_chip)
    signs = (other < -OTHER_SIDE) & ~follows & ~ties
    rest = ~(ties | signs | follows)
    return np.array([flags.sum() for flags in (ties, signs, follows, rest)])

"""Steps of which all numbers of a neuron are whole multiples: there quantisation loses nothing.

A neuron whose weights are multiples of a step g keeps them as integers if the largest is at most
127 g (at 8 bits). It may then use every k-fold refinement up to the end of the grid, and the
largest k that makes its thresholds and biases whole, too, is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import BIAS_LIMIT, STATE_SHIFT
from mtspark.core.arrays import Floats

NEAR = 2.0**-22
"""Relative distance from a whole number that float32 explains."""

PROBES = 16
"""The largest weights of a neuron, which rule most steps out before all are looked at."""

BLOCK_VALUES = 2**22
"""Weights that are looked at at once (32 MiB)."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ExactNeurons:
    """How many neurons of a population lost nothing on the way to integers.

    Attributes:
        population: its name.
        neurons: in it.
        exact: of them, those whose weights, biases, thresholds and decays are exact.
    """

    population: str
    neurons: int
    exact: int


@dataclass(frozen=True)
class LayerExactness:
    """Neurons of a population whose numbers all came out as they were.

    Attributes:
        population: its name.
        neurons: of its shape, True where weights, biases, thresholds and decays are exact.
    """

    population: str
    neurons: Flags

    def counted(self) -> ExactNeurons:
        """How many there are."""
        return ExactNeurons(self.population, int(self.neurons.size), int(self.neurons.sum()))


@np.errstate(invalid="ignore")
def is_whole(values: Floats) -> Flags:
    """Whether values are whole numbers, as far as float32 can tell; infinity is none."""
    return np.asarray(np.abs(values - np.rint(values)) <= NEAR * np.abs(values))


def common_steps(rows: Floats, levels: int) -> Floats:
    """The largest step of which every value of a row is a whole multiple; 0 where there is none.

    Args:
        rows: (n, values), each with a value other than 0.
        levels: the largest multiple of the grid; it has one more below 0.
    """
    block = max(1, BLOCK_VALUES // rows.shape[1])
    if len(rows) > block:
        parts = [
            common_steps(rows[start : start + block], levels)
            for start in range(0, len(rows), block)
        ]
        return np.concatenate(parts)
    top = np.abs(rows).max(1, keepdims=True)
    probes = rows
    if rows.shape[1] > PROBES:
        largest = np.argpartition(np.abs(rows), -PROBES, axis=1)[:, -PROBES:]
        probes = np.take_along_axis(rows, largest, axis=1)
    steps, left = np.zeros(len(rows)), np.arange(len(rows))
    for count in range(1, levels + 2):
        tried = left[is_whole(probes[left] * (count / top[left])).all(1)]
        if not tried.size:
            continue
        multiples = rows[tried] * (count / top[tried])
        fits = is_whole(multiples).all(1) & (np.rint(multiples).max(1) <= levels)
        steps[tried[fits]] = top[tried[fits], 0] / count
        left = left[steps[left] == 0]
        if not left.size:
            break
    return steps


@dataclass(frozen=True)
class Wanted:
    """What shall be whole beside the weights, in steps of each group; arrays are (groups, n).

    Attributes:
        largest: multiple of the step among the weights, (groups,), where that of a negative
            weight counts as the share of its own end of the grid.
        thresholds: that must be whole (0 where none must).
        biases: in every step.
        compared: thresholds are only compared, with sums of these numbers; where the sums are
            whole, any threshold tells the same ones apart.
        lowered: thresholds become one lower, which tells whole sums apart only; where biases
            are not whole, the chip compares with equality instead.
        only_lowered: it cannot (netx).
    """

    largest: Floats
    thresholds: Floats
    biases: Floats
    compared: bool = False
    lowered: bool = False
    only_lowered: bool = False

    def preferences(self) -> tuple[tuple[bool, bool], ...]:
        """What shall be whole, biases or thresholds, of which one will do; the best first.

        Where no refinement keeps a comparison, the weights may still be whole.
        """
        if not self.compared:
            return ((False, True),)
        if not self.lowered:
            return ((True, True), (False, False))
        if self.only_lowered:
            return ((True, False), (False, False))
        return ((True, False), (False, True), (False, False))


def refinements(
    wanted: Wanted,
    *,
    levels: int,
    grid: int,
    exponent: int,
    lost_bits: int,
    bias_exponents: Sequence[int],
) -> NDArray[np.int64]:
    """The largest k of each group that is exact under an exponent; 0 where none is.

    Args:
        wanted: of all groups; a largest multiple of 0 marks groups that have no step.
        levels: largest multiple on the grid of weights.
        grid: distance of two weights on it.
        exponent: of the population's sums.
        lost_bits: that the smallest exponent of a connection shifts out of a sum.
        bias_exponents: that biases may have; all groups share one.
    """
    preferences = wanted.preferences()
    best, most = np.zeros(len(wanted.largest), np.int64), [0] * len(preferences)
    wished = int(np.count_nonzero(wanted.largest))
    for bias_exponent in bias_exponents if wanted.biases.any() else bias_exponents[:1]:
        chosen, found = np.zeros(len(best), np.int64), []
        for by_bias, by_threshold in preferences:
            left = np.flatnonzero((wanted.largest > 0) & (chosen == 0))
            for k in range(levels, 0, -1):
                if not left.size:
                    break
                if k * grid % 2**lost_bits:
                    continue
                scale = k * grid * 2.0**exponent
                biases = wanted.biases[left] * scale
                counted = biases * 2.0 ** (STATE_SHIFT - bias_exponent)
                fits = (
                    (wanted.largest[left] * k <= levels * (1 + NEAR))
                    & is_whole(counted).all(1)
                    & (np.abs(counted).max(1, initial=0) <= BIAS_LIMIT)
                )
                if by_bias or by_threshold:
                    tells = np.zeros(len(left), bool)
                    if by_threshold:
                        tells |= is_whole(wanted.thresholds[left] * scale).all(1)
                    if by_bias:
                        tells |= is_whole(biases).all(1)
                    fits &= tells
                chosen[left[fits]] = k
                left = left[~fits]
            found.append(int(np.count_nonzero(chosen)))
        # As many exact neurons as can be, then as many as can do without comparing with equality.
        order = [*reversed(found[:-1]), found[-1]]
        if order > most:
            best, most = chosen, order
        if found[0] == wished:
            break
    return best

"""Lists of synapses in less than three bytes each.

The synapses of one source neuron are sorted by target lane. An entry holds the gap to the lane
before it in a few bits, the same number for all entries of a connection, and the weight in
eight; entries follow each other bit by bit. The largest gap that the bits could hold is no gap:
such an entry is no synapse and moves on by that number times its eight bits. The number of bits
is the one that makes the whole list shortest; it ends near the logarithm of the mean gap.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.sim.engine.layout import WEIGHT_BITS

LONGEST_GAP_BITS = 24
FARTHEST = 2**WEIGHT_BITS - 1
"""Times the largest gap that one entry moves on by."""

AT_ONCE = 2**16
"""Entries packed together; a multiple of 8, so that each batch ends with a byte."""


def encode(
    source: Integers, lane: Integers, weights: Integers, columns: int
) -> tuple[NDArray[np.uint8], Integers, int]:
    """Pack synapses.

    Args:
        source: source neuron of each synapse.
        lane: target lane of each, from 0; no two with the same source and lane.
        weights: of each, -128 to 255.
        columns: source neurons.

    Returns:
        The entries as bytes, lowest bits first; the entry with which each source neuron begins,
        (columns + 1,); bits of a gap.
    """
    order = np.lexsort((lane, source))
    source, lane, weights = source[order], lane[order], weights[order]
    before = np.concatenate([[0], lane[:-1]])
    first = np.concatenate([[True], source[1:] != source[:-1]])[: len(lane)]
    gaps = lane - np.where(first, 0, before[: len(lane)])
    bits = min(range(1, LONGEST_GAP_BITS + 1), key=lambda bits: _length(gaps, bits))
    none = 2**bits - 1
    moves = _moves(gaps, bits)
    place = np.cumsum(moves + 1) - 1  # of the synapse's own entry
    total = len(gaps) + int(moves.sum())
    entries = np.full(total, none | FARTHEST << bits, np.int64)
    # The last move before a synapse goes what the full ones leave.
    moved = np.flatnonzero(moves)
    rest = gaps[moved] // none - (moves[moved] - 1) * FARTHEST
    entries[place[moved] - 1] = none | rest << bits
    entries[place] = gaps % none | (weights & FARTHEST) << bits
    starts = np.concatenate([[0], np.cumsum(np.bincount(source, moves + 1, columns))])
    return _packed(entries, bits + WEIGHT_BITS), starts.astype(np.int64), bits


def _moves(gaps: Integers, bits: int) -> Integers:
    """Entries without synapse before each synapse."""
    return -(-(gaps // (2**bits - 1)) // FARTHEST)


def _length(gaps: Integers, bits: int) -> int:
    """Bits of the whole list."""
    return (len(gaps) + int(_moves(gaps, bits).sum())) * (bits + WEIGHT_BITS)


def _packed(entries: Integers, width: int) -> NDArray[np.uint8]:
    parts = [np.zeros(0, np.uint8)]
    for start in range(0, len(entries), AT_ONCE):
        some = entries[start : start + AT_ONCE, None] >> np.arange(width) & 1
        parts.append(np.packbits(some.astype(np.uint8), bitorder="little"))
    return np.concatenate(parts)

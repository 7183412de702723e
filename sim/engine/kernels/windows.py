"""Compiled loops of the engine: a convolution by its outputs, whose sums stay in registers.

Each output lists the messages in its window and adds their weights. A message is found anew by
every output that it reaches, but its weights meet sums that are neither loaded nor stored. Where
a window holds many messages, and a pixel few, that is cheaper than walking message by message.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtspark.sim.engine.kernels.vectors import (
    compiled,
    gather1,
    gather2,
    gather4,
    lowest_bit,
    nonzero64,
    set_bits,
)
from mtspark.sim.engine.layout import LANES


@compiled
def active(messages: Any, place: Any, left: Any) -> Any:
    """Bits of the next (at most 64) messages, of which only `left` belong to the caller."""
    word = nonzero64(messages, place)
    if left < 64:
        word &= (np.uint64(1) << np.uint64(left)) - np.uint64(1)
    return word


@compiled
def _list_bits(word: Any, first: Any, rows: Any, count: Any) -> Any:
    """Write where a word's bits are, from `first` on, behind `count` others; return how many."""
    total = count + set_bits(word)
    while count < total:
        # Four, whatever is left: how many bits a word has is what a processor guesses wrong.
        # Those too many are written over, or lie in the slack.
        rows[count] = first + lowest_bit(word)
        word &= word - np.uint64(1)
        rows[count + 1] = first + lowest_bit(word)
        word &= word - np.uint64(1)
        rows[count + 2] = first + lowest_bit(word)
        word &= word - np.uint64(1)
        rows[count + 3] = first + lowest_bit(word)
        word &= word - np.uint64(1)
        count += 4
    return total


@compiled
def conv_windows(
    row: Any, origin: Any, weights: Any, messages: Any, first: Any, sums: Any, rows: Any
) -> Any:
    """Binary messages, one group, no dilation along a row, channels without padding.

    A kernel row of a window is then one run of the source, and of the weights' rows.

    Args:
        row, origin, messages, first, sums: as in :mod:`mtspark.sim.engine.kernels.synapses`.
        weights: of the plan; those for dense products are read.
        rows: int32, room for all taps of a window.

    Returns:
        Synapses met.
    """
    channels, columns, height = origin.channels, origin.columns, origin.rows
    kernel_y, kernel_x, block, unsigned = row.kernel_y, row.kernel_x, row.block, row.unsigned
    base, target, met = row.dense_weights_first, row.sums_first, 0
    for out_y in range(row.out_rows):
        top = out_y * row.step_y - row.pad_y
        for out_x in range(row.out_columns):
            left = out_x * row.step_x - row.pad_x
            tap_first, tap_last = max(0, -left), min(kernel_x, columns - left)
            run = (tap_last - tap_first) * channels
            count = 0
            for tap_y in range(kernel_y):
                y = top + tap_y * row.reach_y
                if y < 0 or y >= height:
                    continue
                place = first + (y * columns + left + tap_first) * channels
                tap = (tap_y * kernel_x + tap_first) * channels
                for chunk in range(0, run, 64):
                    word = active(messages, place + chunk, run - chunk)
                    count = _list_bits(word, tap + chunk, rows, count)
            met += count
            lane = 0
            while lane + 4 * LANES <= block:
                at = base + lane
                gather4(sums, target + lane, weights, unsigned, at, block, rows, count)
                lane += 4 * LANES
            if lane + 2 * LANES <= block:
                at = base + lane
                gather2(sums, target + lane, weights, unsigned, at, block, rows, count)
                lane += 2 * LANES
            if lane < block:
                at = base + lane
                gather1(sums, target + lane, weights, unsigned, at, block, rows, count)
            target += row.out_stride
    return met * row.out_per_group

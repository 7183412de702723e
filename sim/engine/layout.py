"""The arrays that the engine's compiled loops read: their columns, types and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers

LANES = 16
"""Elements of a vector; channels are padded to multiples of it."""

PIXELS = 8
"""Output pixels of a convolution that a dense product computes together, one register each."""

SLACK = 128
"""Elements behind the last one that vectors may touch."""

WEIGHT_BITS = 8
"""Of a weight, in all layouts."""

# Columns of Plan.sources: input first, then the populations.
CHANNELS, ROWS, COLUMNS, STRIDE, SIZE, NEURONS, SENT, RING, SLOTS, DEPTH = range(10)
SOURCE_COLUMNS = 10
# Columns of Plan.neurons, one row a population; offsets count elements.
LANE, CURRENT, KEEP, KEEP_CURRENT, BIAS_SCALE, WIDE, LINK, LINKS, ARRIVING, READY = range(10)
RESET, OWN_KEEPS, KEEPS = range(10, 13)
NEURON_COLUMNS = 13
# Columns of Plan.links, sorted by target; G_* are offsets in Plan.geometry.
(ORIGIN, KIND, SUMS, WEIGHTS, UNSIGNED, SIGN, RIGHT, LEFT, DELAY, GRADED) = range(10)
(ROW, BLOCK, OUT_PER_GROUP, IN_PER_GROUP, GROUPS, KERNEL_Y, KERNEL_X) = range(10, 17)
(G_ROWS, G_COLUMNS, G_TAPS, DENSE_WEIGHTS, DENSE_COST, FAN_OUT, GAP_BITS) = range(17, 24)
(STEP_Y, STEP_X, PAD_Y, PAD_X, REACH_Y, REACH_X, OUT_ROWS, OUT_COLUMNS) = range(24, 32)
(OUT_STRIDE, NAME, RECURRENT, WINDOW_WORDS) = range(32, 36)
LINK_COLUMNS = 36
KIND_DENSE, KIND_CONV, KIND_SPARSE, KIND_LISTED = range(4)
# Column RESET of Plan.neurons.
RESET_ZERO, RESET_SUBTRACT, RESET_LATE, RESET_GUARDED, RESET_NONE = range(5)


class Plan(NamedTuple):
    """What compiled code reads; never written.

    Attributes:
        sources, neurons, links: int64 tables, columns above.
        thresholds: int32 (tasks, lanes), shifted; padding lanes can never be crossed.
        bias: int16 (lanes,) mantissas.
        keeps: uint16, of populations with decays a neuron: 4096 - dv of each lane, and then
            4096 - (du + 1).
        weights: of all connections, 8 bits each; a link tells whether they have a sign.
        geometry: int32, where the synapses of conv rows and columns and sparse columns begin.
    """

    sources: Integers
    neurons: Integers
    links: Integers
    thresholds: NDArray[np.int32]
    bias: NDArray[np.int16]
    keeps: NDArray[np.uint16]
    weights: NDArray[np.uint8]
    geometry: NDArray[np.int32]


@dataclass
class Sizes:
    """Elements of the arrays that go with a plan."""

    lanes: int = 0
    currents: int = 0
    wide_currents: int = 0
    sent: int = 0
    slots: int = 0
    sums: int = 0
    wide_sums: int = 0
    image: int = 0
    taps: int = 0
    window: int = 0


def aligned(shape: tuple[int, ...], kind: Any) -> Any:
    """Zeros whose address is a multiple of 64, so that no vector crosses a cache line."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(kind).reshape(shape)


def joined(parts: list[Any], kind: Any) -> Any:
    """One aligned array of all parts, with slack behind."""
    total = sum(part.size for part in parts)
    whole = aligned((total + SLACK,), kind)
    if parts:
        whole[:total] = np.concatenate(parts)
    return whole


def padded(count: int) -> int:
    """The next multiple of the vector length."""
    return -(-count // LANES) * LANES


def by_neuron(
    array: NDArray[Any], source: Integers, first: int, shape: tuple[int, ...]
) -> NDArray[Any]:
    """What belongs to the neurons of one source, in channel, row, column order.

    Args:
        array: (..., lanes), pixel by pixel with channels side by side.
        source: its row of Plan.sources.
        first: lane at which it begins.
        shape: of the source.

    Returns:
        (..., *shape).
    """
    pixels, stride = int(source[ROWS] * source[COLUMNS]), int(source[STRIDE])
    part = array[..., first : first + pixels * stride]
    mapped = part.reshape(*part.shape[:-1], pixels, stride)[..., : source[CHANNELS]]
    return mapped.swapaxes(-1, -2).reshape(*part.shape[:-1], *shape)

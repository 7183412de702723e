"""The arrays that the engine's compiled loops read: their columns, types and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.void]

LANES = 16
"""Elements of a vector; channels are padded to multiples of it."""

PIXELS = 8
"""Output pixels of a convolution that a dense product computes together, one register each."""

SLACK = 128
"""Elements behind the last one that vectors may touch."""

WEIGHT_BITS = 8
"""Of a weight, in all layouts."""


def _table(*columns: str) -> np.dtype[np.void]:
    """Rows of named 64-bit integers; compiled code reads a column as an attribute of its row."""
    return np.dtype([(column, np.int64) for column in columns], align=True)


SOURCE = _table(
    "channels",
    "rows",
    "columns",
    "stride",
    "lanes",
    "neurons",
    "sent_first",
    "ring",
    "slot_first",
    "depth",
)
"""Plan.sources: the input first, then the populations.

A feature map has `channels`, `rows` and `columns`; a vector has one row and one column. It takes
`stride` lanes a pixel and `lanes` in all, for `neurons`. Its last `ring` steps of spikes begin at
`sent_first` of State.sent, their numbers at `slot_first` of State.totals. Its window begins in
step `depth` of a decision.
"""

NEURON = _table(
    "lane_first",
    "current_first",
    "keep",
    "keep_current",
    "bias_scale",
    "wide",
    "link_first",
    "link_count",
    "arriving_first",
    "forgets_current",
    "reset",
    "at_threshold",
    "own_keeps",
    "keeps_first",
)
"""Plan.neurons: one row a population. Columns that end in `first` are offsets of elements.

Its membranes begin at `lane_first`. Where a current does not last (`forgets_current`), it is not
stored, otherwise it begins at `current_first`. States keep `keep` and `keep_current` of 4096 parts
a step, or where `own_keeps`, each neuron those at `keeps_first` of Plan.keeps. `wide` populations
need 64 bits. They fire above their threshold less `at_threshold`. The sums of several links are
added up at `arriving_first`.
"""

LINK = _table(
    "source",
    "number",
    "kind",
    "delay",
    "recurrent",
    "graded",
    "signed",
    "sums_first",
    "weights_first",
    "unsigned",
    "sign",
    "shift_right",
    "shift_left",
    "fan_out",
    "block",
    # Dense.
    "row_length",
    # Lists of synapses.
    "gap_bits",
    "geometry_lists",
    # Convolutions.
    "groups",
    "in_per_group",
    "out_per_group",
    "kernel_y",
    "kernel_x",
    "step_y",
    "step_x",
    "pad_y",
    "pad_x",
    "reach_y",
    "reach_x",
    "out_rows",
    "out_columns",
    "out_stride",
    "geometry_rows",
    "geometry_columns",
    "geometry_taps",
    "dense_weights_first",
    "dense_cost",
    "window_words",
)
"""Plan.links: connections, sorted by target.

`source` is a row of Plan.sources, `number` the place in the network's connections. Sums begin at
`sums_first` of Scratch.sums (or wide_sums of lists in 64 bits), weights at `weights_first` of
Plan.weights. A sum is negated where `sign` is -1 and kept where it is 0, then shifted. `fan_out`
is the (mean) number of synapses of a message, `block` the lanes of one row of weights. Columns
`geometry_*` are offsets in Plan.geometry, `reach_*` dilations. Dense products read weights of
their own, which begin at `dense_weights_first`; -1 where no product is exact. `window_words` is 0
where the messages of a window are not runs.
"""

KIND_DENSE, KIND_CONV, KIND_SPARSE, KIND_LISTED = range(4)
"""Column `kind` of a link. The last one is a list of synapses whose sums need 64 bits."""

RESET_ZERO, RESET_SUBTRACT, RESET_LATE, RESET_GUARDED, RESET_NONE = range(5)
"""Column `reset` of a population."""


class Plan(NamedTuple):
    """What compiled code reads; never written.

    Attributes:
        sources, neurons, links: rows of :data:`SOURCE`, :data:`NEURON` and :data:`LINK`.
        thresholds: int32 (tasks, lanes), shifted; padding lanes can never be crossed.
        bias: int16 (lanes,) mantissas.
        keeps: uint16, of populations with decays a neuron: 4096 - dv of each lane, and then
            4096 - (du + 1).
        weights: of all connections, 8 bits each; a link tells whether they have a sign.
        geometry: int32, where the synapses of conv rows and columns and sparse columns begin.
    """

    sources: Table
    neurons: Table
    links: Table
    thresholds: NDArray[np.int32]
    bias: NDArray[np.int16]
    keeps: NDArray[np.uint16]
    weights: NDArray[np.uint8]
    geometry: NDArray[np.int32]


class Request(NamedTuple):
    """What one call of compiled code is asked for; it travels as an array of int64.

    Attributes:
        first_member, end_member: of the batch; the last one is excluded.
        task: row of the thresholds.
        time_steps: T.
        first_step, end_step: of the decision, to run; the last one is excluded.
        clock: at step 0 of the decision.
        binary: messages of the input have no payload.
        held: the input is one frame, sent in each of the T steps.
        keep_sums: of a held frame, from step to step.
        path: of convolutions.
    """

    first_member: int
    end_member: int
    task: int
    time_steps: int
    first_step: int
    end_step: int
    clock: int
    binary: int
    held: int
    keep_sums: int
    path: int
    stateful: int


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


def by_neuron(array: NDArray[Any], source: Any, first: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """What belongs to the neurons of one source, in channel, row, column order.

    Args:
        array: (..., lanes), pixel by pixel with channels side by side.
        source: its row of Plan.sources.
        first: lane at which it begins.
        shape: of the source.

    Returns:
        (..., *shape).
    """
    pixels, stride = int(source["rows"] * source["columns"]), int(source["stride"])
    part = array[..., first : first + pixels * stride]
    mapped = part.reshape(*part.shape[:-1], pixels, stride)[..., : source["channels"]]
    return mapped.swapaxes(-1, -2).reshape(*part.shape[:-1], *shape)

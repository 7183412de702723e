"""The engine's memory: a chip network laid out as flat arrays for compiled loops.

Inside the engine a feature map lies pixel by pixel with its channels side by side, padded to
whole vectors, so that the synapses of one message are a few runs of neighbours. Weights stay
8-bit: mixed ones are even and stored as half, with one more in the exponent, which is exact
((2m) << e == m << (e + 1), and (2m) >> k == m >> (k - 1) for every k >= 1, both rounding
down); inhibitory ones are stored as magnitudes and their sum is negated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import DECAY_ONE, STATE_SHIFT
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    Population,
    SignMode,
)
from mtspark.deploy.bounds import MAX_PAYLOAD, worst_sum
from mtspark.sim.engine_geometry import listed_synapses, meetings, spread
from mtspark.sim.engine_vectors import LANES, PIXELS

Int = NDArray[np.int64]

SLACK = 128
"""Elements behind the last one that vectors may touch."""

LARGEST_SUM = 2**31 - 1
"""Sums that can exceed this are kept in 64 bits."""

EXACT_FLOAT = 2**24
"""float32 holds every integer up to here."""

# Columns of Plan.sources: input first, then the populations.
CHANNELS, ROWS, COLUMNS, STRIDE, SIZE, NEURONS, FIRST, SENT, RING, SLOTS, DEPTH = range(11)
SOURCE_COLUMNS = 11
# Columns of Plan.neurons, one row a population; offsets count elements.
LANE, CURRENT, KEEP, KEEP_CURRENT, BIAS_SCALE, WIDE, LINK, LINKS, ARRIVING, READY = range(10)
NEURON_COLUMNS = 10
# Columns of Plan.links, sorted by target; G_* are offsets in Plan.geometry.
(ORIGIN, KIND, SUMS, WEIGHTS, UNSIGNED, SIGN, RIGHT, LEFT, DELAY, GRADED) = range(10)
(ROW, BLOCK, OUT_PER_GROUP, IN_PER_GROUP, GROUPS, KERNEL_Y, KERNEL_X) = range(10, 17)
(G_ROWS, G_COLUMNS, G_TAPS, DENSE_WEIGHTS, DENSE_COST, FAN_OUT, INDEX, NARROW) = range(17, 25)
(STEP_Y, STEP_X, PAD_Y, PAD_X, REACH_Y, REACH_X, OUT_ROWS, OUT_COLUMNS) = range(25, 33)
(OUT_STRIDE, NAME) = range(33, 35)
LINK_COLUMNS = 35
KIND_DENSE, KIND_CONV, KIND_SPARSE, KIND_LISTED = range(4)


class Plan(NamedTuple):
    """What compiled code reads; never written.

    Attributes:
        sources, neurons, links: int64 tables, columns above.
        thresholds: int32 (tasks, lanes), shifted; padding lanes can never be crossed.
        bias: int16 (lanes,) mantissas.
        weights: of all connections, 8 bits each; a link tells whether they have a sign.
        geometry: int32, where the synapses of conv rows and columns and sparse columns begin.
        index16, index32: target lanes of sparse synapses.
    """

    sources: Int
    neurons: Int
    links: Int
    thresholds: NDArray[np.int32]
    bias: NDArray[np.int16]
    weights: NDArray[np.uint8]
    geometry: NDArray[np.int32]
    index16: NDArray[np.uint16]
    index32: NDArray[np.int32]


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
    neurons: int = 0


def aligned(shape: tuple[int, ...], kind: Any) -> Any:
    """Zeros whose address is a multiple of 64, so that no vector crosses a cache line."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(kind).reshape(shape)


def padded(count: int) -> int:
    """The next multiple of the vector length."""
    return -(-count // LANES) * LANES


class PlanBuilder:
    """Lays out one network; `plan`, `sizes` and the lane order are its results.

    Attributes:
        plan: arrays for compiled code.
        sizes: of the arrays that change while it runs.
        lanes: by population, the lane of each neuron in channel, row, column order.
    """

    def __init__(self, network: ChipNetwork) -> None:
        self.network = network
        self.sizes = Sizes()
        self.names = [INPUT, *(population.name for population in network.populations)]
        self.lanes: dict[str, Int] = {}
        self._weights: list[NDArray[np.uint8]] = []
        self._geometry: list[int] = []
        self._index16: list[Int] = []
        self._index32: list[Int] = []
        self.sources = np.zeros((len(self.names), SOURCE_COLUMNS), np.int64)
        for row, name in zip(self.sources, self.names, strict=True):
            self._lay_out(row, name)
        links: list[Int] = []
        neurons = np.zeros((len(network.populations), NEURON_COLUMNS), np.int64)
        for row, population in zip(neurons, network.populations, strict=True):
            self._neurons(row, population)
            row[LINK] = len(links)
            incoming = [link for link in network.connections if link.target == population.name]
            row[LINKS] = len(incoming)
            links += [self._link(link) for link in incoming]
            if row[LINKS] > 1 or row[WIDE]:
                row[ARRIVING] = self._sums(population.name, bool(row[WIDE]))
        lanes = self.sizes.lanes
        thresholds = aligned((len(network.tasks), lanes), np.int32)
        thresholds[:] = np.iinfo(np.int32).max
        bias = aligned((lanes,), np.int16)
        for row, population in zip(neurons, network.populations, strict=True):
            where = row[LANE] + self.lanes[population.name]
            values = population.thresholds.reshape(len(network.tasks), -1)
            thresholds[:, where] = values << STATE_SHIFT
            bias[where] = population.bias_mantissa.reshape(-1)
        self.plan = Plan(
            sources=self.sources,
            neurons=neurons,
            links=np.array(links, np.int64),
            thresholds=thresholds,
            bias=bias,
            weights=_joined(self._weights, np.uint8),
            geometry=np.array([*self._geometry, 0], np.int32),
            index16=_joined(self._index16, np.uint16),
            index32=_joined(self._index32, np.int32),
        )

    def _lay_out(self, row: Int, name: str) -> None:
        network, sizes = self.network, self.sizes
        shape = network.shape_of(name)
        channels, height, width = shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)
        stride = channels if name == INPUT else padded(channels)
        delays = [link.delay for link in network.connections if link.source == name]
        # The input of a decision is one frame; it has no ring of steps.
        ring = 1 if name == INPUT else 1 + max(delays, default=0)
        row[CHANNELS], row[ROWS], row[COLUMNS] = channels, height, width
        row[STRIDE], row[SIZE] = stride, stride * height * width
        row[NEURONS], row[FIRST] = channels * height * width, sizes.neurons
        row[RING], row[DEPTH] = ring, network.depths[name]
        row[SENT], row[SLOTS] = sizes.sent, sizes.slots
        sizes.neurons += int(row[NEURONS])
        channel, pixel = np.divmod(np.arange(row[NEURONS]), height * width)
        self.lanes[name] = pixel * stride + channel
        if name != INPUT:
            sizes.sent += int(row[SIZE]) * ring
            sizes.slots += ring

    def _neurons(self, row: Int, population: Population) -> None:
        sizes = self.sizes
        lanes = int(self.sources[self.names.index(population.name), SIZE])
        row[LANE] = sizes.lanes
        sizes.lanes += lanes
        row[KEEP] = DECAY_ONE - population.membrane_decay
        row[KEEP_CURRENT] = DECAY_ONE - (population.current_decay + 1)
        row[BIAS_SCALE] = 1 << population.bias_exponent
        row[WIDE] = not self._fits_32_bits(population)
        row[READY] = population.current_decay == DECAY_ONE - 1
        if not row[READY]:
            if row[WIDE]:
                row[CURRENT] = sizes.wide_currents
                sizes.wide_currents += lanes
            else:
                row[CURRENT] = sizes.currents
                sizes.currents += lanes

    def _fits_32_bits(self, population: Population) -> bool:
        """Proof, from the weights, that neither sums nor states of a population need 64 bits.

        With A the largest |sum| << 6: a current without memory is at most A after its wrap;
        one with memory stays within 2^23 if A <= 2^24, since the wrap takes 2^24 off. With
        A <= 2^30, membrane + current + bias stays below 2^31.
        """
        arriving = 0
        for link in self.network.connections:
            if link.target != population.name:
                continue
            largest = self._largest_sum(link)
            if largest > LARGEST_SUM:
                return False
            left, right = max(link.exponent, 0), max(-link.exponent, 0)
            arriving += (largest << left >> right) + 1
        limit = 2**30 if population.current_decay == DECAY_ONE - 1 else 2**24
        return arriving << STATE_SHIFT <= limit

    def _largest_sum(self, link: Connection) -> int:
        graded = link.source == INPUT and self.network.input.payload_bits > 0
        return int(worst_sum(link.weights, MAX_PAYLOAD if graded else 1).max(initial=0))

    def _sums(self, target: str, wide: bool) -> int:
        lanes = int(self.sources[self.names.index(target), SIZE])
        if wide:
            self.sizes.wide_sums += lanes
            return self.sizes.wide_sums - lanes
        self.sizes.sums += lanes
        return self.sizes.sums - lanes

    def _link(self, link: Connection) -> Int:
        row = np.zeros(LINK_COLUMNS, np.int64)
        mixed = link.sign_mode is SignMode.MIXED
        exponent = link.exponent + (1 if mixed else 0)
        row[ORIGIN] = self.names.index(link.source)
        row[NAME] = self.network.connections.index(link)
        listed = self._largest_sum(link) > LARGEST_SUM
        row[SUMS] = self._sums(link.target, listed)
        row[UNSIGNED] = not mixed
        row[SIGN] = -1 if link.sign_mode is SignMode.INHIBITORY else 0
        row[RIGHT], row[LEFT] = max(-exponent, 0), max(exponent, 0)
        row[DELAY] = link.delay
        row[GRADED] = link.source == INPUT and self.network.input.payload_bits > 0
        row[OUT_STRIDE] = self.sources[self.names.index(link.target), STRIDE]
        row[DENSE_WEIGHTS] = -1
        stored = link.weights // 2 if mixed else np.abs(link.weights)
        if listed:
            self._listed(row, link, stored)
        elif link.kind is ConnectionKind.CONV:
            self._conv(row, link, stored)
        elif link.kind is ConnectionKind.DENSE:
            self._dense(row, link, stored)
        else:
            self._sparse(row, link, stored)
        return row

    def _store(self, weights: Int) -> int:
        """Keep weights of -128..255 as bytes; returns where they begin."""
        start = sum(part.size for part in self._weights)
        flat = weights.astype(np.uint8).reshape(-1)
        # A multiple of 64, so that a vector of weights stays in one cache line.
        self._weights.append(np.concatenate([flat, np.zeros(-flat.size % 64, np.uint8)]))
        return start

    def _dense(self, row: Int, link: Connection, stored: Int) -> None:
        """One row of weights a source neuron, in the target's lanes."""
        lanes = int(self.sources[self.names.index(link.target), SIZE])
        rows = np.zeros((stored.shape[1], lanes), np.int64)
        rows[:, self.lanes[link.target]] = stored.T
        row[KIND], row[ROW], row[FAN_OUT] = KIND_DENSE, lanes, len(stored)
        row[WEIGHTS] = self._store(rows)

    def _listed(self, row: Int, link: Connection, stored: Int) -> None:
        """Any connection as a list of its synapses, zero weights included.

        For sums that need 64 bits: they need more than 33,000 graded synapses a neuron, so
        this path is kept plain.
        """
        ends = (self.network.shape_of(link.source), self.network.shape_of(link.target))
        source, target, weights = listed_synapses(link, stored, *ends)
        order = np.argsort(source, kind="stable")
        self._columns(row, link, source[order], target[order], weights[order], KIND_LISTED)

    def _sparse(self, row: Int, link: Connection, stored: Int) -> None:
        """Columns of nonzero weights, one a source neuron."""
        source, target = np.nonzero(link.weights.T)
        self._columns(row, link, source, target, stored.T[source, target], KIND_SPARSE)

    def _columns(
        self, row: Int, link: Connection, source: Int, target: Int, weights: Int, kind: int
    ) -> None:
        columns = int(np.prod(self.network.shape_of(link.source)))
        starts = np.searchsorted(source, np.arange(columns + 1))
        index = self.lanes[link.target][target]
        row[KIND], row[G_ROWS] = kind, len(self._geometry)
        row[NARROW] = kind == KIND_SPARSE and int(index.max(initial=0)) < 2**16
        pool = self._index16 if row[NARROW] else self._index32
        row[INDEX] = sum(part.size for part in pool)
        pool.append(index)
        self._geometry += starts.tolist()
        row[WEIGHTS] = self._store(weights)

    def _conv(self, row: Int, link: Connection, stored: Int) -> None:
        """Weights (input channel, kernel row, kernel column, output channels of its group).

        Kernel columns are sorted so that those which one input column meets in neighbouring
        outputs are neighbours too: by residue of the stride, descending. A message then adds
        one contiguous run a kernel row. Runs of grouped convolutions end in zero weights that
        may reach into the next group's lanes, where they change nothing.
        """
        source, target = (self.sources[self.names.index(n)] for n in (link.source, link.target))
        out_channels, per_group, height, width = stored.shape
        out = out_channels // link.groups
        block = int(target[STRIDE]) if link.groups == 1 else padded(out)
        row[KIND], row[BLOCK], row[GROUPS] = KIND_CONV, block, link.groups
        row[OUT_PER_GROUP], row[IN_PER_GROUP] = out, per_group
        row[KERNEL_Y], row[KERNEL_X] = height, width
        (row[STEP_Y], row[STEP_X]), (row[PAD_Y], row[PAD_X]) = link.stride, link.padding
        row[REACH_Y], row[REACH_X] = link.dilation
        row[OUT_ROWS], row[OUT_COLUMNS] = target[ROWS], target[COLUMNS]
        step, reach = link.stride[1], link.dilation[1]
        classes = step // reach if step % reach == 0 else 1
        order = sorted(range(width), key=lambda tap: (tap % classes, -tap))
        # (group, out, in, y, x) -> (group, in, y, x, out)
        grouped = stored.reshape(link.groups, out, per_group, height, width)
        laid = np.zeros((link.groups, per_group, height, width, block), np.int64)
        laid[..., :out] = grouped.transpose(0, 2, 3, 4, 1)[:, :, :, order]
        row[WEIGHTS] = self._store(laid)
        rows, _ = meetings(
            int(source[ROWS]), int(target[ROWS]), height, link.stride[0], link.padding[0],
            link.dilation[0], list(range(height)), join=False,
        )  # fmt: skip
        columns, taps = meetings(
            int(source[COLUMNS]), int(target[COLUMNS]), width, step, link.padding[1], reach,
            order, join=link.groups == 1,
        )  # fmt: skip
        row[G_ROWS] = self._place(rows)
        row[G_COLUMNS] = self._place(columns)
        row[G_TAPS] = len(self._geometry)
        self._geometry += taps
        met = sum(len(part) for part in rows) * sum(taps) * out
        pixels = int(source[ROWS] * source[COLUMNS])
        row[FAN_OUT] = max(1, met // pixels)
        if self._largest_sum(link) <= EXACT_FLOAT:
            # (group, y, x, in, out): the taps of one output, in the order of the image.
            row[DENSE_WEIGHTS] = self._store(spread(grouped.transpose(0, 3, 4, 2, 1), block))
            image = (source[ROWS] + 2 * link.padding[0]) * (source[COLUMNS] + 2 * link.padding[1])
            self.sizes.image = max(self.sizes.image, int(image * source[CHANNELS]))
            tiles = -(-int(target[ROWS] * target[COLUMNS]) // PIXELS) * PIXELS
            row[DENSE_COST] = tiles * height * width * per_group * link.groups * block

    def _place(self, parts: list[list[tuple[int, int, int]]]) -> int:
        """Store runs by row or column: where each begins, relative, then the runs."""
        start = len(self._geometry)
        position = start + len(parts) + 1
        for part in parts:
            self._geometry.append(position)
            position += 3 * len(part)
        self._geometry.append(position)
        self._geometry += [number for part in parts for run in part for number in run]
        return start


def _joined(parts: list[Any], kind: Any) -> Any:
    """One aligned array of all parts, with slack behind."""
    total = sum(part.size for part in parts)
    joined = aligned((total + SLACK,), kind)
    if parts:
        joined[:total] = np.concatenate(parts)
    return joined

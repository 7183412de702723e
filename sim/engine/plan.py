"""The engine's memory: a chip network laid out as flat arrays for compiled loops.

Inside the engine a feature map lies pixel by pixel with its channels side by side, so that the
synapses of one message are a few runs of neighbours; where a convolution writes, channels are
padded to whole vectors. Weights stay 8-bit: mixed ones are even and stored as half, with one
more in the exponent, which is exact ((2m) << e == m << (e + 1), and (2m) >> k == m >> (k - 1)
for every k >= 1, both rounding down); inhibitory ones are stored as magnitudes and their sum
is negated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import DECAY_ONE, STATE_SHIFT
from mtspark.core.arrays import Integers
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    Population,
    Reset,
    SignMode,
)
from mtspark.deploy.quantise import worst_sum
from mtspark.sim.engine import layout as at
from mtspark.sim.engine.geometry import listed_synapses, meetings, spread
from mtspark.sim.engine.layout import Plan, Sizes, aligned, joined, padded
from mtspark.sim.engine.sparse import encode

LARGEST_SUM = 2**31 - 1
"""Sums that can exceed this are kept in 64 bits."""

EXACT_FLOAT = 2**24
"""float32 holds every integer up to here."""

RESETS = {
    Reset.ZERO: at.RESET_ZERO,
    Reset.SUBTRACT: at.RESET_SUBTRACT,
    Reset.SUBTRACT_LATE: at.RESET_LATE,
    Reset.SUBTRACT_GUARDED: at.RESET_GUARDED,
    Reset.NONE: at.RESET_NONE,
}


class PlanBuilder:
    """Lays out one network; `plan` and `sizes` are its results.

    Attributes:
        plan: arrays for compiled code.
        sizes: of the arrays that change while it runs.
        names: of the sources, in the order of Plan.sources.
    """

    def __init__(self, network: ChipNetwork) -> None:
        self.network = network
        self.sizes = Sizes()
        self.names = [INPUT, *(population.name for population in network.populations)]
        self._weights: list[NDArray[np.uint8]] = []
        self._geometry: list[int] = []
        self._keeps: list[Integers] = []
        self.sources = np.zeros(len(self.names), at.SOURCE)
        for row, name in zip(self.sources, self.names, strict=True):
            self._lay_out(row, name)
        # Sums that hold what a frame causes stay; the others are all zero between populations,
        # which share them.
        self._held = [0, 0]
        incoming = {
            population.name: [
                link for link in network.connections if link.target == population.name
            ]
            for population in network.populations
        }
        held = [link for link in network.connections if link.source == INPUT]
        narrow = [self._size(link.target) for link in held if not self._is_listed(link)]
        wide = [self._size(link.target) for link in held if self._is_listed(link)]
        self._shared = [sum(narrow), sum(wide)]
        links, placed = np.zeros(len(network.connections), at.LINK), 0
        neurons = np.zeros(len(network.populations), at.NEURON)
        for row, population in zip(neurons, network.populations, strict=True):
            self._taken = [0, 0]
            self._neurons(row, population)
            row["link_first"], row["link_count"] = placed, len(incoming[population.name])
            for link in incoming[population.name]:
                self._link(links[placed], link)
                placed += 1
            if row["link_count"] > 1 or row["wide"]:
                row["arriving_first"] = self._sums(population.name, bool(row["wide"]), False)
        lanes = self.sizes.lanes
        thresholds = aligned((len(network.tasks), lanes), np.int32)
        thresholds[:] = np.iinfo(np.int32).max
        bias = aligned((lanes,), np.int16)
        for row, population in zip(neurons, network.populations, strict=True):
            where = row["lane_first"] + self._lanes(population.name)
            values = population.thresholds.reshape(len(network.tasks), -1)
            thresholds[:, where] = values << STATE_SHIFT
            bias[where] = population.bias_mantissa.reshape(-1)
        self.plan = Plan(
            sources=self.sources,
            neurons=neurons,
            links=links,
            thresholds=thresholds,
            bias=bias,
            keeps=joined(self._keeps, np.uint16),
            weights=joined(self._weights, np.uint8),
            geometry=np.array([*self._geometry, 0], np.int32),
        )
        del self._weights, self._geometry, self._keeps

    def _source(self, name: str) -> Any:
        return self.sources[self.names.index(name)]

    def _size(self, name: str) -> int:
        return int(self._source(name)["lanes"])

    def _lanes(self, name: str) -> Integers:
        """The lane of each neuron of a source, in channel, row, column order, from 0."""
        row = self._source(name)
        channel, pixel = np.divmod(np.arange(row["neurons"]), row["rows"] * row["columns"])
        return np.asarray(pixel * row["stride"] + channel)

    def _lay_out(self, row: Any, name: str) -> None:
        network, sizes = self.network, self.sizes
        shape = network.shape_of(name)
        channels, height, width = shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)
        convolved = any(link.target == name and link.kind.convolves for link in network.connections)
        stride = padded(channels) if convolved else channels
        size = stride * height * width
        row["channels"], row["rows"], row["columns"] = channels, height, width
        row["stride"], row["lanes"] = stride, size if name == INPUT else padded(size)
        row["neurons"] = channels * height * width
        row["depth"] = network.depths[name]
        row["ring"], row["sent_first"], row["slot_first"] = (
            self._ring(name),
            sizes.sent,
            sizes.slots,
        )
        if name != INPUT:
            sizes.sent += int(row["lanes"] * row["ring"])
            sizes.slots += int(row["ring"])

    def _ring(self, name: str) -> int:
        """Steps for which messages of a source are kept.

        In a step, targets read before their sources send, but those that close a loop after.
        """
        if name == INPUT:
            return 1
        steps = [
            1 + link.delay + link.recurrent
            for link in self.network.connections
            if link.source == name
        ]
        if self.network.population(name).reset is Reset.SUBTRACT_LATE:
            # Of the step before, in its window.
            steps.append(1 + (self.network.steps_per_decision if self.network.stateful else 1))
        return max([*steps, 1])

    def _neurons(self, row: Any, population: Population) -> None:
        sizes = self.sizes
        lanes = self._size(population.name)
        row["lane_first"] = sizes.lanes
        sizes.lanes += lanes
        keep = DECAY_ONE - np.asarray(population.membrane_decay)
        keep_current = DECAY_ONE - (np.asarray(population.current_decay) + 1)
        row["bias_scale"] = 1 << population.bias_exponent
        row["wide"] = not self._fits_32_bits(population)
        row["forgets_current"] = not keep_current.any()
        row["reset"] = RESETS[population.reset]
        row["at_threshold"] = population.fires_at_threshold
        row["own_keeps"] = keep.ndim or (keep_current.ndim and not row["forgets_current"])
        if row["own_keeps"]:
            row["keeps_first"] = sum(part.size for part in self._keeps)
            for values in (keep, keep_current):
                laid = np.zeros(lanes, np.int64)
                laid[self._lanes(population.name)] = np.broadcast_to(
                    values.reshape(-1), population.size
                )
                self._keeps.append(laid)
        else:
            row["keep"] = keep
            row["keep_current"] = keep_current.reshape(-1)[0]
        if not row["forgets_current"]:
            if row["wide"]:
                row["current_first"] = sizes.wide_currents
                sizes.wide_currents += lanes
            else:
                row["current_first"] = sizes.currents
                sizes.currents += lanes

    def _fits_32_bits(self, population: Population) -> bool:
        """Proof, from the weights, that neither sums nor states of a population need 64 bits.

        With A the largest |sum| << 6: a current without memory is at most A after its wrap;
        one with memory stays within 2^23 if A <= 2^24, since the wrap takes 2^24 off. With
        A <= 2^30, membrane + current + bias - threshold stays below 2^31.
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
        ready = bool(np.all(np.asarray(population.current_decay) == DECAY_ONE - 1))
        return arriving << STATE_SHIFT <= (2**30 if ready else 2**24)

    def _largest_sum(self, link: Connection) -> int:
        return int(worst_sum(link, self.network.input).max(initial=0))

    def _is_listed(self, link: Connection) -> bool:
        return self._largest_sum(link) > LARGEST_SUM

    def _sums(self, target: str, wide: bool, held: bool) -> int:
        """Room for sums of one lane each; what is not held is shared by all populations."""
        taken, lanes = self._held if held else self._taken, self._size(target)
        start = taken[wide] + (0 if held else self._shared[wide])
        taken[wide] += lanes
        if wide:
            self.sizes.wide_sums = max(self.sizes.wide_sums, start + lanes)
        else:
            self.sizes.sums = max(self.sizes.sums, start + lanes)
        return start

    def _link(self, row: Any, link: Connection) -> None:
        mixed = link.sign_mode is SignMode.MIXED
        exponent = link.exponent + (1 if mixed else 0)
        row["source"] = self.names.index(link.source)
        row["number"] = self.network.connections.index(link)
        listed = self._is_listed(link)
        row["sums_first"] = self._sums(link.target, listed, link.source == INPUT)
        row["unsigned"] = not mixed
        row["sign"] = -1 if link.sign_mode is SignMode.INHIBITORY else 0
        row["shift_right"], row["shift_left"] = max(-exponent, 0), max(exponent, 0)
        row["delay"], row["recurrent"] = link.delay, link.recurrent
        row["graded"] = link.source == INPUT and self.network.input.payload_bits > 0
        row["signed"] = link.source == INPUT and self.network.input.signed
        row["out_stride"] = self._source(link.target)["stride"]
        row["dense_weights_first"] = -1
        stored = link.weights // 2 if mixed else np.abs(link.weights)
        if listed:
            # Sums that need 64 bits need more than 33,000 graded synapses a neuron: such
            # connections, of any kind, are plain lists, with their zero weights.
            ends = (self.network.shape_of(link.source), self.network.shape_of(link.target))
            self._listed(row, link, *listed_synapses(link, stored, *ends))
            row["kind"] = at.KIND_LISTED
        elif link.kind.convolves:
            self._conv(row, link, stored)
        elif link.kind is ConnectionKind.DENSE:
            self._dense(row, link, stored)
        else:
            source, target = np.nonzero(link.weights.T)
            self._listed(row, link, source, target, stored.T[source, target])
            row["kind"] = at.KIND_SPARSE

    def _store(self, weights: NDArray[Any]) -> int:
        """Keep numbers of -128..255 as bytes; returns where they begin."""
        start = sum(part.size for part in self._weights)
        flat = weights.astype(np.uint8).reshape(-1)
        # A multiple of 64, so that a vector of weights stays in one cache line.
        self._weights.append(np.concatenate([flat, np.zeros(-flat.size % 64, np.uint8)]))
        return start

    def _dense(self, row: Any, link: Connection, stored: Integers) -> None:
        """One row of weights a source neuron, in the target's lanes.

        Rows have no padding at their end: what vectors read of the next row is added to
        padding lanes, whose neurons can never fire.
        """
        lanes = self._lanes(link.target)
        rows = np.zeros((stored.shape[1], int(lanes.max()) + 1), np.int64)
        rows[:, lanes] = stored.T
        row["kind"], row["row_length"], row["fan_out"] = at.KIND_DENSE, rows.shape[1], len(stored)
        row["block"] = self._size(link.target)
        row["weights_first"] = self._store(rows)

    def _listed(
        self, row: Any, link: Connection, source: Integers, target: Integers, weights: Integers
    ) -> None:
        """One list of synapses a source neuron."""
        columns = int(np.prod(self.network.shape_of(link.source)))
        lanes = self._lanes(link.target)[target]
        packed, starts, row["gap_bits"] = encode(source, lanes, weights, columns)
        row["geometry_lists"] = len(self._geometry)
        self._geometry += starts.tolist()
        row["weights_first"] = self._store(packed)

    def _conv(self, row: Any, link: Connection, stored: Integers) -> None:
        """Weights (input channel, kernel row, kernel column, output channels of its group).

        Kernel columns are sorted so that those which one input column meets in neighbouring
        outputs are neighbours too: by residue of the stride, descending. A message then adds
        one contiguous run a kernel row. Runs of grouped convolutions end in zero weights that
        may reach into the next group's lanes, where they change nothing.
        """
        source, target = self._source(link.source), self._source(link.target)
        out_channels, per_group, height, width = stored.shape
        out = out_channels // link.groups
        block = int(target["stride"]) if link.groups == 1 else padded(out)
        row["kind"], row["block"], row["groups"] = at.KIND_CONV, block, link.groups
        row["out_per_group"], row["in_per_group"] = out, per_group
        row["kernel_y"], row["kernel_x"] = height, width
        (row["step_y"], row["step_x"]), (row["pad_y"], row["pad_x"]) = link.stride, link.padding
        row["reach_y"], row["reach_x"] = link.dilation
        row["out_rows"], row["out_columns"] = target["rows"], target["columns"]
        step, reach = link.stride[1], link.dilation[1]
        classes = step // reach if step % reach == 0 else 1
        order = sorted(range(width), key=lambda tap: (tap % classes, -tap))
        # (group, out, in, y, x) -> (group, in, y, x, out)
        grouped = stored.reshape(link.groups, out, per_group, height, width)
        laid = np.zeros((link.groups, per_group, height, width, block), np.int64)
        laid[..., :out] = grouped.transpose(0, 2, 3, 4, 1)[:, :, :, order]
        row["weights_first"] = self._store(laid)
        rows, _ = meetings(
            int(source["rows"]), int(target["rows"]), height, link.stride[0], link.padding[0],
            link.dilation[0], list(range(height)), join=False,
        )  # fmt: skip
        columns, taps = meetings(
            int(source["columns"]), int(target["columns"]), width, step, link.padding[1], reach,
            order, join=link.groups == 1,
        )  # fmt: skip
        row["geometry_rows"] = self._place(rows)
        row["geometry_columns"] = self._place(columns)
        row["geometry_taps"] = len(self._geometry)
        self._geometry += taps
        met = sum(len(part) for part in rows) * sum(taps) * out
        pixels = int(source["rows"] * source["columns"])
        row["fan_out"] = max(1, met // pixels)
        if self._largest_sum(link) <= EXACT_FLOAT and not row["signed"]:
            # (group, y, x, in, out): the taps of one output, in the order of the image.
            row["dense_weights_first"] = self._store(
                spread(grouped.transpose(0, 3, 4, 2, 1), block)
            )
            image = (source["rows"] + 2 * link.padding[0]) * (
                source["columns"] + 2 * link.padding[1]
            )
            self.sizes.image = max(self.sizes.image, int(image * source["channels"]))
            line = int(source["columns"] * source["channels"])
            self.sizes.taps = max(self.sizes.taps, line)
            tiles = -(-int(target["rows"] * target["columns"]) // at.PIXELS) * at.PIXELS
            row["dense_cost"] = tiles * height * width * per_group * link.groups * block
            plain = link.groups == 1 and reach == 1 and not row["graded"]
            if plain and source["stride"] == source["channels"]:
                # Windows of neighbouring channels: see engine.kernels.windows.
                words = height * -(-width * per_group // 64)
                row["window_words"] = target["rows"] * target["columns"] * words
                self.sizes.window = max(self.sizes.window, height * width * per_group)

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

"""Compiled loops of the engine: a whole decision in one call, and the memory that it needs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtspark.core import arithmetic
from mtspark.sim.engine_neurons import fire_narrow, fire_wide
from mtspark.sim.engine_plan import (
    ARRIVING,
    BIAS_SCALE,
    CHANNELS,
    COLUMNS,
    CURRENT,
    DELAY,
    DEPTH,
    FIRST,
    KEEP,
    KEEP_CURRENT,
    KIND,
    KIND_LISTED,
    LANE,
    LEFT,
    LINK,
    LINKS,
    NAME,
    NEURONS,
    ORIGIN,
    READY,
    RIGHT,
    RING,
    ROWS,
    SENT,
    SIGN,
    SIZE,
    SLACK,
    SLOTS,
    STRIDE,
    SUMS,
    WIDE,
    Plan,
    Sizes,
    aligned,
)
from mtspark.sim.engine_synapses import deliver
from mtspark.sim.engine_vectors import LANES, PIXELS, compiled, lowest_bit, nonzero64

Int = NDArray[np.int64]
MOST_COUNTED = 255
"""Steps after which the 8-bit counters of spikes must be emptied."""


class State(NamedTuple):
    """What a batch of chips keeps between steps; one row a member.

    Attributes:
        membrane: int32 (batch, lanes).
        current: int32, of populations whose current lasts and is proven to fit.
        wide_current: int64, of the other ones.
        sent: uint8, the last steps' spikes as bytes, a ring of steps a population.
        totals: int64, how many of them there are in each step of each ring.
    """

    membrane: NDArray[np.int32]
    current: NDArray[np.int32]
    wide_current: Int
    sent: NDArray[np.uint8]
    totals: Int


class Scratch(NamedTuple):
    """Memory of one thread; the sums are all zero between steps, except for a held frame."""

    sums: NDArray[np.int32]
    wide_sums: Int
    counted: NDArray[np.uint8]
    frame: NDArray[np.uint8]
    image: NDArray[np.float32]
    tile: NDArray[np.float32]
    starts: Int
    chosen: Int
    met: Int


class Trace(NamedTuple):
    """Every step's spikes and membranes by lane, (steps, batch, lanes); or empty."""

    spikes: NDArray[np.uint8]
    membranes: NDArray[np.int32]


def new_state(sizes: Sizes, batch: int) -> State:
    """Chips at rest."""
    return State(
        membrane=aligned((batch, sizes.lanes), np.int32),
        current=aligned((batch, sizes.currents), np.int32),
        wide_current=aligned((batch, sizes.wide_currents), np.int64),
        sent=aligned((batch, -(-sizes.sent // 64) * 64 + SLACK), np.uint8),
        totals=np.zeros((batch, sizes.slots), np.int64),
    )


def new_scratch(sizes: Sizes, plan: Plan) -> Scratch:
    """Memory for one thread."""
    return Scratch(
        sums=aligned((sizes.sums + SLACK,), np.int32),
        wide_sums=aligned((sizes.wide_sums + SLACK,), np.int64),
        counted=aligned((sizes.lanes + SLACK,), np.uint8),
        frame=aligned((int(plan.sources[0, SIZE]) + SLACK,), np.uint8),
        image=aligned((sizes.image + SLACK,), np.float32),
        tile=aligned((PIXELS * LANES,), np.float32),
        starts=aligned((PIXELS,), np.int64),
        chosen=np.zeros(64, np.int64),
        met=np.zeros(len(plan.links), np.int64),
    )


@compiled
def _combine(sums: Any, arriving: Any, row: Any, clear: Any) -> Any:
    """Add one connection's shifted sums to what arrives at a population, and clear them."""
    for lane in range(len(arriving)):
        value = (np.int64(sums[lane]) ^ row[SIGN]) - row[SIGN]
        arriving[lane] += (value >> row[RIGHT]) << row[LEFT]
        if clear:
            sums[lane] = 0


@compiled
def _take_frame(frame: Any, origin: Any, binary: Any, steps: Any, bytes_: Any, sent: Any) -> Any:
    """Lay a frame out pixel by pixel, note its messages, and return how many there are."""
    pixels, channels, total = origin[ROWS] * origin[COLUMNS], origin[CHANNELS], 0
    for neuron in range(len(frame)):
        active = frame[neuron] != 0
        sent[neuron] = steps if active else 0
        total += active
    if channels == 4:
        # A stack of four frames, the common case: written so that LLVM interleaves vectors.
        one, two = frame[:pixels], frame[pixels : 2 * pixels]
        three, four = frame[2 * pixels : 3 * pixels], frame[3 * pixels :]
        for pixel in range(pixels):
            bytes_[4 * pixel] = one[pixel]
            bytes_[4 * pixel + 1] = two[pixel]
            bytes_[4 * pixel + 2] = three[pixel]
            bytes_[4 * pixel + 3] = four[pixel]
    else:
        for channel in range(channels):
            plane = frame[channel * pixels : (channel + 1) * pixels]
            for pixel in range(pixels):
                bytes_[pixel * channels + channel] = plane[pixel]
    if binary:
        for place in range(len(frame)):
            bytes_[place] = bytes_[place] != 0
    return total


@compiled
def _empty_counters(counted: Any, lane: Any, origin: Any, sent: Any) -> Any:
    """Move the 8-bit counters of a population to its totals in channel, row, column order."""
    pixels = origin[ROWS] * origin[COLUMNS]
    for pixel in range(pixels):
        for chunk in range(0, origin[STRIDE], 64):
            place = lane + pixel * origin[STRIDE] + chunk
            word = nonzero64(counted, place)
            if origin[STRIDE] - chunk < 64:
                word &= (np.uint64(1) << np.uint64(origin[STRIDE] - chunk)) - np.uint64(1)
            while word:
                bit = lowest_bit(word)
                word &= word - np.uint64(1)
                sent[(chunk + bit) * pixels + pixel] += counted[place + bit]
                counted[place + bit] = 0


@compiled
def _deliver_all(
    number: Any,
    step: Any,
    clock: Any,
    plan: Any,
    steps: Any,
    member_sent: Any,
    member_totals: Any,
    frame_total: Any,
    scratch: Any,
    options: Any,
    walked: Any,
) -> Any:
    """Everything that reaches population `number` in a step; tells what to do with the sums.

    Returns:
        Whether the sums that the neurons read must be cleared after them.
    """
    row = plan.neurons[number]
    size = plan.sources[number + 1, SIZE]
    clear = True
    for index in range(row[LINK], row[LINK] + row[LINKS]):
        link = plan.links[index]
        origin = plan.sources[link[ORIGIN]]
        framed = link[ORIGIN] == 0
        if framed:
            since = step - 1 - link[DELAY]
            arrives = 0 <= since < steps
            # The frame stays for all its steps: so may the sums that it causes.
            clear = not arrives or since == steps - 1 or options[0] == 0
            messages, first = scratch.frame, 0
            total = frame_total if arrives else 0
            walk = since == 0 or options[0] == 0
        else:
            slot = (clock + step - 1 - link[DELAY]) % origin[RING]
            messages, first = member_sent, origin[SENT] + slot * origin[SIZE]
            total = member_totals[origin[SLOTS] + slot]
            clear, walk = True, True
        if total:
            if walk:
                scratch.met[index] = deliver(
                    link, origin, plan, messages, first, total, scratch, options[1]
                )
            walked[link[NAME]] += scratch.met[index]
        if row[LINKS] == 1 and not row[WIDE]:
            return clear
        start, goal = link[SUMS], row[ARRIVING]
        sums, wide = scratch.sums, scratch.wide_sums
        if link[KIND] == KIND_LISTED:
            _combine(wide[start : start + size], wide[goal : goal + size], link, clear)
        elif row[WIDE]:
            _combine(sums[start : start + size], wide[goal : goal + size], link, clear)
        else:
            _combine(sums[start : start + size], sums[goal : goal + size], link, clear)
    return True


def _sources_digest() -> int:
    """A number that changes with whatever ends up in :func:`run` and numba does not look at."""
    files = [Path(arithmetic.__file__), *sorted(Path(__file__).parent.glob("engine*.py"))]
    checked = str(numba.config.BOUNDSCHECK).encode()
    digest = hashlib.sha256(b"".join([*(file.read_bytes() for file in files), checked])).digest()
    return int.from_bytes(digest[:7], "big")


def _make_run(version: int) -> Any:
    """Compiled code kept on disk; numba looks only at this file and at `version` for changes."""

    @njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
    def run(
        plan: Any,
        state: Any,
        scratch: Any,
        trace: Any,
        frames: Any,
        window: Any,
        drain: Any,
        walked: Any,
        request: Any,
        options: Any,
    ) -> None:
        """Run one decision of some members of a batch, step by step.

        Populations are taken from last to first, so that each reads what its sources sent one
        step earlier, before they send again.

        Args:
            plan, state, scratch: of network, batch and thread.
            trace: filled where it is not empty.
            frames: uint8 (batch, values).
            window, drain: int64 (batch, neurons of all sources), zero at first; receive messages
                sent within and outside of each source's own window.
            walked: int64 (batch, connections); receives the synapses met.
            request: first and last member, task, T, first and last step of the decision to run,
                clock at step 0, whether input is binary.
            options: whether sums of a frame are held, and the path of convolutions.
        """
        if version < 0:
            return
        first_member, last_member, task = request[0], request[1], request[2]
        steps, first_step, last_step, clock = request[3], request[4], request[5], request[6]
        origin = plan.sources[0]
        for member in range(first_member, last_member):
            frame_total = _take_frame(
                frames[member], origin, request[7], steps, scratch.frame,
                window[member, : origin[NEURONS]],
            )  # fmt: skip
            sent, totals = state.sent[member], state.totals[member]
            for step in range(first_step, last_step):
                for number in range(len(plan.neurons) - 1, -1, -1):
                    row, own = plan.neurons[number], plan.sources[number + 1]
                    lane, size, depth = row[LANE], own[SIZE], own[DEPTH]
                    membrane = state.membrane[member, lane : lane + size]
                    counted = scratch.counted[lane : lane + size]
                    if step == depth:
                        membrane[:] = 0
                        if not row[READY]:
                            if row[WIDE]:
                                state.wide_current[member, row[CURRENT] : row[CURRENT] + size] = 0
                            else:
                                state.current[member, row[CURRENT] : row[CURRENT] + size] = 0
                    since_emptied = step - depth if depth <= step < depth + steps else step
                    if step in (depth, depth + steps) or since_emptied % MOST_COUNTED == 0:
                        before = depth <= step - 1 < depth + steps
                        totals_of = window if before else drain
                        _empty_counters(
                            scratch.counted, lane, own,
                            totals_of[member, own[FIRST] : own[FIRST] + own[NEURONS]],
                        )  # fmt: skip
                    slot = (clock + step) % own[RING]
                    place = own[SENT] + slot * size
                    sending = sent[place : place + size]
                    clear = _deliver_all(
                        number, step, clock, plan, steps, sent, totals, frame_total, scratch,
                        options, walked[member],
                    )  # fmt: skip
                    if row[WIDE]:
                        fired = fire_wide(
                            scratch.wide_sums[row[ARRIVING] : row[ARRIVING] + size], membrane,
                            state.wide_current[member, row[CURRENT] :],
                            plan.thresholds[task, lane : lane + size],
                            plan.bias[lane : lane + size], sending, counted, row[KEEP],
                            row[KEEP_CURRENT], row[BIAS_SCALE],
                        )  # fmt: skip
                    else:
                        fired = fire_narrow(
                            number, plan, task, clear, scratch.sums, membrane,
                            state.current[member], sending, counted,
                        )  # fmt: skip
                    totals[own[SLOTS] + slot] = fired
                    if len(trace.spikes):
                        for offset in range(size):
                            trace.spikes[step - first_step, member, lane + offset] = sending[offset]
                            trace.membranes[step - first_step, member, lane + offset] = membrane[
                                offset
                            ]
            for number in range(len(plan.neurons)):
                own = plan.sources[number + 1]
                inside = own[DEPTH] <= last_step - 1 < own[DEPTH] + steps
                totals_of = window if inside else drain
                _empty_counters(
                    scratch.counted, plan.neurons[number, LANE], own,
                    totals_of[member, own[FIRST] : own[FIRST] + own[NEURONS]],
                )  # fmt: skip

    return run


run = _make_run(_sources_digest())
"""One decision of some members of a batch, in one call of compiled code."""

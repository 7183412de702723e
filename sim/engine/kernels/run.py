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
from mtspark.core.arrays import Integers
from mtspark.sim.engine.kernels.cache import keep_on_disk
from mtspark.sim.engine.kernels.neurons import fire_narrow, fire_wide
from mtspark.sim.engine.kernels.synapses import deliver
from mtspark.sim.engine.kernels.vectors import compiled
from mtspark.sim.engine.layout import (
    KIND_LISTED,
    LANES,
    PIXELS,
    SLACK,
    Plan,
    Request,
    Sizes,
    aligned,
)

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
    wide_current: Integers
    sent: NDArray[np.uint8]
    totals: Integers


class Scratch(NamedTuple):
    """Memory of one thread; the sums are all zero between steps, except for a held frame.

    Attributes:
        sums, wide_sums: what arrives, by lane.
        frame: the slice of the input that was laid out last, pixel by pixel.
        laid: which slice that is, and its messages.
        image, taps, tile, starts: of dense products.
        chosen: channels of one pixel.
        rows: messages in one window.
        met: by connection, synapses that were met when it was last walked.
    """

    sums: NDArray[np.int32]
    wide_sums: Integers
    frame: NDArray[np.uint8]
    laid: Integers
    image: NDArray[np.float32]
    taps: NDArray[np.int32]
    tile: NDArray[np.float32]
    starts: Integers
    chosen: Integers
    rows: NDArray[np.int32]
    met: Integers


class Record(NamedTuple):
    """What a run leaves behind.

    Attributes:
        spikes, membranes: every step's, by lane, (steps, batch, lanes); or empty.
        counted: uint8 (2, batch, lanes), spikes within and outside of each window.
        kept: uint32 likewise, spikes beyond what 8 bits can count; or empty.
        walked: int64 (batch, connections), the synapses met.
    """

    spikes: NDArray[np.uint8]
    membranes: NDArray[np.int32]
    counted: NDArray[np.uint8]
    kept: NDArray[np.uint32]
    walked: Integers


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
        frame=aligned((int(plan.sources[0]["lanes"]) + SLACK,), np.uint8),
        laid=np.zeros(2, np.int64),
        image=aligned((sizes.image + SLACK,), np.float32),
        taps=aligned((sizes.taps,), np.int32),
        tile=aligned((PIXELS * LANES,), np.float32),
        starts=aligned((PIXELS,), np.int64),
        chosen=np.zeros(64, np.int64),
        rows=aligned((sizes.window + SLACK,), np.int32),
        met=np.zeros(len(plan.links), np.int64),
    )


@compiled
def _combine(sums: Any, arriving: Any, row: Any, clear: Any) -> Any:
    """Add one connection's shifted sums to what arrives at a population, and clear them."""
    for lane in range(len(arriving)):
        value = (np.int64(sums[lane]) ^ row.sign) - row.sign
        arriving[lane] += (value >> row.shift_right) << row.shift_left
        if clear:
            sums[lane] = 0


@compiled
def _take_frame(frame: Any, origin: Any, binary: Any, bytes_: Any) -> Any:
    """Lay a frame out pixel by pixel and return how many messages it is."""
    pixels, channels, total = origin.rows * origin.columns, origin.channels, 0
    for value in range(len(frame)):
        total += frame[value] != 0
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
def _deliver_all(
    number: Any, step: Any, plan: Any, frames: Any, sent: Any, totals: Any, scratch: Any,
    walked: Any, request: Any,
) -> Any:  # fmt: skip
    """Everything that reaches population `number` in a step; tells what to do with the sums.

    Returns:
        Whether the sums that the neurons read must be cleared after them.
    """
    row = plan.neurons[number]
    size = plan.sources[number + 1].lanes
    steps, kept = request.time_steps, request.keep_sums
    clear = True
    for index in range(row.link_first, row.link_first + row.link_count):
        link = plan.links[index]
        origin = plan.sources[link.source]
        since = step - 1 - link.delay
        clear, walk, total = True, True, 0
        if link.source == 0:
            messages, first = scratch.frame, 0
            if 0 <= since < steps:
                piece = 0 if request.held else since
                if scratch.laid[0] != piece:
                    scratch.laid[0] = piece
                    scratch.laid[1] = _take_frame(
                        frames[piece], origin, request.binary, scratch.frame
                    )
                total = scratch.laid[1]
                if kept:
                    # The frame stays for all its steps: so do the sums that it causes.
                    walk = since == 0 or step == request.first_step
                    clear = since == steps - 1 or step == request.end_step - 1
        else:
            slot = (request.clock + since) % origin.ring
            messages, first = sent, origin.sent_first + slot * origin.lanes
            gated = link.recurrent and not request.stateful
            if not gated or 0 <= since - origin.depth < steps:
                total = totals[origin.slot_first + slot]
        if total:
            if walk:
                scratch.met[index] = deliver(
                    link, origin, plan, messages, first, total, scratch, request.path
                )
            walked[link.number] += scratch.met[index]
        if row.link_count == 1 and not row.wide:
            return clear
        if total == 0:
            continue
        start, goal = link.sums_first, row.arriving_first
        sums, wide = scratch.sums, scratch.wide_sums
        if link.kind == KIND_LISTED:
            _combine(wide[start : start + size], wide[goal : goal + size], link, clear)
        elif row.wide:
            _combine(sums[start : start + size], wide[goal : goal + size], link, clear)
        else:
            _combine(sums[start : start + size], sums[goal : goal + size], link, clear)
    return True


@compiled
def _note(
    step: Any, member: Any, lane: Any, sending: Any, membrane: Any, record: Any, request: Any
) -> Any:
    """Record spikes and membranes of a population after a step, where they are asked for."""
    if len(record.spikes):
        at = step - request.first_step
        for offset in range(len(membrane)):
            record.spikes[at, member, lane + offset] = sending[offset]
            record.membranes[at, member, lane + offset] = membrane[offset]


@compiled
def _step_population(
    number: Any, step: Any, plan: Any, state: Any, member: Any, scratch: Any, frames: Any,
    record: Any, request: Any,
) -> Any:  # fmt: skip
    """One step of one population: receive, integrate, fire."""
    row, own = plan.neurons[number], plan.sources[number + 1]
    sent, totals = state.sent[member], state.totals[member]
    lane, size, depth, ring = row.lane_first, own.lanes, own.depth, own.ring
    membrane = state.membrane[member, lane : lane + size]
    now = request.clock + step
    place = own.sent_first + now % ring * size
    sending = sent[place : place + size]
    if request.stateful and step != depth:
        sending[:] = 0
        totals[own.slot_first + now % ring] = 0
        _note(step, member, lane, sending, membrane, record, request)
        return
    if step == depth and not request.stateful:
        membrane[:] = 0
        if not row.forgets_current:
            if row.wide:
                state.wide_current[member, row.current_first : row.current_first + size] = 0
            else:
                state.current[member, row.current_first : row.current_first + size] = 0
    # The step of its window before this one.
    lag = request.stateful if request.stateful else 1
    earlier = own.sent_first + (now - lag) % ring * size
    before = sent[earlier : earlier + size]
    remembers = request.stateful != 0 or step != depth
    outside = 0 if depth <= step < depth + request.time_steps else 1
    counted = record.counted[outside, member, lane : lane + size]
    clear = _deliver_all(
        number, step, plan, frames, sent, totals, scratch, record.walked[member], request
    )
    if row.wide:
        goal = row.arriving_first
        fired = fire_wide(
            row, plan, request.task, scratch.wide_sums[goal : goal + size], membrane,
            state.wide_current[member, row.current_first :], sending, counted, before, remembers,
        )  # fmt: skip
    else:
        fired = fire_narrow(
            row, plan, request.task, scratch.sums, membrane, state.current[member], sending,
            counted, before, remembers, clear,
        )  # fmt: skip
    totals[own.slot_first + now % ring] = fired
    _note(step, member, lane, sending, membrane, record, request)


@compiled
def _keep_counts(record: Any, member: Any) -> Any:
    """Empty the 8-bit counters before they can overflow."""
    for outside in range(2):
        counted, kept = record.counted[outside, member], record.kept[outside, member]
        for lane in range(len(counted)):
            kept[lane] += np.uint32(counted[lane])
            counted[lane] = 0


ENGINE = Path(__file__).parents[1]
"""The package of the engine: any file of it may end up in compiled code."""


def sources_digest(engine: Path = ENGINE) -> int:
    """A number that changes with whatever ends up in :func:`run` and numba does not look at.

    Args:
        engine: folder of the engine's sources.
    """
    files = [Path(arithmetic.__file__), *sorted(engine.rglob("*.py"))]
    checked = str(numba.config.BOUNDSCHECK).encode()
    digest = hashlib.sha256(b"".join([*(file.read_bytes() for file in files), checked])).digest()
    return int.from_bytes(digest[:7], "big")


def _make_run(version: int) -> tuple[Any, bool]:
    """Compiled code, kept on disk where there is a folder for it, and whether it is kept.

    Numba looks only at this file and at `version` for changes.
    """

    def run(plan: Any, state: Any, scratch: Any, record: Any, frames: Any, asked: Any) -> None:
        """Run steps of one decision of some members of a batch, step by step.

        Populations are taken from last to first, so that each reads what its sources sent one
        step earlier, before they send again.

        Args:
            plan, state, scratch: of network, batch and thread.
            record: receives what happens.
            frames: uint8 (batch, slices, values); one slice where it is held.
            asked: int64, the values of a :class:`mtspark.sim.engine.layout.Request`.
        """
        if version < 0:
            return
        request = Request(
            asked[0], asked[1], asked[2], asked[3], asked[4], asked[5], asked[6], asked[7],
            asked[8], asked[9], asked[10], asked[11],
        )  # fmt: skip
        for member in range(request.first_member, request.end_member):
            scratch.laid[0] = -1
            for step in range(request.first_step, request.end_step):
                for number in range(len(plan.neurons) - 1, -1, -1):
                    _step_population(
                        number, step, plan, state, member, scratch, frames[member], record, request
                    )
                if (step - request.first_step + 1) % MOST_COUNTED == 0 and record.kept.size:
                    _keep_counts(record, member)

    compiled_run = njit(nogil=True, error_model="numpy", _nrt=False)(run)
    return compiled_run, not numba.config.DISABLE_JIT and keep_on_disk(compiled_run)


run, KEPT_ON_DISK = _make_run(sources_digest())
"""Some steps of one decision of some members of a batch, in one call of compiled code."""

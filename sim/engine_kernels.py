"""Compiled loops of the engine: neurons, and a whole decision in one call."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from mtspark.core import arithmetic
from mtspark.core.arithmetic import CURRENT_LIMIT, MEMBRANE_LIMIT, STATE_SHIFT
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
def _forget(value: Any, keep: Any) -> Any:
    return np.int32(0)


@compiled
def _hold(value: Any, keep: Any) -> Any:
    return value


@compiled
def _decay(value: Any, keep: Any) -> Any:
    """value * keep / 4096 rounded toward zero, in 32 bits for any |value| < 2^31.

    With |value| = 4096 h + l: h * keep + (l * keep >> 12), no bit of which is lost.
    """
    size = np.int32(-value if value < 0 else value)
    high = np.int32(np.int32(size >> 12) * keep)
    low = np.int32(np.int32(np.int32(size & 4095) * keep) >> 12)
    kept = np.int32(high + low)
    return np.int32(-kept if value < 0 else kept)


@compiled
def _wrapped(current: Any) -> Any:
    if current > CURRENT_LIMIT:
        current = np.int32(current - 2 * CURRENT_LIMIT)
    if current <= -CURRENT_LIMIT:
        current = np.int32(current + 2 * CURRENT_LIMIT)
    return current


def _make_fire(decay_membrane: Any) -> Any:
    """The fused update of neurons whose current does not last, all in 32 bits."""

    @compiled
    def fire(
        sums: Any,
        membrane: Any,
        threshold: Any,
        bias: Any,
        sent: Any,
        counted: Any,
        sign: Any,
        right: Any,
        scale: Any,
        keep: Any,
        bias_scale: Any,
        clear: Any,
    ) -> Any:
        total = np.int32(0)
        stay = np.int32(0 if clear else -1)
        for lane in range(len(membrane)):
            arriving = sums[lane]
            sums[lane] = np.int32(arriving & stay)
            arriving = np.int32(np.int32(arriving ^ sign) - sign)
            arriving = np.int32(np.int32(arriving >> np.int32(right & 31)) * scale)
            value = np.int32(decay_membrane(membrane[lane], keep) + _wrapped(arriving))
            value = np.int32(value + np.int32(np.int32(bias[lane]) * bias_scale))
            value = np.int32(min(max(value, -MEMBRANE_LIMIT), MEMBRANE_LIMIT))
            fired = value > threshold[lane]
            membrane[lane] = np.int32(0) if fired else value
            sent[lane] = fired
            counted[lane] += np.uint8(fired)
            total = np.int32(total + np.int32(fired))
        return total

    return fire


_fire_forget, _fire_hold, _fire_decay = (_make_fire(d) for d in (_forget, _hold, _decay))


@compiled
def _fire_lasting(
    sums: Any,
    membrane: Any,
    current: Any,
    threshold: Any,
    bias: Any,
    sent: Any,
    counted: Any,
    sign: Any,
    right: Any,
    scale: Any,
    keep: Any,
    keep_current: Any,
    bias_scale: Any,
    clear: Any,
) -> Any:
    """As :func:`_make_fire`, with a current that lasts."""
    total = np.int32(0)
    stay = np.int32(0 if clear else -1)
    for lane in range(len(membrane)):
        arriving = sums[lane]
        sums[lane] = np.int32(arriving & stay)
        arriving = np.int32(np.int32(arriving ^ sign) - sign)
        arriving = np.int32(np.int32(arriving >> np.int32(right & 31)) * scale)
        now = _wrapped(np.int32(_decay(current[lane], keep_current) + arriving))
        current[lane] = now
        value = np.int32(_decay(membrane[lane], keep) + now)
        value = np.int32(value + np.int32(np.int32(bias[lane]) * bias_scale))
        value = np.int32(min(max(value, -MEMBRANE_LIMIT), MEMBRANE_LIMIT))
        fired = value > threshold[lane]
        membrane[lane] = np.int32(0) if fired else value
        sent[lane] = fired
        counted[lane] += np.uint8(fired)
        total = np.int32(total + np.int32(fired))
    return total


@compiled
def _wide_decay(value: Any, keep: Any) -> Any:
    kept = (abs(value) * keep) >> 12
    return -kept if value < 0 else kept


@compiled
def _fire_wide(
    arriving: Any,
    membrane: Any,
    current: Any,
    threshold: Any,
    bias: Any,
    sent: Any,
    counted: Any,
    keep: Any,
    keep_current: Any,
    bias_scale: Any,
) -> Any:
    """The update in 64 bits, neuron by neuron, for weights that no 32-bit proof covers."""
    total = 0
    for lane in range(len(membrane)):
        now = arriving[lane] << STATE_SHIFT
        arriving[lane] = 0
        if keep_current:
            now += _wide_decay(current[lane], keep_current)
        if now > CURRENT_LIMIT:
            now -= 2 * CURRENT_LIMIT
        if now <= -CURRENT_LIMIT:
            now += 2 * CURRENT_LIMIT
        if keep_current:
            current[lane] = now
        value = _wide_decay(np.int64(membrane[lane]), keep) + now
        value += np.int64(bias[lane]) * bias_scale
        value = min(max(value, -MEMBRANE_LIMIT), MEMBRANE_LIMIT)
        fired = value > threshold[lane]
        membrane[lane] = 0 if fired else value
        sent[lane] = fired
        counted[lane] += np.uint8(fired)
        total += fired
    return total


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


@compiled
def _fire_narrow(
    number: Any, plan: Any, task: Any, clear: Any, sums: Any, membrane: Any, current: Any,
    sent: Any, counted: Any,
) -> Any:  # fmt: skip
    """Choose the loop for a population in 32 bits."""
    row = plan.neurons[number]
    size = len(membrane)
    lane = row[LANE]
    threshold = plan.thresholds[task, lane : lane + size]
    bias = plan.bias[lane : lane + size]
    link = plan.links[row[LINK]]
    single = row[LINKS] == 1
    sign = np.int32(link[SIGN] if single else 0)
    right = np.int32(link[RIGHT] if single else 0)
    scale = np.int32(1 << (STATE_SHIFT + (link[LEFT] if single else 0)))
    start = link[SUMS] if single else row[ARRIVING]
    arriving = sums[start : start + size]
    keep, bias_scale = np.int32(row[KEEP]), np.int32(row[BIAS_SCALE])
    if not row[READY]:
        return _fire_lasting(
            arriving, membrane, current[row[CURRENT] : row[CURRENT] + size], threshold, bias,
            sent, counted, sign, right, scale, keep, np.int32(row[KEEP_CURRENT]), bias_scale,
            clear,
        )  # fmt: skip
    if keep == 0:
        return _fire_forget(
            arriving, membrane, threshold, bias, sent, counted, sign, right, scale, keep,
            bias_scale, clear,
        )  # fmt: skip
    if keep == 4096:
        return _fire_hold(
            arriving, membrane, threshold, bias, sent, counted, sign, right, scale, keep,
            bias_scale, clear,
        )  # fmt: skip
    return _fire_decay(
        arriving, membrane, threshold, bias, sent, counted, sign, right, scale, keep,
        bias_scale, clear,
    )  # fmt: skip


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
                        fired = _fire_wide(
                            scratch.wide_sums[row[ARRIVING] : row[ARRIVING] + size], membrane,
                            state.wide_current[member, row[CURRENT] :],
                            plan.thresholds[task, lane : lane + size],
                            plan.bias[lane : lane + size], sending, counted, row[KEEP],
                            row[KEEP_CURRENT], row[BIAS_SCALE],
                        )  # fmt: skip
                    else:
                        fired = _fire_narrow(
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

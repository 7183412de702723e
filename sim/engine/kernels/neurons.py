"""Compiled loops of the engine: one step of the neurons of a population.

Plain loops over whole arrays, every operation cast to 32 bits, which LLVM turns into vectors
of 16. Each adds bias and arriving sums, fires, resets, and returns how many fired. The plain
ones, for currents that do not last, one decay for all and a reset to zero, do no more than
that takes; the others do everything that a chip network can ask for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtspark.core.arithmetic import CURRENT_LIMIT, MEMBRANE_LIMIT, STATE_SHIFT
from mtspark.sim.engine.kernels.vectors import compiled
from mtspark.sim.engine.layout import RESET_GUARDED, RESET_LATE, RESET_SUBTRACT, RESET_ZERO


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


@compiled
def _saturated(value: Any) -> Any:
    if value > MEMBRANE_LIMIT:
        value = np.int32(MEMBRANE_LIMIT)
    if value < -MEMBRANE_LIMIT:
        value = np.int32(-MEMBRANE_LIMIT)
    return value


def _make_plain(decay_membrane: Any) -> Any:
    """The fused update of plain neurons, all in 32 bits."""

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
            value = _saturated(value)
            fired = value > threshold[lane]
            membrane[lane] = np.int32(0) if fired else value
            sent[lane] = fired
            counted[lane] += np.uint8(fired)
            total = np.int32(total + np.int32(fired))
        return total

    return fire


_fire_forget, _fire_hold, _fire_decay = (_make_plain(d) for d in (_forget, _hold, _decay))


def _make_any(lasting: bool, own_keeps: bool) -> Any:
    """The update of neurons of any kind that fits 32 bits.

    Args:
        lasting: their currents last.
        own_keeps: each has its own decays.
    """

    @compiled
    def fire(
        sums: Any,
        membrane: Any,
        current: Any,
        threshold: Any,
        bias: Any,
        sent: Any,
        counted: Any,
        before: Any,
        keeps: Any,
        current_keeps: Any,
        row: Any,
        sign: Any,
        right: Any,
        scale: Any,
        clear: Any,
        remembers: Any,
    ) -> Any:
        total = np.int32(0)
        stay = np.int32(0 if clear else -1)
        keep, keep_current = np.int32(row.keep), np.int32(row.keep_current)
        bias_scale, reset = np.int32(row.bias_scale), row.reset
        lower = np.int32(row.at_threshold)
        # Bits that let a term pass or make it zero, so that the loop has no branch.
        late = np.int32(-1 if reset == RESET_LATE and remembers else 0)
        guarded = np.int32(-1 if reset == RESET_GUARDED else 0)
        to_zero = np.int32(-1 if reset == RESET_ZERO else 0)
        subtract = np.int32(-1 if reset in (RESET_SUBTRACT, RESET_GUARDED) else 0)
        for lane in range(len(membrane)):
            arriving = sums[lane]
            sums[lane] = np.int32(arriving & stay)
            arriving = np.int32(np.int32(arriving ^ sign) - sign)
            now = np.int32(np.int32(arriving >> np.int32(right & 31)) * scale)
            if own_keeps:
                keep = np.int32(keeps[lane])
            if lasting:
                if own_keeps:
                    keep_current = np.int32(current_keeps[lane])
                now = _wrapped(np.int32(_decay(current[lane], keep_current) + now))
                current[lane] = now
            else:
                now = _wrapped(now)
            theta = threshold[lane]
            value = membrane[lane]
            quiet = np.int32(theta - lower)
            above = np.int32(theta if value > quiet else 0)
            again = np.int32(theta & np.int32(-np.int32(before[lane])))
            value = np.int32(_decay(value, keep) + now)
            value = np.int32(value + np.int32(np.int32(bias[lane]) * bias_scale))
            value = _saturated(np.int32(value - np.int32(again & late)))
            fired = value > np.int32(quiet + np.int32(above & guarded))
            lost = np.int32(np.int32(value & to_zero) + np.int32(theta & subtract))
            membrane[lane] = np.int32(value - lost) if fired else value
            sent[lane] = fired
            counted[lane] += np.uint8(fired)
            total = np.int32(total + np.int32(fired))
        return total

    return fire


_fire_ready, _fire_ready_own, _fire_lasting, _fire_lasting_own = (
    _make_any(lasting, own_keeps) for lasting in (False, True) for own_keeps in (False, True)
)


@compiled
def _wide_decay(value: Any, keep: Any) -> Any:
    kept = (abs(value) * keep) >> 12
    return -kept if value < 0 else kept


@compiled
def fire_wide(
    row: Any,
    plan: Any,
    task: Any,
    arriving: Any,
    membrane: Any,
    current: Any,
    sent: Any,
    counted: Any,
    before: Any,
    remembers: Any,
) -> Any:
    """The update in 64 bits, neuron by neuron, for weights that no 32-bit proof covers."""
    total = 0
    size, first, reset = len(membrane), row.lane_first, row.reset
    keep, keep_current = row.keep, row.keep_current
    for lane in range(size):
        if row.own_keeps:
            keep = np.int64(plan.keeps[row.keeps_first + lane])
            keep_current = np.int64(plan.keeps[row.keeps_first + size + lane])
        now = arriving[lane] << STATE_SHIFT
        arriving[lane] = 0
        if not row.forgets_current:
            now += _wide_decay(current[lane], keep_current)
        if now > CURRENT_LIMIT:
            now -= 2 * CURRENT_LIMIT
        if now <= -CURRENT_LIMIT:
            now += 2 * CURRENT_LIMIT
        if not row.forgets_current:
            current[lane] = now
        theta = np.int64(plan.thresholds[task, first + lane])
        quiet = theta - row.at_threshold
        above = theta if reset == RESET_GUARDED and membrane[lane] > quiet else 0
        value = _wide_decay(np.int64(membrane[lane]), keep) + now
        value += np.int64(plan.bias[first + lane]) * row.bias_scale
        if reset == RESET_LATE and remembers and before[lane]:
            value -= theta
        value = min(max(value, -MEMBRANE_LIMIT), MEMBRANE_LIMIT)
        fired = value > quiet + above
        if fired and reset == RESET_ZERO:
            value = 0
        elif fired and reset in (RESET_SUBTRACT, RESET_GUARDED):
            value -= theta
        membrane[lane] = value
        sent[lane] = fired
        counted[lane] += np.uint8(fired)
        total += fired
    return total


@compiled
def fire_narrow(
    row: Any,
    plan: Any,
    task: Any,
    sums: Any,
    membrane: Any,
    current: Any,
    sent: Any,
    counted: Any,
    before: Any,
    remembers: Any,
    clear: Any,
) -> Any:
    """Choose the loop for a population in 32 bits.

    Args:
        row, plan, task: of the population, the network, the thresholds.
        sums: of all connections.
        membrane, sent, counted: of the population; its spikes are written and counted.
        current: of all populations whose currents last.
        before: its spikes of the step before.
        remembers: whether these matter: not in the first step of its window.
        clear: whether the sums must be zero afterwards.
    """
    size, lane = len(membrane), row.lane_first
    threshold = plan.thresholds[task, lane : lane + size]
    bias = plan.bias[lane : lane + size]
    link = plan.links[row.link_first]
    single = row.link_count == 1
    sign = np.int32(link.sign if single else 0)
    right = np.int32(link.shift_right if single else 0)
    scale = np.int32(1 << (STATE_SHIFT + (link.shift_left if single else 0)))
    start = link.sums_first if single else row.arriving_first
    arriving = sums[start : start + size]
    plain = row.reset == RESET_ZERO and not row.at_threshold
    if row.forgets_current and plain and not row.own_keeps:
        keep, bias_scale = np.int32(row.keep), np.int32(row.bias_scale)
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
    keeps = plan.keeps[row.keeps_first : row.keeps_first + size]
    current_keeps = plan.keeps[row.keeps_first + size : row.keeps_first + 2 * size]
    own = current[row.current_first : row.current_first + size]
    if row.forgets_current and row.own_keeps:
        return _fire_ready_own(
            arriving, membrane, own, threshold, bias, sent, counted, before, keeps, current_keeps,
            row, sign, right, scale, clear, remembers,
        )  # fmt: skip
    if row.forgets_current:
        return _fire_ready(
            arriving, membrane, own, threshold, bias, sent, counted, before, keeps, current_keeps,
            row, sign, right, scale, clear, remembers,
        )  # fmt: skip
    if row.own_keeps:
        return _fire_lasting_own(
            arriving, membrane, own, threshold, bias, sent, counted, before, keeps, current_keeps,
            row, sign, right, scale, clear, remembers,
        )  # fmt: skip
    return _fire_lasting(
        arriving, membrane, own, threshold, bias, sent, counted, before, keeps, current_keeps,
        row, sign, right, scale, clear, remembers,
    )  # fmt: skip

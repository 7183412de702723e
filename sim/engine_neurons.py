"""Compiled loops of the engine: one step of the neurons of a population.

Plain loops over whole arrays, every operation cast to 32 bits, which LLVM turns into vectors
of 16. Each adds bias and arriving sums, fires, resets, and returns how many fired.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtspark.core.arithmetic import CURRENT_LIMIT, MEMBRANE_LIMIT, STATE_SHIFT
from mtspark.sim.engine_plan import (
    ARRIVING,
    BIAS_SCALE,
    CURRENT,
    KEEP,
    KEEP_CURRENT,
    LANE,
    LEFT,
    LINK,
    LINKS,
    READY,
    RIGHT,
    SIGN,
    SUMS,
)
from mtspark.sim.engine_vectors import compiled


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
            value = _saturated(value)
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
        value = _saturated(value)
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
def fire_wide(
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
def fire_narrow(
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

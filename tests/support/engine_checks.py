"""What tests of the engine share: wide networks, equality of two answers."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mtspark.core.backend import Decision
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from tests.support.networks import (
    BREAKOUT,
    PONG,
    conv,
    dense,
    layers,
    network,
    random_weights,
    sparse,
    sparse_conv,
)

PATHS = st.sampled_from(["automatic", "events", "windows", "product"])


@st.composite
def wide_networks(draw: st.DrawFn) -> ChipNetwork:
    """Two convolutions of many channels: whole vectors, ends of vectors, groups, skips."""
    tasks = draw(st.integers(1, 2))
    channels = draw(st.sampled_from([1, 3, 4, 17]))
    middle = draw(st.sampled_from([4, 16, 20, 70]))
    groups = draw(st.sampled_from([1, 2, middle]))
    out = groups * draw(st.sampled_from([1, 9, 16])) if groups <= 2 else middle
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    height, width = 8, 9

    def size(length: int, axis: int) -> int:
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        return (length + 2 * padding[axis] - reach) // stride[axis] + 1

    rows, columns = size(height, 0), size(width, 1)
    if rows < 1 or columns < 1:
        dilation, rows, columns = (1, 1), 0, 0
        rows, columns = size(height, 0), size(width, 1)
    first = draw(layers("first", (middle, height, width), tasks))
    second = draw(layers("second", (out, rows, columns), tasks))
    last = draw(layers("last", (18,), tasks))
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return network(
        (channels, height, width),
        [first, second, last],
        [
            conv(
                INPUT,
                "first",
                **draw(random_weights((middle, channels, 3, 3))),
                padding=(1, 1),
            ),
            conv(
                "first",
                "second",
                **draw(random_weights((out, middle // groups, *kernel))),
                **geometry,
            ),
            draw(st.sampled_from([dense, sparse]))(
                "second", "last", **draw(random_weights((18, second.size)))
            ),
            dense("first", "last", **draw(random_weights((18, first.size))), delay=1),
        ],
        payload_bits=draw(st.sampled_from([0, 8])),
        signed=draw(st.booleans()),
        time_steps=draw(st.integers(1, 3)),
        tasks=(PONG, BREAKOUT)[:tasks],
    )


@st.composite
def plain_convolutions(draw: st.DrawFn) -> ChipNetwork:
    """Two convolutions of binary messages without groups, whose windows are runs of neighbours.

    Windows of up to 240 messages a row, cut off on all sides by the padding.
    """
    channels, middle = draw(st.sampled_from([1, 2, 3, 16])), draw(st.sampled_from([16, 48]))
    out = draw(st.sampled_from([1, 16, 40, 112]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = (draw(st.integers(0, kernel[0] - 1)), draw(st.integers(0, kernel[1] + 1)))
    reach = draw(st.integers(1, 2 if kernel[0] < 4 else 1))
    rows = (6 + 2 * padding[0] - reach * (kernel[0] - 1) - 1) // stride[0] + 1
    columns = (7 + 2 * padding[1] - kernel[1]) // stride[1] + 1
    first = draw(layers("first", (middle, 6, 7), 1))
    second = draw(layers("second", (out, rows, columns), 1))
    geometry = {"stride": stride, "padding": padding, "dilation": (reach, 1)}
    taps = draw(random_weights((middle, channels, 3, 3)))
    return network(
        (channels, 6, 7),
        [first, second],
        [
            conv(INPUT, "first", **taps, padding=(1, 1)),
            draw(st.sampled_from([conv, sparse_conv]))(
                "first", "second", **draw(random_weights((out, middle, *kernel))), **geometry
            ),
        ],
        time_steps=draw(st.integers(1, 3)),
    )


def assert_same(found: Decision, expected: Decision) -> None:
    assert np.array_equal(found.values, expected.values)
    for name, messages in expected.activity.window.items():
        assert np.array_equal(found.activity.window[name], messages), name
        assert np.array_equal(found.activity.drain[name], expected.activity.drain[name]), name
    assert (found.trace is None) == (expected.trace is None)
    if found.trace is None or expected.trace is None:
        return
    assert list(found.trace.spikes) == list(expected.trace.spikes)
    for name, membranes in expected.trace.membranes.items():
        assert found.trace.membranes[name].dtype == membranes.dtype
        assert found.trace.spikes[name].dtype == np.bool_
        assert np.array_equal(found.trace.membranes[name], membranes), name
        assert np.array_equal(found.trace.spikes[name], expected.trace.spikes[name]), name

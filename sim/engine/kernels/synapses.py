"""Compiled loops of the engine: what one connection delivers in one step.

Each function adds weights times messages to `sums` and returns how many synapses the
messages met, counted as it walks them. `row` is a row of Plan.links, `origin` of
Plan.sources; messages are bytes, pixel by pixel, 0 where silent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtspark.sim.engine.kernels.vectors import (
    add1,
    add2,
    add4,
    add_scaled,
    compiled,
    load64,
    lowest_bit,
    product8,
)
from mtspark.sim.engine.kernels.windows import active, conv_windows
from mtspark.sim.engine.layout import KIND_CONV, KIND_DENSE, KIND_LISTED, LANES, PIXELS, WEIGHT_BITS

AUTOMATIC, EVENTS, WINDOWS, PRODUCT = range(4)
"""Paths of a convolution: the cheapest of the other three, message by message, output by output
over the messages in its window, or a dense product."""

PIXEL_WALKED, SENT_WALKED, SYNAPSE_WALKED, SYNAPSE_SCALED = 20_000, 1_000, 30, 100
WORD_READ, PIXEL_COPIED, SYNAPSE_MULTIPLIED = 4_900, 2_500, 13
"""Costs of the three paths in picoseconds, measured roughly; they change the choice, no number."""


@compiled
def _value(row: Any, message: Any) -> Any:
    """What a message stands for: signed ones lie in bytes as two's complements."""
    value = np.int64(message)
    if row.signed and value > 127:
        value -= 256
    return value


@compiled
def _cheapest(row: Any, origin: Any, sent: Any) -> Any:
    """Choose the path that costs least for `sent` messages.

    Messages of one pixel are walked together; of n messages over P pixels about
    n P / (n + P) stand in pixels of their own.
    """
    pixels = origin.rows * origin.columns
    a_synapse = SYNAPSE_SCALED if row.graded or row.groups > 1 else SYNAPSE_WALKED
    synapses = sent * row.fan_out
    path, cost = EVENTS, synapses * a_synapse + sent * SENT_WALKED
    cost += PIXEL_WALKED * (sent * pixels // (sent + pixels))
    windows = synapses * SYNAPSE_WALKED + row.window_words * WORD_READ
    if row.window_words and windows < cost:
        path, cost = WINDOWS, windows
    if cost > SYNAPSE_MULTIPLIED * row.dense_cost + PIXEL_COPIED * pixels:
        path = PRODUCT
    return path


@compiled
def deliver(
    row: Any,
    origin: Any,
    plan: Any,
    messages: Any,
    first: Any,
    sent: Any,
    scratch: Any,
    path: Any,
) -> Any:
    """Add what a connection delivers to its sums.

    Args:
        row, origin: of the connection and its source.
        plan: of the network.
        messages: uint8, those of the source begin at `first`.
        first: see above.
        sent: how many messages are not zero.
        scratch: memory of this thread, the sums among it.
        path: AUTOMATIC, EVENTS, WINDOWS or PRODUCT; EVENTS where that one is not possible.

    Returns:
        Synapses met, zero weights of dense and convolutional connections included.
    """
    weights, geometry, sums = plan.weights, plan.geometry, scratch.sums
    if row.kind == KIND_DENSE:
        return _dense(row, origin, weights, messages, first, sums)
    if row.kind == KIND_CONV:
        if path == AUTOMATIC:
            path = _cheapest(row, origin, sent)
        if path == PRODUCT and row.dense_weights_first >= 0:
            return _conv_product(row, origin, geometry, weights, messages, first, sums, scratch)
        if path == WINDOWS and row.window_words:
            return conv_windows(row, origin, weights, messages, first, sums, scratch.rows)
        return _conv_events(row, origin, geometry, weights, messages, first, sums, scratch.chosen)
    if row.kind == KIND_LISTED:
        return _walk_lists(row, origin, geometry, weights, messages, first, scratch.wide_sums)
    return _walk_lists(row, origin, geometry, weights, messages, first, sums)


@compiled
def _dense(row: Any, origin: Any, weights: Any, messages: Any, first: Any, sums: Any) -> Any:
    """Rows of weights, four at a time where messages are binary."""
    pixels, channels, stride = origin.rows * origin.columns, origin.channels, origin.stride
    target, base, length, unsigned = row.sums_first, row.weights_first, row.row_length, row.unsigned
    blocks, graded = row.block // LANES, row.graded
    waiting, w0, w1, w2, sent = 0, 0, 0, 0, 0
    for pixel in range(pixels):
        place = first + pixel * stride
        for chunk in range(0, channels, 64):
            word = active(messages, place + chunk, channels - chunk)
            while word:
                channel = chunk + lowest_bit(word)
                word &= word - np.uint64(1)
                at = base + (channel * pixels + pixel) * length
                sent += 1
                if graded:
                    message = _value(row, messages[place + channel])
                    add_scaled(sums, target, weights, unsigned, at, blocks, message)
                elif waiting == 3:
                    add4(sums, target, weights, unsigned, w0, w1, w2, at, blocks)
                    waiting = 0
                else:
                    w0, w1, w2 = w1, w2, at
                    waiting += 1
    if waiting == 3:
        add1(sums, target, weights, unsigned, w0, blocks)
    if waiting >= 2:
        add1(sums, target, weights, unsigned, w1, blocks)
    if waiting >= 1:
        add1(sums, target, weights, unsigned, w2, blocks)
    return sent * row.fan_out


@compiled
def _conv_events(
    row: Any,
    origin: Any,
    geometry: Any,
    weights: Any,
    messages: Any,
    first: Any,
    sums: Any,
    chosen: Any,
) -> Any:
    """For each pixel with messages, the runs of outputs that it reaches.

    Messages of one pixel reach the same outputs: up to four are added in one pass.
    """
    # Everything is read into locals once: the compiler cannot know that adding to the sums
    # changes no table.
    met, unsigned = 0, row.unsigned
    out_columns, out_stride, sums_first = row.out_columns, row.out_stride, row.sums_first
    block, out, kernel_x, tap_first = row.block, row.out_per_group, row.kernel_x, row.weights_first
    per_group, single = row.in_per_group, row.graded or row.groups > 1
    geometry_rows, geometry_columns = row.geometry_rows, row.geometry_columns
    columns, stride = origin.columns, origin.stride
    channel_step = row.kernel_y * kernel_x * block
    size = origin.lanes
    for start in range(0, size, 64):
        word = active(messages, first + start, size - start)
        while word:
            # All messages of one pixel within this word.
            lane = start + lowest_bit(word)
            pixel = np.int64(np.uint32(lane) // np.uint32(stride))
            y = np.int64(np.uint32(pixel) // np.uint32(columns))
            x = pixel - y * columns
            place = first + pixel * stride
            end = (pixel + 1) * stride - start
            here = word
            if end < 64:
                here &= (np.uint64(1) << np.uint64(end)) - np.uint64(1)
            word ^= here
            count = 0
            while here:
                chosen[count] = start + lowest_bit(here) - pixel * stride
                here &= here - np.uint64(1)
                count += 1
            column_first = geometry[geometry_columns + x]
            column_last = geometry[geometry_columns + x + 1]
            for vertical in range(geometry[geometry_rows + y], geometry[geometry_rows + y + 1], 3):
                line = sums_first + geometry[vertical] * out_columns * out_stride
                tap_row = tap_first + geometry[vertical + 1] * kernel_x * block
                for horizontal in range(column_first, column_last, 3):
                    target = line + geometry[horizontal] * out_stride
                    taps = tap_row + geometry[horizontal + 1] * block
                    length = geometry[horizontal + 2]
                    blocks = length * block // LANES
                    met += count * length * out
                    done = 0
                    if single:
                        for number in range(count):
                            channel = chosen[number]
                            lane = target + channel // per_group * out
                            at = taps + channel * channel_step
                            message = _value(row, messages[place + channel])
                            add_scaled(sums, lane, weights, unsigned, at, blocks, message)
                        continue
                    while done + 4 <= count:
                        w0 = taps + chosen[done] * channel_step
                        w1 = taps + chosen[done + 1] * channel_step
                        w2 = taps + chosen[done + 2] * channel_step
                        w3 = taps + chosen[done + 3] * channel_step
                        add4(sums, target, weights, unsigned, w0, w1, w2, w3, blocks)
                        done += 4
                    if done + 2 <= count:
                        w0 = taps + chosen[done] * channel_step
                        w1 = taps + chosen[done + 1] * channel_step
                        add2(sums, target, weights, unsigned, w0, w1, blocks)
                        done += 2
                    if done < count:
                        w0 = taps + chosen[done] * channel_step
                        add1(sums, target, weights, unsigned, w0, blocks)
    return met


@compiled
def _copied(messages: Any, image: Any, taps: Any) -> Any:
    """Copy bytes as floats, and return the sum of the taps of those that are not zero."""
    met = np.int32(0)
    for place in range(len(messages)):
        image[place] = messages[place]
        met = np.int32(met + np.int32(taps[place] if messages[place] else 0))
    return np.int64(met)


@compiled
def _conv_product(
    row: Any,
    origin: Any,
    geometry: Any,
    weights: Any,
    messages: Any,
    first: Any,
    sums: Any,
    scratch: Any,
) -> Any:
    """The whole convolution, eight output pixels at a time, and the events it stands for."""
    channels, pad_y, pad_x = origin.channels, row.pad_y, row.pad_x
    width = origin.columns + 2 * pad_x
    image, tile, starts = scratch.image, scratch.tile, scratch.starts
    if pad_y or pad_x:
        image[: (origin.rows + 2 * pad_y) * width * channels] = 0
    met = 0
    columns, stride = origin.columns, origin.stride
    # Without padding lanes a whole row of the map is one run.
    runs = 1 if stride == channels else columns
    run = columns * channels // runs
    # How many columns of outputs each message of a row meets, side by side for vectors.
    taps = scratch.taps[: columns * channels]
    for x in range(columns):
        taps[x * channels : (x + 1) * channels] = geometry[row.geometry_taps + x]
    for y in range(origin.rows):
        row_taps = (geometry[row.geometry_rows + y + 1] - geometry[row.geometry_rows + y]) // 3
        line = first + y * columns * stride
        weighted = 0
        at = ((y + pad_y) * width + pad_x) * channels
        for part in range(runs):
            origin_part = messages[line + part * stride : line + part * stride + run]
            image_part = image[at + part * channels : at + part * channels + run]
            weighted += _copied(origin_part, image_part, taps[part * run : (part + 1) * run])
        met += weighted * row_taps * row.out_per_group
    pixels = row.out_rows * row.out_columns
    kernel_x, per_group, block = row.kernel_x, row.in_per_group, row.block
    # Taps that follow each other in the image and in the weights are one product.
    joined = row.reach_x == 1 and row.groups == 1
    parts = 1 if joined else kernel_x
    length = kernel_x * channels if joined else per_group
    for leader in range(0, pixels, PIXELS):
        for pixel in range(PIXELS):
            y, x = divmod(min(leader + pixel, pixels - 1), row.out_columns)
            starts[pixel] = (y * row.step_y * width + x * row.step_x) * channels
        for group in range(row.groups):
            for lane in range(0, block, LANES):
                tile[:] = 0
                for tap_y in range(row.kernel_y):
                    for part in range(parts):
                        offset = tap_y * row.reach_y * width + part * row.reach_x
                        tap = (group * row.kernel_y + tap_y) * kernel_x + part
                        product8(
                            tile,
                            image,
                            starts,
                            offset * channels + group * per_group,
                            weights,
                            row.unsigned,
                            row.dense_weights_first + tap * per_group * block + lane,
                            block,
                            length,
                        )
                for pixel in range(min(PIXELS, pixels - leader)):
                    target = row.sums_first + (leader + pixel) * row.out_stride
                    target += group * row.out_per_group + lane
                    for channel in range(LANES):
                        sums[target + channel] += np.int32(tile[pixel * LANES + channel])
    return met


@compiled
def _walk_lists(
    row: Any, origin: Any, geometry: Any, entries: Any, messages: Any, first: Any, sums: Any
) -> Any:
    """Each message walks its own list of synapses, written by engine.sparse.encode."""
    pixels = origin.rows * origin.columns
    target, entry_first, signed = row.sums_first, row.weights_first, not row.unsigned
    gap_bits, width = np.uint64(row.gap_bits), row.gap_bits + WEIGHT_BITS
    none = (np.uint64(1) << gap_bits) - np.uint64(1)
    met = 0
    for pixel in range(pixels):
        place = first + pixel * origin.stride
        for chunk in range(0, origin.channels, 64):
            word = active(messages, place + chunk, origin.channels - chunk)
            while word:
                channel = chunk + lowest_bit(word)
                word &= word - np.uint64(1)
                column = row.geometry_lists + channel * pixels + pixel
                message = _value(row, messages[place + channel])
                lane = target
                for number in range(geometry[column], geometry[column + 1]):
                    bit = number * width
                    entry = load64(entries, entry_first + (bit >> 3)) >> np.uint64(bit & 7)
                    gap = entry & none
                    weight = np.int64((entry >> gap_bits) & np.uint64(2**WEIGHT_BITS - 1))
                    if gap == none:
                        lane += weight * np.int64(none)
                        continue
                    lane += np.int64(gap)
                    if signed and weight > 127:
                        weight -= 256
                    sums[lane] += weight * message
                    met += 1
    return met

"""Which synapses a message meets: by rows and columns for convolutions, or one by one."""

from __future__ import annotations

import numpy as np

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import Connection, ConnectionKind


def spread(weights: Integers, block: int) -> Integers:
    """Pad the last axis with zeros to `block`."""
    laid = np.zeros((*weights.shape[:-1], block), np.int64)
    laid[..., : weights.shape[-1]] = weights
    return laid


def meetings(
    length: int,
    outputs: int,
    kernel: int,
    step: int,
    pad: int,
    reach: int,
    order: list[int],
    *,
    join: bool,
) -> tuple[list[list[tuple[int, int, int]]], list[int]]:
    """Which outputs and kernel taps each input position meets, along one axis.

    Args:
        length, outputs, kernel: positions of input, output and kernel.
        step, pad, reach: stride, padding and dilation.
        order: kernel taps in the order in which their weights are stored.
        join: merge meetings whose outputs and stored taps are both neighbours.

    Returns:
        By input position: runs (first output, first stored tap, count); and how many taps.
    """
    stored_at = {tap: place for place, tap in enumerate(order)}
    by_position: list[list[tuple[int, int, int]]] = []
    for position in range(length):
        runs: list[tuple[int, int, int]] = []
        for output in range(outputs):
            tap, rest = divmod(position + pad - output * step, reach)
            if rest or not 0 <= tap < kernel:
                continue
            place = stored_at[tap]
            if join and runs and (output, place) == (sum(runs[-1][::2]), sum(runs[-1][1:])):
                runs[-1] = (*runs[-1][:2], runs[-1][2] + 1)
            else:
                runs.append((output, place, 1))
        by_position.append(runs)
    return by_position, [sum(run[2] for run in runs) for runs in by_position]


def listed_synapses(
    link: Connection, weights: Integers, source: tuple[int, ...], target: tuple[int, ...]
) -> tuple[Integers, Integers, Integers]:
    """Every synapse of a connection.

    Args:
        link: the connection.
        weights: its weights as they are stored, of the same shape as link.weights.
        source, target: shapes of its ends.

    Returns:
        Source neuron, target neuron (in channel, row, column order) and weight of each.
    """
    if not link.kind.convolves:
        stored = np.ones_like(link.weights) if link.kind is ConnectionKind.DENSE else link.weights
        to, origin = np.nonzero(stored)
        return origin, to, weights[to, origin]
    out_channels, per_group, height, width = weights.shape
    rows, columns = (
        meetings(
            source[axis + 1], target[axis + 1], (height, width)[axis], link.stride[axis],
            link.padding[axis], link.dilation[axis], list(range((height, width)[axis])),
            join=False,
        )[0]
        for axis in (0, 1)
    )  # fmt: skip
    out, inner = np.divmod(np.arange(out_channels * per_group), per_group)
    channel = out // (out_channels // link.groups) * per_group + inner
    parts: list[tuple[Integers, Integers, Integers]] = []
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            for out_y, tap_y, _ in row:
                for out_x, tap_x, _ in column:
                    parts.append(
                        (
                            (channel * source[1] + y) * source[2] + x,
                            (out * target[1] + out_y) * target[2] + out_x,
                            weights[out, inner, tap_y, tap_x],
                        )
                    )
    origins, targets, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return origins, targets, values

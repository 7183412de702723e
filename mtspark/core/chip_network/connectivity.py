"""How many synapses the messages of a neuron meet."""

from __future__ import annotations

import numpy as np

from mtspark.core.arrays import Integers
from mtspark.core.chip_network.network import ChipNetwork, Connection
from mtspark.core.geometry import conv_geometry


def fan_out(link: Connection, source: tuple[int, ...]) -> tuple[Integers, Integers]:
    """Synapses that one message of each source neuron meets.

    Args:
        link: the connection.
        source: shape of the source.

    Returns:
        Structural (every synapse that is stored) and effective (those whose weight is not 0)
        fan-out, both int64 of shape `source`.
    """
    if not link.kind.convolves:
        effective = (link.weights != 0).sum(0).reshape(source).astype(np.int64)
        if not link.kind.stores_zeros:
            return effective, effective
        return np.full(source, len(link.weights), dtype=np.int64), effective
    geometry = conv_geometry(link, source, link.weights.shape)
    assert geometry is not None, "the network is checked"
    (pad_y, pad_x), (height, width) = geometry.padding, source[1:]
    per_group = geometry.filters_per_group
    padded = (source[0], height + 2 * pad_y, width + 2 * pad_x)
    structural, effective = np.zeros(padded, np.int64), np.zeros(padded, np.int64)
    # (input channel, kernel row, kernel column): nonzero weights over the filters of its group.
    by_group = (link.weights != 0).reshape(link.groups, per_group, *link.weights.shape[1:])
    nonzero = by_group.sum(1).reshape(source[0], *geometry.kernel)
    for row, column, part in geometry.taps():
        structural[(slice(None), *part)] += per_group
        effective[(slice(None), *part)] += nonzero[:, row, column][:, None, None]
    inner = (slice(None), slice(pad_y, pad_y + height), slice(pad_x, pad_x + width))
    if not link.kind.stores_zeros:
        return effective[inner], effective[inner]
    return structural[inner], effective[inner]


def fan_out_of(network: ChipNetwork, name: str) -> int:
    """Most synapses that one neuron of a population (or of the input) reaches."""
    shape = network.shape_of(name)
    reached = np.zeros(shape, np.int64)
    for link in network.connections:
        if link.source == name:
            reached += fan_out(link, shape)[0]
    return int(reached.max(initial=0))

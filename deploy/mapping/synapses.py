"""What a part of a population needs of the core that it is put on: synapses, axons, memory.

A part is given by its flat neuron indices (channel, row, column order) and, for images, by the
box that they fill. Everything about a connection into a part follows from one array: how many
synapses each source neuron's axon has there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import Connection, ConnectionKind, Population, SignMode
from mtspark.core.geometry import ConvGeometry, conv_geometry
from mtspark.deploy.chips import ChipModel, Encoding

Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Part:
    """Some neurons of one population (or of the input).

    Attributes:
        population: its name.
        neurons: flat indices, rising.
        box: (start, stop) of channels, rows and columns, for populations of that shape.
    """

    population: str
    neurons: Integers
    box: Box | None = None


def box_part(name: str, shape: tuple[int, ...], box: Box) -> Part:
    """The part of a population that fills a box of its shape."""
    axes = [np.arange(start, stop) for start, stop in box]
    return Part(name, np.ravel_multi_index(np.ix_(*axes), shape).reshape(-1), box)


def synapses_per_axon(
    link: Connection, source: tuple[int, ...], target: tuple[int, ...], part: Part
) -> Integers:
    """How many synapses each source neuron has on the part: int64 of shape (source neurons,)."""
    if link.kind is ConnectionKind.DENSE:
        return np.full(int(np.prod(source)), len(part.neurons), np.int64)
    if link.kind is ConnectionKind.SPARSE:
        return np.asarray((link.weights[part.neurons] != 0).sum(0), np.int64)
    box = part.box or _bounding_box(part, target)
    geometry = conv_geometry(link, source, link.weights.shape)
    assert geometry is not None, "the network is checked"
    rows, columns = (_meetings(geometry, axis, box[axis + 1]) for axis in (0, 1))
    by_tap = _synapses_per_tap(link, box[0])
    if link.kind.stores_zeros:
        # Every tap has all filters, so rows and columns count apart.
        met = rows.sum(0)[:, None] * columns.sum(0)
        return np.asarray(by_tap[:, :1, :1] * met, np.int64).reshape(-1)
    return np.asarray(rows.T @ (by_tap @ columns), np.int64).reshape(-1)


def synapse_bits(
    link: Connection,
    source: tuple[int, ...],
    target: tuple[int, ...],
    part: Part,
    chip: ChipModel,
) -> int:
    """Memory that the synapses of a connection into a part take on one core."""
    encoding = encoding_of(link, chip)
    bits = stored_weight_bits(link, chip) + int(link.delay).bit_length()
    if link.kind is ConnectionKind.DENSE:
        per_axon = axon_bits(len(part.neurons), bits, encoding)
        return int(np.prod(source)) * per_axon
    if link.kind.convolves and chip.shares_convolutions:
        # One axon for each tap of the kernel and input channel, with the filters of this core.
        synapses = _synapses_per_tap(link, (part.box or _bounding_box(part, target))[0])
    else:
        synapses = synapses_per_axon(link, source, target, part)
    sizes, counts = np.unique(synapses, return_counts=True)
    return sum(
        int(count) * axon_bits(int(size), bits, encoding)
        for size, count in zip(sizes, counts, strict=True)
    )


def in_axons(
    link: Connection, source: tuple[int, ...], target: tuple[int, ...], part: Part, chip: ChipModel
) -> int:
    """Axons that a connection needs at a part's core: one a source neuron that is heard.

    A shared convolution that has a synapse there needs one, which says where in the kernel a
    message falls.
    """
    if link.kind.convolves and chip.shares_convolutions:
        box = part.box or _bounding_box(part, target)
        return int(_synapses_per_tap(link, box[0]).any())
    return int(np.count_nonzero(synapses_per_axon(link, source, target, part)))


def axon_bits(synapses: int, bits: int, encoding: Encoding) -> int:
    """Memory of one axon's synapses, of `bits` weight and delay bits each."""
    if synapses == 0:
        return 0
    block = encoding.block_synapses or synapses
    whole, rest = divmod(synapses, block)
    sizes = [block] * min(whole, 1) + [rest] * (rest > 0)
    words = [
        -(-(size * (bits + encoding.index_bits) + encoding.header_bits) // encoding.word_bits)
        for size in sizes
    ]
    total = words[0] * whole + words[-1] * (rest > 0) if whole else words[0]
    return total * encoding.word_bits


def encoding_of(link: Connection, chip: ChipModel) -> Encoding:
    """How a chip stores a connection's synapses."""
    if not link.kind.stores_zeros:
        return chip.encodings["sparse"]
    shared = link.kind.convolves and chip.shares_convolutions
    return chip.encodings["convolution" if shared else "dense"]


def stored_weight_bits(link: Connection, chip: ChipModel) -> int:
    """Fewest bits that store the weights exactly.

    Weights that use only part of the range are stored larger by a power of two and the
    exponent is lowered by as much, as Lava's ``optimize_weight_bits`` does; the chip's
    smallest exponent bounds that.
    """
    mixed = link.sign_mode is SignMode.MIXED
    full = 9 if mixed else 8
    joined = int(np.bitwise_or.reduce(np.abs(link.weights), axis=None))
    if joined == 0:
        needed = 1
    else:
        zeros = (joined & -joined).bit_length() - 1
        low, high = int(link.weights.min()) >> zeros, int(link.weights.max()) >> zeros
        if mixed:
            needed = 1 + max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0)
        else:
            needed = max(high, -low).bit_length()
        lowest = chip.limit("smallest_weight_exponent")
        room = full if lowest is None else max(link.exponent - lowest, 0)
        needed = max(needed, full - zeros - room)
    needed = min(max(needed, 1), link.weight_bits)
    known = chip.limit("weight_bits") or range(1, 9)
    return min((bits for bits in known if bits >= needed), default=link.weight_bits)


def distinct_thresholds(population: Population, neurons: Integers) -> int:
    """Threshold registers that these neurons need: neurons that share one do so in all tasks."""
    profiles = population.thresholds.reshape(len(population.thresholds), -1)[:, neurons]
    return int(np.unique(profiles, axis=1).shape[1])


def compartment_configs(population: Population, neurons: Integers) -> int:
    """Distinct pairs of decays among these neurons."""
    if np.ndim(population.current_decay) == np.ndim(population.membrane_decay) == 0:
        return 1
    pairs = [
        np.broadcast_to(np.asarray(decay), population.shape).reshape(-1)[neurons]
        for decay in (population.current_decay, population.membrane_decay)
    ]
    return int(np.unique(np.stack(pairs), axis=1).shape[1])


def _bounding_box(part: Part, target: tuple[int, ...]) -> Box:
    axes = np.unravel_index(part.neurons, target)
    box = tuple((int(axis.min()), int(axis.max()) + 1) for axis in axes)
    assert np.prod([stop - start for start, stop in box]) == len(part.neurons), "part is no box"
    return box


def _synapses_per_tap(link: Connection, channels: tuple[int, int]) -> Integers:
    """Synapses of each input channel and kernel tap among the output channels [start, stop).

    Returns:
        int64 (input channels, kernel rows, kernel columns).
    """
    shape = link.weights.shape
    stored = np.ones(shape, bool) if link.kind.stores_zeros else link.weights != 0
    start, stop = channels
    stored[:start], stored[stop:] = False, False
    groups = stored.reshape(link.groups, shape[0] // link.groups, *shape[1:]).sum(1)
    return np.asarray(groups, np.int64).reshape(-1, *shape[2:])


def _meetings(geometry: ConvGeometry, axis: int, outputs: tuple[int, int]) -> Integers:
    """Along one axis: how many of a range of outputs meet each position with each tap.

    Returns:
        int64 (taps, positions).
    """
    length = geometry.input_shape[axis + 1]
    met = geometry.positions(axis)[slice(*outputs)]
    return np.stack(
        [np.bincount(one[(one >= 0) & (one < length)], minlength=length) for one in met.T]
    )

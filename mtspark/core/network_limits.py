"""What a network from a file may ask for: sizes that no array in the file bears out.

Weights and thresholds are in the file and bounded by it. The input's shape, paddings, strides
and the number of steps are only numbers there, and each could claim any amount of memory or time.
"""

from __future__ import annotations

from math import prod

from mtspark.core.chip_network import INPUT, ChipNetwork, Connection, ConnectionKind
from mtspark.core.errors import BadFileError
from mtspark.core.float_network import FloatConnection, FloatKind, FloatNetwork
from mtspark.core.limits import FileLimits, over


def check_network_limits(network: ChipNetwork, limits: FileLimits, where: str) -> None:
    """Check every declared size; needs no other rule of the network to hold.

    Raises:
        BadFileError: a size over a limit, or a name that cannot be shown.
    """
    if network.time_steps > limits.time_steps:
        raise over("time_steps", where, network.time_steps, limits)
    parts = len(network.populations) + len(network.connections)
    if parts > limits.objects:
        raise over("objects", where, parts, limits)
    names = [network.name, *(task.name for task in network.tasks)]
    names += [population.name for population in network.populations]
    names += [link.name for link in network.connections]
    for name in names:
        if len(name) > 2 * limits.name_length:
            raise over("name_length", f"{where}: a name", len(name), limits)
        if not name.isprintable():
            raise BadFileError(f"{where}: holds a name that cannot be printed")
    shapes = {INPUT: network.input.shape, **{p.name: p.shape for p in network.populations}}
    for name, shape in shapes.items():
        if prod(shape) > limits.neurons:
            raise over("neurons", f"{where}: {name}", prod(shape), limits)
    for link in network.connections:
        _check_geometry(link, shapes.get(link.source, ()), limits, where)


def check_float_limits(network: FloatNetwork, limits: FileLimits, where: str) -> None:
    """Check every declared size of a float network that was made of a file.

    Raises:
        BadFileError: a size over a limit.
    """
    longest = max([network.time_steps, *(link.delay for link in network.connections)])
    if longest > limits.time_steps:
        raise over("time_steps", where, longest, limits)
    parts = len(network.populations) + len(network.connections)
    if parts > limits.objects:
        raise over("objects", where, parts, limits)
    shapes = {INPUT: network.input.shape, **{p.name: p.shape for p in network.populations}}
    for name, shape in shapes.items():
        if prod(shape) > limits.neurons:
            raise over("neurons", f"{where}: {name}", prod(shape), limits)
    for link in network.connections:
        if link.kind is FloatKind.CONV:
            _check_geometry(link, link.input_shape, limits, where)


def _check_geometry(
    link: Connection | FloatConnection,
    source: tuple[int, ...],
    limits: FileLimits,
    where: str,
) -> None:
    what = f"{where}: connection {link.name}"
    largest = max(*map(abs, (*link.stride, *link.padding, *link.dilation, link.groups)))
    if largest > limits.neurons:
        raise over("neurons", f"{what}: a stride, padding or dilation of", largest, limits)
    convolves = link.kind in (ConnectionKind.CONV, FloatKind.CONV)
    if convolves and len(source) == 3 and min(link.padding) >= 0:
        rows, columns = (
            length + 2 * pad for length, pad in zip(source[1:], link.padding, strict=True)
        )
        if source[0] * rows * columns > limits.neurons:
            raise over("neurons", f"{what}: with its padding", source[0] * rows * columns, limits)

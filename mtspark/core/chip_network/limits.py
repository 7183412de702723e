"""What a network from a file may ask for: sizes that no array in the file bears out.

Weights and thresholds are in the file and bounded by it. The input's shape, paddings, strides
and the number of steps are only numbers there, and each could claim any amount of memory or time.
"""

from __future__ import annotations

from math import prod

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.errors import BadFileError
from mtspark.core.files import FileLimits, over
from mtspark.core.geometry import ConvParameters


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
        image = shapes.get(link.source, ()) if link.kind.convolves else ()
        check_geometry(link.name, link, image, limits, where)


def check_geometry(
    name: str,
    declared: ConvParameters,
    image: tuple[int, ...],
    limits: FileLimits,
    where: str,
) -> None:
    """Check what one connection declares.

    Args:
        name: of the connection.
        declared: how its kernel moves.
        image: (channels, height, width) that is convolved; anything else where nothing is.
        limits: of the file.
        where: names the file in errors.

    Raises:
        BadFileError: a size over a limit.
    """
    what = f"{where}: connection {name}"
    padding = declared.padding
    numbers = (*declared.stride, *padding, *declared.dilation, declared.groups)
    largest = max(*map(abs, numbers))
    if largest > limits.neurons:
        raise over("neurons", f"{what}: a stride, padding or dilation of", largest, limits)
    if len(image) == 3 and min(padding) >= 0:
        rows, columns = (length + 2 * pad for length, pad in zip(image[1:], padding, strict=True))
        if image[0] * rows * columns > limits.neurons:
            raise over("neurons", f"{what}: with its padding", image[0] * rows * columns, limits)

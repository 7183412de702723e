"""What a float network made of a file may ask for: sizes that no array in the file bears out."""

from __future__ import annotations

from math import prod

from mtspark.core.chip_network import INPUT, check_geometry
from mtspark.core.files import FileLimits, over
from mtspark.core.float_network.network import FloatKind, FloatNetwork


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
            check_geometry(link.name, link, link.input_shape, limits, where)

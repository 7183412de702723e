"""Which limits of a chip a network breaks under its mapping."""

from __future__ import annotations

from collections import deque
from weakref import ref

from mtspark.core.chip_network import ChipNetwork
from mtspark.deploy.chips import load_chip
from mtspark.deploy.mapping.mapper import map_network

_RECENT: deque[tuple[ref[ChipNetwork], str, list[str]]] = deque(maxlen=8)
"""Every price card asks for the limits of the same network; a mapping takes up to a second."""


def broken_limits(network: ChipNetwork, chip_name: str) -> list[str]:
    """Return one line for each limit of a chip that the network breaks under its mapping.

    Args:
        network: the network.
        chip_name: of a chip that ships with mtspark, a description's path, or "" for no chip.

    Raises:
        BadFileError: unknown chip or malformed description.
    """
    if not chip_name:
        return []
    for known, name, lines in _RECENT:
        if known() is network and name == chip_name:
            return list(lines)
    mapping = map_network(network, load_chip(chip_name), place=False)
    lines = [violation.text for violation in mapping.violations]
    _RECENT.append((ref(network), chip_name, lines))
    return list(lines)

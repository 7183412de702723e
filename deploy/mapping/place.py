"""Where on the mesh each core lies, so that messages travel short distances.

Messages go along rows and columns (dimension order), so a path is as long as the Manhattan
distance of its routers. Cores start in the order of their populations along a snake through
the mesh. Then the pair of cores whose swap shortens the paths most, weighted by messages, is
swapped until no swap shortens them.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Floats
from mtspark.deploy.chips import ChipModel, Mesh

Place = tuple[int, int, int, int]
"""Chip, column and row of the router, and place at the router."""

SWAPS_PER_CORE = 8
"""Most swaps for each place; far more than the meshes here need to settle."""


def placed_cores(traffic: Floats, chip: ChipModel, *, improve: bool) -> tuple[list[Place], int]:
    """Place all cores on the mesh.

    Args:
        traffic: messages from each core to each other, (cores, cores).
        chip: whose mesh it is. Chips stand side by side, so a path to another chip crosses
            the columns between.
        improve: swap cores; otherwise they stay along the snake.

    Returns:
        The place of each core, and the number of chips (also where more are needed than the
        chip's boards have).
    """
    cores = len(traffic)
    per_chip = chip.limit("cores_per_chip")
    chips = max(1, ceil(cores / per_chip))
    places = [(number, *place) for number in range(chips) for place in _snake(chip.mesh)[:per_chip]]
    order = np.arange(cores)
    if improve and cores > 1:
        order = _swapped(traffic + traffic.T, distances(places, chip.mesh))[:cores]
    return [places[index] for index in order], chips


def distances(places: list[Place], mesh: Mesh) -> Floats:
    """Hops between places: (places, places)."""
    columns = np.array([place[0] * mesh.columns + place[1] for place in places])
    rows = np.array([place[2] for place in places])
    return np.asarray(np.abs(columns[:, None] - columns) + np.abs(rows[:, None] - rows), np.float64)


def _snake(mesh: Mesh) -> list[tuple[int, int, int]]:
    """Every place of a mesh, column by column, up and down in turn."""
    places = []
    for column in range(mesh.columns):
        rows = range(mesh.rows) if column % 2 == 0 else range(mesh.rows - 1, -1, -1)
        places += [(column, row, at) for row in rows for at in range(mesh.cores_per_router)]
    return places


def _swapped(traffic: Floats, hops: Floats) -> NDArray[np.int64]:
    """The place of each core (empty places are cores without traffic) after the best swaps."""
    count = len(hops)
    flow = np.zeros((count, count))
    flow[: len(traffic), : len(traffic)] = traffic
    np.fill_diagonal(flow, 0)
    at = np.arange(count)
    hops_at = flow @ hops  # hops_at[i, p]: messages times hops of core i if it lay at place p
    for _ in range(SWAPS_PER_CORE * count):
        here = hops_at[np.arange(count), at]
        gain = hops_at[:, at] - here[:, None]
        gain = gain + gain.T + 2 * flow * hops[np.ix_(at, at)]
        best = int(gain[: len(traffic)].argmin())
        first, second = divmod(best, count)
        if gain[first, second] >= -1e-9:
            break
        old, new = at[first], at[second]
        change = hops[new] - hops[old]
        hops_at += np.outer(flow[:, first], change) - np.outer(flow[:, second], change)
        at[first], at[second] = new, old
    return at

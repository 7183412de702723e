"""Threshold palettes: few distinct thresholds for many neurons.

A core with N threshold registers holds N profiles. A profile is a row of thresholds, one for each
task. A palette is the set of at most N profiles that the neurons of one core share, in the terms
of vector quantisation their codebook: every neuron takes one of the profiles, and a task switch
rewrites N registers.

The palette minimises the sum of squared logarithmic errors, since a threshold that is 2 % too
high costs the same whatever its size. For one task the best palette is computed exactly (dynamic
programming over the sorted thresholds); for several tasks k-means searches it from 16 starts.

A whole population can share one palette, which holds on any division over cores, or each core of
a chip can have its own (:func:`palette_by_core`), which changes the thresholds less. In the
second case the neurons of a dense population are ordered by threshold, so that a core holds a
narrow range of them; images keep their boxes. No core is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mtspark.core.arithmetic import THRESHOLD_LIMIT
from mtspark.core.arrays import Floats, Integers
from mtspark.core.chip_network import ChipNetwork, Population
from mtspark.core.errors import BadRequestError
from mtspark.deploy.chips import ChipModel, load_chip
from mtspark.deploy.mapping import Divider

STARTS = 16
"""Random starts of k-means, with fixed seeds."""

MAX_POINTS = 2000
"""Largest number of distinct thresholds that is solved exactly (time grows with its square)."""


@dataclass(frozen=True)
class PaletteCost:
    """What a palette did to one population.

    Attributes:
        population: its name.
        cores: groups of neurons that have a palette of their own.
        before: largest number of profiles of a group without a palette.
        after: largest number with the palette.
        mean_error: mean relative error of a threshold, over neurons and tasks.
        largest_error: largest one.
    """

    population: str
    cores: int
    before: int
    after: int
    mean_error: float
    largest_error: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, a field each."""
        return asdict(self)


def with_palette(
    network: ChipNetwork,
    profiles: int,
    cores: Mapping[str, Sequence[Integers]] | None = None,
) -> tuple[ChipNetwork, list[PaletteCost]]:
    """Give every group of neurons a palette of its own.

    Args:
        network: a chip network; its readout, and whatever never fires, keeps its threshold.
        profiles: N, the largest number of profiles in a palette; 8 on Loihi 1.
        cores: by population name, the neurons (flat indices) of each of its cores; a population
            that is missing is one group.

    Returns:
        The network with other thresholds, and the cost for each population.

    Raises:
        BadRequestError: N below 1, or cores that do not hold every neuron once.
    """
    if profiles < 1:
        raise BadRequestError(f"palette of {profiles} profiles: at least 1 is needed")
    populations, costs = [], []
    for population in network.populations:
        groups = [np.arange(population.size)]
        if cores is not None and population.name in cores:
            groups = [np.asarray(group, np.int64) for group in cores[population.name]]
            held = np.sort(np.concatenate(groups))
            if not np.array_equal(held, np.arange(population.size)):
                raise BadRequestError(
                    f"population {population.name!r}: its cores do not hold each of its "
                    f"{population.size} neurons once"
                )
        changed, cost = _population_palette(population, profiles, groups)
        populations.append(changed)
        costs.append(cost)
    provenance = {**network.provenance, "palette": str(profiles)}
    return replace(network, populations=tuple(populations), provenance=provenance), costs


def choose_palette(
    network: ChipNetwork, profiles: int, chip: str | None = None
) -> tuple[ChipNetwork, list[PaletteCost]]:
    """Give each core of a chip a palette, or each whole population.

    Args:
        network: a chip network.
        profiles: N, the largest number of profiles in a palette.
        chip: name of a chip or path of its description; None for a palette a population.

    Returns:
        The network with other thresholds, and the cost for each population.

    Raises:
        BadRequestError: N below 1 or beyond the chip's registers.
        BadFileError: no such chip, or a malformed description.
    """
    if chip is None:
        return with_palette(network, profiles)
    return palette_by_core(network, load_chip(chip), profiles)


def palette_by_core(
    network: ChipNetwork, chip: ChipModel, profiles: int
) -> tuple[ChipNetwork, list[PaletteCost]]:
    """Give every core of a chip at most `profiles` distinct threshold profiles.

    Args:
        network: a chip network.
        chip: the populations are divided over as few of its cores as fit.
        profiles: N, at most the threshold registers of a core of this chip.

    Returns:
        The network with other thresholds, and the cost for each population.

    Raises:
        BadRequestError: N below 1 or beyond the chip's registers.
    """
    registers = chip.limit("thresholds_per_core")
    if registers is not None and profiles > registers:
        raise BadRequestError(
            f"a palette of {profiles} profiles on {chip.name}: a core holds {registers}; use "
            f"{registers} or fewer"
        )
    cores = {}
    for population in network.populations:
        divider = Divider(
            network, population.name, chip, spread_thresholds=False, sort_thresholds=True
        )
        parts = divider.fewest() or divider.by_neurons()
        cores[population.name] = [part.neurons for part in parts]
    return with_palette(network, profiles, cores)


def _population_palette(
    population: Population, profiles: int, groups: Sequence[Integers]
) -> tuple[Population, PaletteCost]:
    rows = population.thresholds.reshape(len(population.thresholds), -1)
    result = rows.copy()
    before = after = 0
    for group in groups:
        own = rows[:, group].T
        result[:, group] = cluster_profiles(own, profiles).T
        before = max(before, len(np.unique(own, axis=0)))
        after = max(after, len(np.unique(result[:, group], axis=1).T))
    errors = np.abs(result - rows) / np.maximum(rows, 1)
    return replace(population, thresholds=result.reshape(population.thresholds.shape)), PaletteCost(
        population=population.name,
        cores=len(groups),
        before=before,
        after=after,
        mean_error=float(errors.mean()),
        largest_error=float(errors.max()),
    )


def cluster_profiles(rows: Integers, profiles: int) -> Integers:
    """Replace every row (neuron, tasks) by one of at most `profiles` rows.

    A neuron that is off in every task (its threshold at the chip's largest) stays off, which
    takes a profile of its own, and none that fires becomes one that does not.
    """
    distinct, member, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    member = member.reshape(-1)
    if len(distinct) <= profiles:
        return rows
    off = (distinct == THRESHOLD_LIMIT).all(1)
    left = profiles - int(off.any())
    if left < 1:
        raise BadRequestError(
            "a palette of 1 profile cannot hold neurons that are off beside others; use 2"
        )
    points = np.log(np.maximum(distinct, 1))[~off]
    weights = counts[~off].astype(np.float64)
    if len(points) <= left:
        labels = np.arange(len(points))
    elif points.shape[1] == 1 and len(points) <= MAX_POINTS:
        labels = best_clusters_1d(points[:, 0], weights, left)
    else:
        labels = _k_means(points, weights, left)
    chosen = distinct.copy()
    alive = np.flatnonzero(~off)
    for label in np.unique(labels):
        inside = labels == label
        centre = np.average(points[inside], axis=0, weights=weights[inside])
        # A task in which all members are off stays off; otherwise the largest is not reached.
        ceiling = np.where(
            (distinct[alive[inside]] == THRESHOLD_LIMIT).all(0),
            THRESHOLD_LIMIT,
            THRESHOLD_LIMIT - 1,
        )
        mantissa = np.rint(np.exp(centre)).astype(np.int64)
        chosen[alive[inside]] = np.where(
            ceiling == THRESHOLD_LIMIT, THRESHOLD_LIMIT, np.minimum(mantissa, ceiling)
        )
    return chosen[member]


def best_clusters_1d(points: Floats, weights: Floats, clusters: int) -> Integers:
    """Labels of the exact optimum of weighted k-means on a line.

    In one dimension the clusters of an optimum are runs of the sorted points, so the best cost
    of the first n points in k runs follows from that of fewer points in k - 1 runs (Wang and
    Song 2011, doi:10.32614/RJ-2011-015).

    Args:
        points: (n,), in any order.
        weights: (n,), positive.
        clusters: k, at most n.
    """
    order = np.argsort(points, kind="stable")
    x, w = points[order], weights[order]
    # Sums from the start; the cost of a run is E[x^2] - E[x]^2, times its weight.
    x = x - np.average(x, weights=w)
    total = np.concatenate([[0.0], np.cumsum(w)])
    first = np.concatenate([[0.0], np.cumsum(w * x)])
    second = np.concatenate([[0.0], np.cumsum(w * x * x)])
    n = len(x)
    best = np.full((clusters + 1, n + 1), np.inf)
    start = np.zeros((clusters + 1, n + 1), dtype=np.int64)
    best[0, 0] = 0.0
    for count in range(1, clusters + 1):
        for end in range(count, n + 1):
            begins = np.arange(count - 1, end)
            mass = total[end] - total[begins]
            moment = first[end] - first[begins]
            cost = second[end] - second[begins] - moment**2 / mass
            sums = best[count - 1, begins] + np.maximum(cost, 0.0)
            at = int(np.argmin(sums))
            best[count, end], start[count, end] = sums[at], begins[at]
    labels = np.zeros(n, dtype=np.int64)
    end = n
    for count in range(clusters, 0, -1):
        labels[order[start[count, end] : end]] = count - 1
        end = int(start[count, end])
    return labels


def _k_means(points: Floats, weights: Floats, clusters: int) -> Integers:
    from sklearn.cluster import KMeans

    fitted = KMeans(n_clusters=clusters, n_init=STARTS, random_state=0).fit(
        points, sample_weight=weights
    )
    return np.asarray(fitted.labels_, dtype=np.int64)

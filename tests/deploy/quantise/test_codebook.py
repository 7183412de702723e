from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.arithmetic import THRESHOLD_LIMIT
from mtspark.core.chip_network.network import INPUT
from mtspark.core.errors import BadRequestError
from mtspark.deploy.quantise.codebook import (
    best_clusters_1d,
    cluster_profiles,
    with_palette,
)
from tests.support.networks import BREAKOUT, PONG, conv, dense, network, population


def cost(points: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for label in np.unique(labels):
        x, w = points[labels == label], weights[labels == label]
        total += float((w * (x - (w * x).sum() / w.sum()) ** 2).sum())
    return total


@given(
    values=st.lists(
        st.tuples(st.floats(-5, 15, width=32), st.integers(1, 9)), min_size=2, max_size=8
    ),
    clusters=st.integers(1, 4),
)
def test_one_task_is_solved_exactly(values: list[tuple[float, int]], clusters: int) -> None:
    """No assignment of all (at most 4^8) has a smaller cost."""
    points = np.array([value for value, _ in values])
    weights = np.array([weight for _, weight in values], dtype=float)
    clusters = min(clusters, len(points))
    labels = best_clusters_1d(points, weights, clusters)
    assert len(np.unique(labels)) <= clusters
    # In an optimum the clusters are runs of the sorted points: all ways to cut them.
    order = np.argsort(points)
    best = np.inf
    for cuts in itertools.combinations(range(1, len(points)), clusters - 1):
        other = np.zeros(len(points), dtype=int)
        for cut in cuts:
            other[order[cut:]] += 1
        best = min(best, cost(points, weights, other))
    assert cost(points, weights, labels) <= best + 1e-9


def test_runs_of_the_sorted_points_are_enough() -> None:
    """Against all assignments of 7 points to 3 clusters, not only runs."""
    generator = np.random.default_rng(5)
    points, weights = generator.normal(size=7), generator.integers(1, 5, 7).astype(float)
    labels = best_clusters_1d(points, weights, 3)
    best = min(
        cost(points, weights, np.array(other)) for other in itertools.product(range(3), repeat=7)
    )
    assert cost(points, weights, labels) == pytest.approx(best, abs=1e-12)


def test_several_tasks_find_what_is_clearly_there() -> None:
    """Three kinds of neurons, each with 1 % of noise: k-means finds the three."""
    generator = np.random.default_rng(0)
    kinds = np.array([[100, 9000, 500], [100, 300, 20000], [7000, 300, 500]])
    kind = generator.integers(0, 3, 60)
    rows = np.rint(kinds[kind] * generator.normal(1, 0.01, (60, 3))).astype(np.int64)
    made = cluster_profiles(rows, 3)
    assert len(np.unique(made, axis=0)) == 3
    np.testing.assert_allclose(made, kinds[kind], rtol=0.02)


def test_rows_that_fit_are_left_alone() -> None:
    rows = np.array([[3, 4], [5, 6], [3, 4]])
    assert np.array_equal(cluster_profiles(rows, 2), rows)


def test_neurons_that_are_off_stay_off_and_others_stay_on() -> None:
    off = THRESHOLD_LIMIT
    rows = np.array([[off], [off], [off - 2], [off - 1], [10], [11], [12]])
    made = cluster_profiles(rows, 3)[:, 0]
    assert made[:2].tolist() == [off, off]
    assert (made[2:] < off).all()
    assert len(np.unique(made)) == 3
    with pytest.raises(BadRequestError, match="use 2"):
        cluster_profiles(rows, 1)
    # Off in one task only: that task stays off where all members agree.
    rows = np.array([[off, 10], [off, 11], [700, 10], [720, 11]])
    made = cluster_profiles(rows, 2)
    assert made[:, 0].tolist() == [off, off, 710, 710]


def two_layers() -> object:
    generator = np.random.default_rng(1)
    return network(
        (1, 4, 4),
        [
            population("image", generator.integers(50, 9000, (2, 3, 2, 2))),
            population("out", generator.integers(50, 9000, (2, 40))),
        ],
        [
            conv(INPUT, "image", 2 * np.ones((3, 1, 3, 3), int)),
            dense("image", "out", 2 * np.ones((40, 12), int)),
        ],
        tasks=(PONG, BREAKOUT),
    )


def test_a_whole_network() -> None:
    net = two_layers()
    made, costs = with_palette(net, 4)
    for before, after, told in zip(net.populations, made.populations, costs, strict=True):
        profiles = np.unique(after.thresholds.reshape(2, -1), axis=1).shape[1]
        assert profiles <= 4
        assert (told.after, told.before) == (profiles, before.size)
        assert after.bias_mantissa is before.bias_mantissa
        relative = np.abs(after.thresholds - before.thresholds) / before.thresholds
        assert told.mean_error == pytest.approx(relative.mean())
        assert told.largest_error == pytest.approx(relative.max())
        assert relative.mean() > 0
    # More profiles never cost more, and enough of them nothing.
    errors = [with_palette(net, n)[1][1].mean_error for n in (1, 2, 8, 40)]
    assert errors[0] > errors[1] > errors[2] > errors[3] == 0


def test_each_core_has_its_own_palette() -> None:
    net = two_layers()
    image = net.populations[0]
    channels = list(np.arange(image.size).reshape(image.shape[0], -1))
    made, costs = with_palette(net, 2, {image.name: channels})
    thresholds = made.populations[0].thresholds
    for channel in range(3):
        assert len(np.unique(thresholds[:, channel].reshape(2, -1), axis=1).T) <= 2
    assert len(np.unique(thresholds.reshape(2, -1), axis=1).T) > 2
    assert (costs[0].cores, costs[1].cores) == (3, 1)
    with pytest.raises(BadRequestError, match="hold each"):
        with_palette(net, 2, {"image": [np.arange(5)]})
    with pytest.raises(BadRequestError, match="at least 1"):
        with_palette(net, 0)

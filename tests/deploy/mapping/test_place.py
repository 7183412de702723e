from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT
from mtspark.deploy.chips.model import ChipModel, Mesh
from mtspark.deploy.mapping.mapper import expected_traffic, map_network
from mtspark.deploy.mapping.place import distances, placed_cores
from mtspark.deploy.mapping.synapses import Part
from tests.support.chips import chip
from tests.support.networks import network, population, sparse


def mesh(columns: int, rows: int, cores: int = 1, **limits: int) -> ChipModel:
    model = chip(cores_per_chip=columns * rows * cores, **limits)
    return replace(model, mesh=Mesh(columns, rows, cores, "a test", "made up"))


def cost(traffic: np.ndarray, places: list[tuple[int, ...]], columns: int) -> float:
    """Messages times hops, pair by pair."""
    total = 0.0
    for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
        hops = abs(a[0] * columns + a[1] - b[0] * columns - b[1]) + abs(a[2] - b[2])
        total += traffic[i, j] * hops * (i != j)
    return total


def test_hops_are_links_between_routers() -> None:
    """Two cores of a router are no hop apart; the next chip is a mesh further along the row."""
    places = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 2, 1, 0), (1, 0, 0, 0)]
    found = distances(places, Mesh(3, 2, 2, "", ""))
    assert found.tolist() == [[0, 0, 3, 3], [0, 0, 3, 3], [3, 3, 0, 2], [3, 3, 2, 0]]


def test_a_chain_lies_along_the_snake() -> None:
    traffic = np.diag([5.0] * 5, 1)
    places, chips = placed_cores(traffic, mesh(3, 2), improve=True)
    assert chips == 1
    assert cost(traffic, places, 3) == 5 * 5, "every neighbour is one hop away"


def test_cores_that_talk_much_come_together() -> None:
    """0 and 5 begin at two ends of the snake and talk a hundred times as much as others."""
    traffic = np.ones((6, 6))
    traffic[0, 5] = 100
    before, _ = placed_cores(traffic, mesh(6, 1), improve=False)
    after, _ = placed_cores(traffic, mesh(6, 1), improve=True)
    assert abs(before[0][1] - before[5][1]) == 5
    assert abs(after[0][1] - after[5][1]) == 1


@given(seed=st.integers(0, 1000), cores=st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_no_swap_shortens_the_ways_further(seed: int, cores: int) -> None:
    generator = np.random.default_rng(seed)
    traffic = generator.integers(0, 20, (cores, cores)).astype(float)
    model = mesh(3, 2, 2)
    start, _ = placed_cores(traffic, model, improve=False)
    found, _ = placed_cores(traffic, model, improve=True)
    assert len(set(found)) == cores
    best = cost(traffic, found, 3)
    assert best <= cost(traffic, start, 3)
    free = set(itertools.product([0], range(3), range(2), range(2))) - set(found)
    for i, j in itertools.combinations(range(cores), 2):
        swapped = list(found)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        assert cost(traffic, swapped, 3) >= best - 1e-6
    for i, place in itertools.product(range(cores), free):
        moved = list(found)
        moved[i] = place
        assert cost(traffic, moved, 3) >= best - 1e-6


@pytest.mark.parametrize(("cores", "chips"), [(4, 1), (5, 2), (12, 3)])
def test_chips_are_filled_one_after_the_other(cores: int, chips: int) -> None:
    places, found = placed_cores(np.zeros((cores, cores)), mesh(2, 2), improve=False)
    assert found == chips
    assert [place[0] for place in places] == [index // 4 for index in range(cores)]


def test_rates_weigh_the_ways() -> None:
    """A frame's two values of rates 3 and 0.5 go to a core each of p, one of them to both."""
    links = [sparse(INPUT, "p", [[2, 2], [0, 2]])]
    net = network((2,), [population("p", [[1] * 2])], links)
    parts = [Part(INPUT, np.arange(2)), Part("p", np.array([0])), Part("p", np.array([1]))]
    assert expected_traffic(net, parts)[0].tolist() == [0, 2, 1]
    rates = {INPUT: np.array([3.0, 0.5]), "p": np.zeros(2)}
    assert expected_traffic(net, parts, rates)[0].tolist() == [0, 3.5, 0.5]
    assert expected_traffic(net, parts, rates)[1:].sum() == 0
    mapping = map_network(net, chip("loihi2", neurons_per_core=1), rates=rates)
    assert len(mapping.cores) == 4

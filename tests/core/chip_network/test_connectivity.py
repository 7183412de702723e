from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from mtspark.core.chip_network.connectivity import fan_out, fan_out_of
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from tests.support.networks import conv, dense, network, population, random_networks, sparse
from tests.support.scalar_chip import synapses


@given(net=random_networks())
@settings(deadline=None, max_examples=40)
def test_fan_out_equals_counting_synapses_one_by_one(net: ChipNetwork) -> None:
    for link in net.connections:
        source, target = net.shape_of(link.source), net.shape_of(link.target)
        structural, effective = np.zeros(source, int), np.zeros(source, int)
        for origin, _, weight in synapses(link, source, target):
            structural[origin] += 1
            effective[origin] += weight != 0
        counted = fan_out(link, source)
        assert np.array_equal(counted[0], structural)
        assert np.array_equal(counted[1], effective)


@pytest.mark.parametrize("name", [INPUT, "p"])
def test_fan_out_adds_up_the_connections_of_a_neuron(name: str) -> None:
    links = [
        conv(INPUT, "p", np.zeros((2, 1, 2, 2), int)),
        sparse("p", "q", np.eye(3, 8, dtype=int) * 2),
        dense("p", "r", np.zeros((4, 8), int)),
    ]
    parts = [population("p", np.ones((1, 2, 2, 2))), population("q", [[1] * 3])]
    net = network((1, 3, 3), [*parts, population("r", [[1] * 4])], links)
    # A pixel in the middle meets 2 filters at 4 places; a neuron of p up to 1 of q and 4 of r.
    assert fan_out_of(net, name) == {INPUT: 8, "p": 5}[name]

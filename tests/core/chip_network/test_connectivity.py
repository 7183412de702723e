from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from mtspark.core.chip_network.connectivity import fan_out, fan_out_of
from mtspark.core.chip_network.network import INPUT, ChipNetwork, ConnectionKind
from tests.support.networks import (
    conv,
    dense,
    network,
    population,
    random_networks,
    sparse,
    sparse_conv,
)
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


def test_a_sparse_kernel_meets_its_own_weights_only() -> None:
    """Kernels [[2, 0], [0, 0]] and [[0, 0], [4, 2]] on 2 x 3 pixels, two outputs each.

    The upper left tap meets pixels 0 and 1 of the upper row; of the lower row, the lower left tap
    meets 0 and 1 and the lower right one 1 and 2.
    """
    link = sparse_conv(INPUT, "p", [[[[2, 0], [0, 0]]], [[[0, 0], [4, 2]]]])
    structural, effective = fan_out(link, (1, 2, 3))
    assert structural.tolist() == effective.tolist() == [[[1, 1, 0], [1, 2, 1]]]
    whole, _ = fan_out(replace(link, kind=ConnectionKind.CONV), (1, 2, 3))
    assert whole.tolist() == [[[2, 4, 2], [2, 4, 2]]]
    assert (link.stored_weights, replace(link, kind=ConnectionKind.CONV).stored_weights) == (3, 8)


@pytest.mark.parametrize(
    ("kind", "zeros", "stored"),
    [
        ("dense", 6, "dense"),
        ("dense", 7, "sparse"),
        ("conv", 8, "conv"),
        ("conv", 9, "sparse_conv"),
        ("sparse", 0, "sparse"),
        ("sparse_conv", 0, "sparse_conv"),
    ],
)
def test_what_is_mostly_zero_is_stored_as_a_list(kind: str, zeros: int, stored: str) -> None:
    weights = np.where(np.arange(12) < zeros, 0, 2)
    assert ConnectionKind(kind).without_zeros(weights).value == stored


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

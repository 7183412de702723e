from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.compare.agreement import Comparison
from mtspark.sim.compare.divergence import Divergence
from tests.support.networks import three_neurons

FRAMES = np.array([[0, 0], [1, 1]], np.uint8)


def compare(one: ChipNetwork, other: ChipNetwork) -> Comparison:
    comparison, chips = Comparison(), (ReferenceChip(one), ReferenceChip(other))
    for frame in FRAMES:
        traces = [chip.decide(frame[None], 0, trace=True).trace for chip in chips]
        assert traces[0] is not None
        assert traces[1] is not None
        comparison.add_trace(traces[0], traces[1], ["hidden", "out"])
    return comparison


def test_a_network_equals_itself() -> None:
    comparison = compare(three_neurons(), three_neurons())
    assert comparison.equal
    # Two decisions, four steps, three neurons, spikes and membranes.
    assert comparison.compared == 2 * 4 * 3 * 2


def test_nothing_compared_is_not_equal() -> None:
    assert not Comparison().equal


def test_one_changed_weight_is_found_with_place_and_values() -> None:
    """Hidden 1 gets 64 + 2 instead of 64 from input (1, 1), first in step 2 of decision 1."""
    net = three_neurons()
    weights = net.connections[0].weights.copy()
    weights[1, 0] += 2
    changed = replace(
        net, connections=(replace(net.connections[0], weights=weights), net.connections[1])
    )
    comparison = compare(net, changed)
    assert not comparison.equal
    assert comparison.first == Divergence(
        decision=1,
        step=2,
        layer="hidden",
        neuron=(1,),
        quantity="membrane",
        expected=64 << 6,
        got=66 << 6,
    )
    assert comparison.different == 2


def test_a_changed_threshold_shows_as_a_spike_too() -> None:
    net = three_neurons()
    hidden = net.populations[0]
    changed = replace(hidden, thresholds=np.array([[64, 100]]))
    comparison = compare(net, replace(net, populations=(changed, net.populations[1])))
    assert comparison.first is not None
    assert (comparison.first.step, comparison.first.quantity) == (2, "membrane")
    # Membrane and spike of hidden 0 in two steps, membrane of the output in two.
    assert comparison.different == 6

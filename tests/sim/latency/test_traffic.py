from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.deploy.chips.model import ChipModel, load_chip
from mtspark.deploy.mapping.mapper import ChipMapping, Core, InputPlace, map_network
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.totals import Counter
from mtspark.sim.latency.traffic import traffic_of
from tests.support.chips import chip
from tests.support.networks import frames_for, random_networks, three_neurons, varied_networks
from tests.support.scalar_chip import synapses

SENT = {INPUT: np.array([3, 1]), "hidden": np.array([2, 5]), "out": np.array([0])}


def placed(mapping: ChipMapping, places: list[tuple[int, int, int, int]]) -> ChipMapping:
    """The mapping with its cores where a test wants them."""
    names = ("chip", "column", "row", "place")
    cores = [
        Core(**{**vars(core), **dict(zip(names, place, strict=True))})
        for core, place in zip(mapping.cores, places, strict=True)
    ]
    return replace(mapping, cores=tuple(cores))


def test_three_neurons_by_hand() -> None:
    """Frame, hidden and out on a core each, at (0, 0), (2, 1) and at hidden's own router.

    The frame's 4 messages go 2 columns and 1 row each: 8 and 4 hops. hidden's 7 messages
    (both neurons have a synapse on out, one of them of weight 0) stay at the router.
    Operations: a message of the frame meets hidden's 2 neurons, one of hidden meets out.
    """
    net, model = three_neurons(), load_chip("loihi1")
    mapping = placed(map_network(net, model), [(0, 0, 0, 0), (0, 2, 1, 0), (0, 2, 1, 3)])
    found = traffic_of(net, mapping, model, SENT)
    assert found.messages.tolist() == [[0, 4, 0], [0, 0, 7], [0, 0, 0]]
    assert (found.total, found.total_within_router, found.total_between_chips) == (11, 7, 0)
    assert (found.total_hops_east_west, found.total_hops_north_south) == (8, 4)
    assert found.spikes.tolist() == [4, 7, 0]
    assert found.operations["dense"].tolist() == [0, 8, 7]
    assert found.received.tolist() == [0, 4, 7]
    assert found.sent.tolist() == [4, 7, 0]
    assert found.neurons.tolist() == [2, 2, 1]


def test_a_spike_goes_once_to_each_core_that_hears_it() -> None:
    """hidden's two neurons on two cores: each value of the frame is sent twice."""
    net, model = three_neurons(), chip("loihi2", neurons_per_core=1)
    found = traffic_of(net, map_network(net, model, place=False), model, SENT)
    # Cores: frame 0, frame 1, hidden 0, hidden 1, out; along a column of 8 rows.
    wanted = np.zeros((5, 5), int)
    wanted[0, 2] = wanted[0, 3] = 3
    wanted[1, 2] = wanted[1, 3] = 1
    wanted[2, 4], wanted[3, 4] = 2, 5
    assert found.messages.tolist() == wanted.tolist()
    assert found.total_hops_north_south == 3 * 2 + 3 * 3 + 1 * 1 + 1 * 2 + 2 * 2 + 5 * 1
    assert found.total_hops_east_west == 0


def test_the_next_chip_is_further_along_the_row() -> None:
    net, model = three_neurons(), load_chip("loihi2")
    mapping = placed(map_network(net, model), [(0, 15, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0)])
    found = traffic_of(net, mapping, model, SENT)
    assert found.total_between_chips == 4
    assert found.total_hops_east_west == 4 * 1 + 7 * 1


def test_what_the_host_sends_is_no_message_between_cores() -> None:
    net, model = three_neurons(), load_chip("loihi2")
    mapping = map_network(net, model, input_place=InputPlace.HOST)
    found = traffic_of(net, mapping, model, SENT)
    assert found.from_host.tolist() == [4, 0]
    assert found.total == 7
    assert found.operations["dense"].tolist() == [8, 7]


@given(
    net=st.one_of(random_networks(), varied_networks()),
    seed=st.integers(0, 1000),
    neurons=st.integers(3, 20),
    host=st.booleans(),
)
@settings(deadline=None, max_examples=15)
def test_every_message_of_real_counts_walked_one_by_one(
    net: ChipNetwork, seed: int, neurons: int, host: bool
) -> None:
    model: ChipModel = chip("loihi2", neurons_per_core=neurons)
    mapping = map_network(
        net, model, input_place=InputPlace.HOST if host else InputPlace.CORES, place=False
    )
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(frames_for(net, 2, seed), 0).activity)
    sent = {name: counter.window[name] + counter.drain[name] for name in counter.window}
    found = traffic_of(net, mapping, model, sent)
    owner = {
        (core.population, int(neuron)): index
        for index, core in enumerate(mapping.cores)
        for neuron in core.neurons
    }
    messages = np.zeros_like(found.messages)
    from_host = np.zeros_like(found.from_host)
    operations = np.zeros_like(found.from_host)
    for link in net.connections:
        source, target = net.shape_of(link.source), net.shape_of(link.target)
        reached: dict[tuple[int, int], int] = {}
        for origin, to, _ in synapses(link, source, target):
            start = int(np.ravel_multi_index(origin, source))
            end = owner[link.target, int(np.ravel_multi_index(to, target))]
            count = int(sent[link.source].reshape(-1)[start])
            operations[end] += count
            reached[start, end] = count
        for (start, end), count in reached.items():
            if (link.source, start) in owner:
                messages[owner[link.source, start], end] += count
            else:
                from_host[end] += count
    assert np.array_equal(found.messages, messages)
    assert np.array_equal(found.from_host, from_host)
    assert np.array_equal(sum(found.operations.values()), operations)
    counts = counter.result()
    assert int(operations.sum()) == counts.synops_structural
    spikes = sum(layer.spikes.total for layer in counts.layers)
    assert int(found.spikes.sum()) == spikes + (0 if host else counts.input_events.total)
    ways = [
        (
            abs((a.chip - b.chip) * model.mesh.columns + a.column - b.column),
            abs(a.row - b.row),
            int(messages[i, j]),
        )
        for i, a in enumerate(mapping.cores)
        for j, b in enumerate(mapping.cores)
    ]
    assert found.total_hops_east_west == sum(across * count for across, _, count in ways)
    assert found.total_hops_north_south == sum(down * count for _, down, count in ways)

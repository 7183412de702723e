"""Pruned chip networks: what goes, by hand; no spike that stays changes, on random networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork, ConnectionKind
from mtspark.deploy.prune import Pruned, prune_network
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip
from tests.support.networks import (
    BREAKOUT,
    PONG,
    conv,
    dense,
    frame_networks,
    frames_for,
    network,
    population,
    thinned,
    varied_networks,
)

OFF = 131071


def chain(**changes: Any) -> ChipNetwork:
    """Two inputs, five hidden neurons, three more, two outputs.

    hidden 0 hears input 0. hidden 1 is inhibited only: it never fires. hidden 2 can reach 40 in a
    step, and 80 at most (half of a membrane stays): it is below its threshold of 80. hidden 3
    fires, but its only synapse goes to second 1. hidden 4 fires and has no synapse.
    second 0 hears hidden 0. second 1 hears hidden 1 and 3, and no output hears it. second 2 hears
    only hidden 1, which never fires.
    """
    first = [[64, 0], [-64, -2], [40, 0], [64, 0], [64, 64]]
    second = [[64, 0, 64, 0, 0], [0, 64, 0, 64, 0], [0, 64, 0, 0, 0]]
    return network(
        (2,),
        [
            population("hidden", [[50, 50, 80, 50, 50]]),
            population("second", [[50, 50, 50]]),
            population("out", [[OFF, OFF]], membrane_decay=0),
        ],
        [
            dense(INPUT, "hidden", first),
            dense("hidden", "second", second),
            dense("second", "out", [[2, 0, 64], [4, 0, 64]]),
        ],
        **changes,
    )


def test_what_never_fires_and_what_nobody_hears_goes() -> None:
    pruned = prune_network(chain())
    assert pruned.kept["hidden"].tolist() == [True, False, False, False, False]
    assert pruned.kept["second"].tolist() == [True, False, False]
    first, second, third = pruned.network.connections
    assert first.weights.tolist() == [[64, 0]]
    assert second.weights.tolist() == [[64]]
    assert third.weights.tolist() == [[2], [4]]
    hidden, later, out = pruned.report.populations
    assert (hidden.neurons, hidden.kept, hidden.never_fire, hidden.unheard) == (5, 1, 2, 2)
    assert (later.neurons, later.kept, later.never_fire, later.unheard) == (3, 1, 1, 1)
    assert (out.kept, out.never_fire, out.unheard) == (2, 0, 0)
    # Of input 1, no neuron that is left hears anything.
    assert (pruned.report.inputs, pruned.report.inputs_unused) == (2, 1)
    assert [(one.synapses, one.kept) for one in pruned.report.connections] == [
        (7, 1),
        (5, 1),
        (4, 2),
    ]


def test_one_unit_less_of_threshold_lets_the_neuron_fire_and_stay() -> None:
    net = chain(time_steps=9)
    hidden = net.populations[0]
    # With a membrane that keeps half, 40 + 20 + 10 + ... stays below 80 and passes 79.
    lower = replace(hidden, thresholds=np.array([[50, 50, 79, 50, 50]]))
    pruned = prune_network(replace(net, populations=(lower, *net.populations[1:])))
    assert pruned.kept["hidden"].tolist() == [True, False, True, False, False]


def test_a_neuron_that_one_task_needs_stays_for_all() -> None:
    net = chain(tasks=(PONG, BREAKOUT))
    rows = [[[OFF, 50, 80, 50, 50], [50] * 5], [[50] * 3] * 2, [[OFF] * 2] * 2]
    populations = tuple(
        replace(one, thresholds=np.array(row))
        for one, row in zip(net.populations, rows, strict=True)
    )
    pruned = prune_network(replace(net, populations=populations))
    assert pruned.kept["hidden"].tolist() == [True, False, True, False, False]


def test_channels_go_whole_and_an_empty_layer_keeps_one() -> None:
    kernels = np.zeros((3, 1, 2, 2), np.int64)
    kernels[0], kernels[1], kernels[2] = 64, -64, 64
    later = np.zeros((2, 12), np.int64)
    later[0, 1] = 64  # One place of channel 0; channel 2 is unheard.
    net = network(
        (1, 3, 3),
        [
            population("conv", np.full((1, 3, 2, 2), 50)),
            population("hidden", [[50, 50]]),
            population("out", [[OFF, OFF]], membrane_decay=0),
        ],
        [
            conv(INPUT, "conv", kernels),
            dense("conv", "hidden", later),
            dense("hidden", "out", [[0, 64], [0, 64]]),
        ],
    )
    pruned = prune_network(net)
    # Both hidden neurons are silent or unheard, so nothing is heard before them.
    assert not pruned.kept["hidden"].any()
    assert not pruned.kept["conv"].any()
    # One neuron and one channel of each are left, which are off and have no synapses.
    assert [one.shape for one in pruned.network.populations] == [(1, 2, 2), (1,), (2,)]
    assert not any(link.weights.any() for link in pruned.network.connections)
    assert pruned.network.population("hidden").thresholds.tolist() == [[OFF]]
    assert [one.kept for one in pruned.report.populations] == [4, 1, 2]
    heard = replace(net.connections[2], weights=np.array([[64, 0], [64, 0]]))
    pruned = prune_network(replace(net, connections=(*net.connections[:2], heard)))
    assert pruned.network.population("conv").shape == (1, 2, 2)
    assert pruned.network.connections[0].weights.shape == (1, 1, 2, 2)
    assert pruned.network.connections[1].kind is ConnectionKind.SPARSE
    assert pruned.network.connections[1].weights.tolist() == [[0, 64, 0, 0]]


def test_a_kernel_that_is_mostly_zero_becomes_a_list() -> None:
    """Of 12 weights 6 are not 0; the filter that nobody hears had 4 of them."""
    kernels = np.zeros((3, 1, 2, 2), int)
    kernels[0], kernels[1, 0, 0, 1], kernels[2, 0, 1, 1] = 64, 64, 128
    heard = np.array([[0] * 4 + [64] * 8])
    net = network(
        (1, 3, 3),
        [
            population("conv", np.full((1, 3, 2, 2), 5)),
            population("out", [[OFF]], membrane_decay=0),
        ],
        [conv(INPUT, "conv", kernels), dense("conv", "out", heard)],
    )
    pruned = prune_network(net)
    link = pruned.network.connections[0]
    assert link.kind is ConnectionKind.SPARSE_CONV
    assert (link.weights.shape, link.stored_weights) == ((2, 1, 2, 2), 2)
    assert [one.sparse for one in pruned.report.connections] == [True, False]
    same_spikes(net, pruned, 3)
    whole = prune_network(
        replace(net, connections=(net.connections[0], dense("conv", "out", heard + 64)))
    )
    assert whole.network.connections[0].kind is ConnectionKind.CONV


def same_spikes(net: ChipNetwork, pruned: Pruned, seed: int) -> None:
    """Two decisions, one after the other, of every task, on the reference and the engine.

    Every spike and membrane of a neuron that stays, against the network that has all of them.
    """
    for row in range(len(net.tasks)):
        chips = ReferenceChip(net), ReferenceChip(pruned.network), EngineChip(pruned.network)
        for number in range(2):
            frames = frames_for(net, 3, seed + number)
            whole, *others = (chip.decide(frames, row, trace=True) for chip in chips)
            assert whole.trace is not None
            for other in others:
                assert other.trace is not None
                np.testing.assert_array_equal(whole.values, other.values)
                for name, kept in pruned.kept.items():
                    logs = [
                        (trace.spikes[name], trace.membranes[name])
                        for trace in (whole.trace, other.trace)
                    ]
                    for before, after in zip(*logs, strict=True):
                        flat = before.reshape(*before.shape[:2], -1)[:, :, kept]
                        if kept.any():
                            np.testing.assert_array_equal(flat, after.reshape(flat.shape))
                        else:
                            assert not after.any()


@given(varied_networks(), st.integers(0, 99), st.booleans())
def test_no_spike_that_stays_changes(net: ChipNetwork, seed: int, thin: bool) -> None:
    net = thinned(net, seed) if thin else net
    same_spikes(net, prune_network(net), seed)


@given(frame_networks(), st.integers(0, 99), st.booleans())
def test_no_spike_changes_with_frames_that_are_held(
    net: ChipNetwork, seed: int, thin: bool
) -> None:
    net = thinned(net, seed) if thin else net
    same_spikes(net, prune_network(net), seed)


def test_what_stays_with_its_channel_keeps_what_it_hears() -> None:
    """A strided kernel reaches one place of a channel; the other place is heard by nobody.

    It stays, since channels go whole. Neurons that it alone hears stay, too: else its spikes
    would change. A whole branch that ends in a channel without weight goes.
    """
    into = np.zeros((4, 3), np.int64)
    into[0, 0], into[1, 1], into[2, 2], into[3, 2] = 64, 64, 64, 64
    net = network(
        (3,),
        [
            population("first", [[50, 50, 50]]),
            population("image", np.full((1, 2, 1, 2), 50)),
            population("conv", np.full((1, 1, 1, 1), 50)),
            population("out", [[OFF]], membrane_decay=0),
        ],
        [
            dense(INPUT, "first", np.eye(3) * 64),
            dense("first", "image", into),
            conv("image", "conv", [[[[64]], [[0]]]], stride=(1, 2)),
            dense("conv", "out", [[2]]),
        ],
    )
    pruned = prune_network(net)
    assert pruned.kept["image"].tolist() == [True, True, False, False]
    assert pruned.kept["first"].tolist() == [True, True, False]
    for seed in range(5):
        same_spikes(net, pruned, seed)

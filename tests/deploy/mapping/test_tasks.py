"""Tasks with neurons of their own on the cores of a chip, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.arithmetic import THRESHOLD_LIMIT as OFF
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.deploy.chips.model import load_chip
from mtspark.deploy.mapping.mapper import map_network
from mtspark.deploy.mapping.tasks import Packing, idle_cores, pack_tasks
from mtspark.deploy.pathways import task_part, task_parts, users
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.chips import chip
from tests.support.networks import (
    BREAKOUT,
    PONG,
    conv,
    dense,
    network,
    population,
    sparse,
    three_neurons,
)


def own_neurons() -> ChipNetwork:
    """Three neurons: hidden 0 is pong's and hears input 0, hidden 1 is breakout's and hears input
    1; the output hears both."""
    return network(
        (2,),
        [
            population("hidden", [[50, OFF], [OFF, 50]], membrane_decay=4096),
            population("out", [[OFF], [OFF]], membrane_decay=0),
        ],
        [dense(INPUT, "hidden", [[64, 0], [0, 64]]), dense("hidden", "out", [[2, 4]])],
        tasks=(PONG, BREAKOUT),
    )


def test_three_neurons_by_hand() -> None:
    """A core a neuron, so the frame, hidden 0, hidden 1 and the output take four.

    Memory of Loihi 2: an axon takes its synapses, 12 bits of index and the weight's each, with a
    header of 10, in words of 64 bits. A hidden core hears two axons (a dense layer stores zeros):
    128 bits; the output one a hidden neuron: 128. A task alone: 128 for its hidden neuron and 64
    for the output. Both layers differ, so a switch of parts writes 192 bits, 24 bytes, 3 words.
    In place of it two thresholds of 17 bits change: 34 bits, 5 bytes.
    """
    net, model = own_neurons(), chip("loihi2", neurons_per_core=1)
    mapping = map_network(net, model)
    assert [core.population for core in mapping.cores] == [INPUT, INPUT, "hidden", "hidden", "out"]
    packing = pack_tasks(net, mapping, model)
    assert (packing.union_neurons, packing.union_weights, packing.cores) == (3, 4, 5)
    pong, breakout = packing.tasks
    assert (pong.task, pong.neurons, pong.weights) == ("pong", 2, 2)
    assert (pong.cores, pong.shared, pong.idle) == (4, 3, 1)
    assert (pong.memory_bits, pong.idle_memory_bits) == (256, 128)
    assert (pong.alone_cores, pong.alone_memory_bits) == (4, 192)
    assert (pong.switch_weight_bytes, pong.switch_weight_messages) == (24, 3)
    assert (pong.switch_threshold_writes, pong.switch_threshold_bytes) == (2, 5)
    assert replace(breakout, task="pong") == pong
    assert packing.of_task("breakout") == breakout
    assert packing.to_json()["tasks"][0]["idle"] == 1
    parts = task_parts(net)
    assert [idle_cores(mapping, part) for part in parts] == [(3,), (2,)]
    assert users(parts, "hidden").tolist() == [1, 2]
    assert users(parts, "out").tolist() == [3]


def test_a_connection_that_is_the_same_in_every_part_is_not_written() -> None:
    """Of :func:`own_neurons` with equal synapses of the output, 64 of 192 bits less; of both equal,
    nothing: a hidden neuron each that hears the same frame, as of experts whose heads differ."""
    net, model = own_neurons(), chip("loihi2", neurons_per_core=1)
    first, last = net.connections
    for weights, heads, written in (
        (first.weights, [[4, 4]], (16, 2)),
        (np.array([[64, 64]] * 2), [[2, 4]], (8, 1)),
        (np.array([[64, 64]] * 2), [[4, 4]], (0, 0)),
    ):
        changed = replace(
            net,
            connections=(replace(first, weights=weights), replace(last, weights=np.array(heads))),
        )
        for task in pack_tasks(changed, map_network(changed, model), model).tasks:
            assert (task.switch_weight_bytes, task.switch_weight_messages) == written


def test_tasks_that_share_all_neurons_have_no_parts() -> None:
    net, model = three_neurons(), load_chip("loihi2")
    assert task_parts(net) == ()
    assert pack_tasks(net, map_network(net, model), model) == Packing()
    gains = replace(
        own_neurons(),
        populations=(
            population("hidden", [[50, 60], [70, 80]]),
            population("out", [[OFF], [OFF]], membrane_decay=0),
        ),
    )
    assert task_parts(gains) == ()


def test_a_part_answers_as_the_whole_network_does_in_its_task() -> None:
    net = own_neurons()
    frames = np.array([[1, 0], [0, 1], [1, 1]], np.uint8)
    for row in range(2):
        part = task_part(net, row)
        assert part.network.tasks == (net.tasks[row],)
        whole, alone = ReferenceChip(net).decide(frames, row), ReferenceChip(part.network)
        np.testing.assert_array_equal(alone.decide(frames, 0).values, whole.values)
        assert whole.values.any()


@pytest.mark.parametrize(
    ("room", "held", "idle"),
    [(3, [[0, 2, 4], [1, 3, 5]], 1), (2, [[0, 1], [2, 3], [4, 5]], 0), (6, [[*range(6)]], 0)],
)
def test_tasks_get_cores_of_their_own_where_that_takes_no_more_of_them(
    room: int, held: list[list[int]], idle: int
) -> None:
    """Six neurons, every second one pong's.

    On cores of 3, each would hold neurons of both tasks in the order of their numbers. On cores of
    2, three neurons of a task need two, so four in all, and three are enough. One core holds all.
    """
    thresholds = np.where(np.arange(6) % 2, [[OFF], [50]], [[50], [OFF]])
    net = network(
        (1,),
        [
            population("hidden", thresholds),
            population("out", [[OFF], [OFF]], membrane_decay=0),
        ],
        [sparse(INPUT, "hidden", [[64]] * 6), dense("hidden", "out", [[2] * 6])],
        tasks=(PONG, BREAKOUT),
    )
    model = chip("loihi2", neurons_per_core=room)
    mapping = map_network(net, model)
    lists = [mapping.cores[place].neurons.tolist() for place in mapping.layers["hidden"]]
    assert lists == held
    assert [one.idle for one in pack_tasks(net, mapping, model).tasks] == [idle, idle]


def test_channels_of_tasks_go_to_cores_of_their_own() -> None:
    """Four channels of two places, one of pong and three of breakout, on cores of four neurons or
    fewer: even cuts would put channels 0 and 1 together."""
    thresholds = np.full((2, 4, 1, 2), 50)
    thresholds[0, 1:], thresholds[1, :1] = OFF, OFF
    net = network(
        (1, 1, 2),
        [
            population("image", thresholds),
            population("out", [[OFF], [OFF]], membrane_decay=0),
        ],
        [
            conv(INPUT, "image", np.full((4, 1, 1, 1), 64)),
            dense("image", "out", [[2] * 8]),
        ],
        tasks=(PONG, BREAKOUT),
    )
    model = chip("loihi2", neurons_per_core=6)
    mapping = map_network(net, model)
    held = [mapping.cores[place].neurons.tolist() for place in mapping.layers["image"]]
    assert held == [[0, 1], [2, 3, 4, 5, 6, 7]]
    assert [one.idle for one in pack_tasks(net, mapping, model).tasks] == [1, 1]

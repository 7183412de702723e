from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork, ReadoutKind, Reset, SignMode
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import (
    dense,
    frames_for,
    network,
    population,
    three_neurons,
    varied_networks,
)
from tests.support.scalar_chip import ScalarChip


@given(net=varied_networks(), seed=st.integers(0, 1000), tasks=st.lists(st.integers(0, 1)))
@settings(deadline=None, max_examples=80)
def test_every_spike_and_membrane_equals_plain_integers(
    net: ChipNetwork, seed: int, tasks: list[int]
) -> None:
    chip = ReferenceChip(net)
    scalars = [ScalarChip(net), ScalarChip(net)]
    for number, task in enumerate([0, *tasks[:2]]):
        row = task % len(net.tasks)
        frames = frames_for(net, 2, seed + number)
        trace = chip.decide(frames, row, trace=True).trace
        assert trace is not None
        for member, scalar in enumerate(scalars):
            spikes, membranes = scalar.decide(frames[member], row)
            assert len(membranes) == sum(a[:, 0].size for a in trace.membranes.values())
            for (step, name, index), expected in membranes.items():
                where = (step - 1, member, *index)
                assert trace.membranes[name][where] == expected
                assert trace.spikes[name][where] == spikes[step, name, index]


@pytest.mark.parametrize(("steps", "rounded"), [(8, 0), (9, 1)])
def test_the_oracle_knows_when_a_half_has_no_bit_left(steps: int, rounded: int) -> None:
    """One spike of weight 2 is a current of 128, which is halved seven times without remainder."""
    last = population("out", [[131071]], current_decay=2047, membrane_decay=4096)
    net = network((1,), [last], [dense(INPUT, "out", [[2]])], time_steps=steps)
    net = replace(net, input=replace(net.input, held=False))
    oracle = ScalarChip(net)
    series = np.zeros((steps, 1), np.int64)
    series[0] = 1
    oracle.decide(series, 0)
    assert oracle.rounded == rounded


@given(net=varied_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_a_batch_equals_a_loop_and_activity_equals_the_trace(net: ChipNetwork, seed: int) -> None:
    frames = frames_for(net, 3, seed)
    together = ReferenceChip(net).decide(frames, 0, trace=True)
    assert together.trace is not None
    for member in range(3):
        alone = ReferenceChip(net).decide(frames[member : member + 1], 0, trace=True)
        assert alone.trace is not None
        for name, membranes in alone.trace.membranes.items():
            assert np.array_equal(membranes[:, 0], together.trace.membranes[name][:, member])
        assert np.array_equal(alone.values[0], together.values[member])
    for name, spikes in together.trace.spikes.items():
        window = spikes[net.window(name)].sum(0)
        assert np.array_equal(together.activity.window[name], window)
        assert np.array_equal(together.activity.drain[name], spikes.sum(0) - window)
    sent = (frames != 0) * net.time_steps if net.input.held else (frames != 0).sum(1)
    assert np.array_equal(together.activity.window[INPUT], sent)
    assert not together.activity.drain[INPUT].any()


def test_three_neurons_by_hand() -> None:
    """Input (1, 1): hidden 0 gets 64 > 50 and fires, hidden 1 gets 64 <= 100 and does not."""
    trace = ReferenceChip(three_neurons()).decide(np.array([[9, 1]], np.uint8), 0, trace=True).trace
    assert trace is not None
    # Input in steps 1 and 2 arrives in steps 2 and 3; the readout hears it in steps 3 and 4.
    assert trace.spikes["hidden"][:, 0].tolist() == [[0, 0], [1, 0], [1, 0], [0, 0]]
    assert trace.membranes["hidden"][:, 0].tolist() == [[0, 0], [0, 4096], [0, 4096], [0, 0]]
    assert trace.membranes["out"][:, 0, 0].tolist() == [0, 0, 128, 256]


@pytest.mark.parametrize(
    ("reset", "membranes", "spikes"),
    [
        # 10 a step, threshold 25: 10, 20, 30 (fires) ...
        (Reset.ZERO, [10, 20, 0, 10, 20, 0], [0, 0, 1, 0, 0, 1]),
        (Reset.SUBTRACT, [10, 20, 5, 15, 25, 10], [0, 0, 1, 0, 0, 1]),
        (Reset.SUBTRACT_LATE, [10, 20, 30, 15, 25, 35], [0, 0, 1, 0, 0, 1]),
        (Reset.NONE, [10, 20, 30, 40, 50, 60], [0, 0, 1, 1, 1, 1]),
    ],
)
def test_resets_by_hand(reset: Reset, membranes: list[int], spikes: list[int]) -> None:
    net = network(
        (1,),
        [population("out", [[25]], membrane_decay=0, bias_mantissa=np.array([640]), reset=reset)],
        [dense(INPUT, "out", [[0]])],
        time_steps=6,
    )
    trace = ReferenceChip(net).decide(np.zeros((1, 1), np.uint8), 0, trace=True).trace
    assert trace is not None
    assert [value // 64 for value in trace.membranes["out"][1:, 0, 0]] == membranes
    assert trace.spikes["out"][1:, 0, 0].tolist() == spikes


def test_a_guarded_reset_wants_twice_the_threshold_where_a_membrane_stayed_above_it() -> None:
    """Threshold 25, no memory: 60 leaves 35, which is above, so 40 does not fire, nor 40 again.

    60 is above 50 and fires again; 10 leaves nothing above, and then 30 fires twice in a row.
    """
    net = network(
        (1,),
        [population("out", [[25]], membrane_decay=4096, reset=Reset.SUBTRACT_GUARDED)],
        [dense(INPUT, "out", [[2]])],
        payload_bits=8,
        time_steps=7,
    )
    net = replace(net, input=replace(net.input, held=False))
    series = np.array([[[30], [20], [20], [30], [5], [15], [15]]], np.uint8)
    trace = ReferenceChip(net).decide(series, 0, trace=True).trace
    assert trace is not None
    assert trace.spikes["out"][1:, 0, 0].tolist() == [1, 0, 0, 1, 0, 1, 1]
    assert [value // 64 for value in trace.membranes["out"][1:, 0, 0]] == [35, 40, 40, 35, 10, 5, 5]


def test_a_loop_brings_a_spike_back_after_its_delay_and_not_into_the_next_decision() -> None:
    """One neuron, fired once by the input, fires again two steps later through a delay of 1."""
    net = network(
        (1,),
        [population("out", [[50]], membrane_decay=4096)],
        [
            dense(INPUT, "out", [[64]]),
            dense("out", "out", [[64]], recurrent=True, delay=1),
        ],
        time_steps=4,
    )
    net = replace(
        net,
        input=replace(net.input, held=False),
        readout=replace(net.readout, kind=ReadoutKind.SPIKES),
    )
    chip = ReferenceChip(net)
    once = np.array([[[1], [0], [0], [0]]], np.uint8)
    decision = chip.decide(once, 0, trace=True)
    assert decision.trace is not None
    assert decision.trace.spikes["out"][:, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert decision.values.tolist() == [[2.0]]
    late = np.array([[[0], [0], [1], [1]]], np.uint8)
    assert chip.decide(late, 0).values.tolist() == [[2.0]]
    assert chip.decide(np.zeros_like(once), 0).values.tolist() == [[0.0]]


def test_a_loop_tighter_than_its_synapses_is_refused() -> None:
    """A loop that would have to deliver within the step in which its message is made."""
    net = network(
        (1,),
        [population("first", [[50]]), population("second", [[50]])],
        [
            dense(INPUT, "first", [[64]]),
            dense("first", "second", [[64]], delay=1),
            dense("second", "first", [[64]], recurrent=True),
        ],
    )
    assert net.depths == {"input": 0, "first": 1, "second": 3}
    tight = replace(
        net,
        populations=tuple(reversed(net.populations)),
        connections=(
            dense(INPUT, "second", [[64]]),
            dense("second", "first", [[64]]),
            dense("second", "first", [[64]], recurrent=True),
        ),
    )
    with pytest.raises(BadNetworkError, match="1 steps too late; delay the loop by 1"):
        _ = tight.depths


def test_a_bias_counts_only_from_its_own_window() -> None:
    """Depth 2, bias 10, T = 2: two steps of bias are read, not the four that have passed."""
    net = network(
        (1,),
        [
            population("first", [[100]]),
            population("out", [[131071]], membrane_decay=0, bias_mantissa=np.array([10])),
        ],
        [dense(INPUT, "first", [[0]]), dense("first", "out", [[0]])],
        time_steps=2,
    )
    chip = ReferenceChip(net)
    frame = np.zeros((1, 1), np.uint8)
    assert chip.decide(frame, 0).values[0, 0] == 20
    assert chip.decide(frame, 0).values[0, 0] == 20


def test_sums_beyond_float32_stay_exact() -> None:
    """A sum of 45 million that ends in 255 of 256: float32 would round it up, over the shift."""
    weights = np.full((1, 700), 255)
    weights[0, 0] = 1
    net = network(
        (700,),
        [population("out", [[131071]], membrane_decay=0)],
        [dense(INPUT, "out", weights, exponent=-8, sign_mode=SignMode.EXCITATORY)],
        payload_bits=8,
        time_steps=1,
    )
    frame = np.full((1, 700), 255, np.uint8)
    frame[0, 0] = (255 - 699 * 255 * 255) % 256
    total = 699 * 255 * 255 + int(frame[0, 0])
    assert int(np.float32(total)) >> 8 == (total >> 8) + 1
    # The current is beyond 2^23 and wraps, once.
    expected = ((total >> 8) << 6) - 2**24
    assert ReferenceChip(net).decide(frame, 0).values[0, 0] == expected


def test_decisions_are_independent_of_what_came_before() -> None:
    net = three_neurons()
    chip = ReferenceChip(net)
    first = chip.decide(np.array([[1, 1]], np.uint8), 0).values
    chip.decide(np.array([[0, 1]], np.uint8), 0)
    assert np.array_equal(chip.decide(np.array([[1, 1]], np.uint8), 0).values, first)


@pytest.mark.parametrize(
    ("frames", "task"),
    [
        (np.zeros((1, 3), np.uint8), 0),
        (np.zeros((1, 2), np.int64), 0),
        (np.zeros((0, 2), np.uint8), 0),
        (np.zeros((1, 2), np.uint8), 1),
    ],
)
def test_a_wrong_request_is_refused(frames: np.ndarray, task: int) -> None:
    with pytest.raises(BadRequestError):
        ReferenceChip(three_neurons()).decide(frames, task)


def test_lava_golden_trace_of_one_neuron(golden: Path) -> None:
    """du 4095, dv 163, vth 25, w 10: Lava's own fixed-point run of the NIR paper, all steps."""
    with (golden / "lif" / "lif_lava_cpu_fixed.csv").open() as file:
        rows = [[float(cell) for cell in row] for row in csv.reader(file) if _is_number(row[0])]
    sent = [int(row[0]) for row in rows]
    # T one-step decisions would reset; one long decision cannot change its frame. So the steps
    # are driven by hand, as the chip does it.
    net = network(
        (1,), [population("lif", [[25]], membrane_decay=163)], [dense(INPUT, "lif", [[10]])]
    )
    chip = ReferenceChip(net)
    chip.start(1)
    for number, (message, row) in enumerate(zip(sent, rows, strict=True)):
        # Step index 0 is before the population's reset step (1), so no reset happens.
        chip._step(0, np.array([[message]]), 0)
        assert chip._membrane["lif"][0, 0] == row[1], f"step {number}"
        assert chip._sent["lif"][0, 0] == row[2], f"step {number}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

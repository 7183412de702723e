from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork, ReadoutKind, Reset, SignMode
from mtspark.core.chip_network.rules import check_network
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.hil.faults import (
    FaultKind,
    Faults,
    FaultyChip,
    break_network,
    parse_faults,
)
from tests.support.networks import (
    dense,
    frames_for,
    network,
    population,
    random_networks,
    sparse,
    sparse_conv,
    three_neurons,
)


def ordered(kind: FaultKind, rate: float, seed: int = 0) -> Faults:
    return Faults({kind: rate}, seed)


# Weights and thresholds


def stored_bits(weight: int, mode: SignMode, bits: int) -> str:
    """A weight as it lies in memory, written out bit by bit."""
    coarse = 2 ** (8 - bits)
    if mode is SignMode.MIXED:
        return format((weight // (2 * coarse)) % 2**bits, f"0{bits}b")
    return format(abs(weight) // coarse, f"0{bits}b")


def weighted(mode: SignMode, bits: int, size: int = 4000) -> ChipNetwork:
    low, high, step = {
        SignMode.MIXED: (-256, 254, 2),
        SignMode.EXCITATORY: (0, 255, 1),
        SignMode.INHIBITORY: (-255, 0, 1),
    }[mode]
    step *= 2 ** (8 - bits)
    weights = np.random.default_rng(1).integers(low, high + 1, (4, size // 4)) // step * step
    weights = np.clip(weights, -(-low // step) * step, high // step * step)
    return network(
        (size // 4,),
        [population("out", np.full((1, 4), 1000))],
        [dense(INPUT, "out", weights, sign_mode=mode, weight_bits=bits)],
    )


@pytest.mark.parametrize("bits", [8, 6, 4, 1])
@pytest.mark.parametrize("mode", list(SignMode))
def test_the_ordered_share_of_stored_bits_is_inverted(mode: SignMode, bits: int) -> None:
    whole = weighted(mode, bits)
    broken = break_network(whole, ordered(FaultKind.WEIGHT_BITS, 0.1), 3)
    check_network(broken)
    pairs = zip(
        whole.connections[0].weights.ravel(), broken.connections[0].weights.ravel(), strict=True
    )
    inverted = np.array(
        [
            [a != b for a, b in zip(*(stored_bits(int(w), mode, bits) for w in pair), strict=True)]
            for pair in pairs
        ]
    )
    assert inverted.shape == (4000, bits)
    # Every bit alike, within five standard deviations.
    np.testing.assert_allclose(inverted.mean(0), 0.1, atol=5 * (0.09 / 4000) ** 0.5)


@pytest.mark.parametrize(
    ("mode", "weight", "inverted"),
    [
        (SignMode.MIXED, 0, -2),
        (SignMode.MIXED, 254, -256),
        (SignMode.MIXED, -256, 254),
        (SignMode.EXCITATORY, 3, 252),
        (SignMode.INHIBITORY, -3, -252),
    ],
)
def test_all_bits_inverted_by_hand(mode: SignMode, weight: int, inverted: int) -> None:
    net = network(
        (1,),
        [population("out", [[5]])],
        [dense(INPUT, "out", [[weight]], sign_mode=mode)],
    )
    broken = break_network(net, ordered(FaultKind.WEIGHT_BITS, 1), 0)
    assert broken.connections[0].weights.tolist() == [[inverted]]


def test_a_synapse_that_is_not_there_does_not_break() -> None:
    net = network((3,), [population("out", [[5]])], [sparse(INPUT, "out", [[0, 4, 0]])])
    broken = break_network(net, ordered(FaultKind.WEIGHT_BITS, 1), 0)
    assert broken.connections[0].weights.tolist() == [[0, -6, 0]]


def test_a_kernel_without_its_zeros_breaks_where_it_has_weights() -> None:
    link = sparse_conv(INPUT, "out", [[[[0, 4, 0]]]])
    net = network((1, 1, 3), [population("out", [[[[5]]]])], [link])
    broken = break_network(net, ordered(FaultKind.WEIGHT_BITS, 1), 0)
    assert broken.connections[0].weights.tolist() == [[[[0, -6, 0]]]]


def test_thresholds_have_17_bits() -> None:
    net = network((1,), [population("out", [[0, 131_071, 5]])], [dense(INPUT, "out", [[0]] * 3)])
    broken = break_network(net, ordered(FaultKind.THRESHOLD_BITS, 1), 0)
    assert broken.populations[0].thresholds.tolist() == [[131_071, 0, 131_066]]
    assert broken.connections is net.connections


def test_bits_repeat_by_seed_and_chip_and_grow_with_the_rate() -> None:
    whole = weighted(SignMode.MIXED, 8)

    def flipped(rate: float, seed: int, chip: int) -> np.ndarray:
        broken = break_network(whole, ordered(FaultKind.WEIGHT_BITS, rate, seed), chip)
        return (broken.connections[0].weights // 2) ^ (whole.connections[0].weights // 2)

    np.testing.assert_array_equal(flipped(0.1, 1, 2), flipped(0.1, 1, 2))
    assert (flipped(0.1, 1, 2) != flipped(0.1, 2, 2)).any()
    assert (flipped(0.1, 1, 2) != flipped(0.1, 1, 3)).any()
    few, many = flipped(0.01, 1, 2), flipped(0.1, 1, 2)
    assert few.any()
    np.testing.assert_array_equal(few & many, few)


def test_nothing_ordered_changes_nothing() -> None:
    net = three_neurons()
    assert break_network(net, Faults(dict.fromkeys(FaultKind, 0.0)), 0) is net


# Spikes and neurons


@given(net=random_networks(), seed=st.integers(0, 1000))
def test_a_faulty_chip_without_faults_is_the_reference(net: ChipNetwork, seed: int) -> None:
    faulty, whole = FaultyChip(net, Faults(), 0), ReferenceChip(net)
    for decision in range(2):
        frames = frames_for(net, 1, seed + decision)
        faulty.begin(decision)
        got, wanted = faulty.decide(frames, 0, trace=True), whole.decide(frames, 0, trace=True)
        assert got.trace is not None
        assert wanted.trace is not None
        for name in wanted.trace.spikes:
            np.testing.assert_array_equal(got.trace.spikes[name], wanted.trace.spikes[name])
            np.testing.assert_array_equal(got.trace.membranes[name], wanted.trace.membranes[name])
        np.testing.assert_array_equal(got.values, wanted.values)


@given(net=random_networks(), seed=st.integers(0, 1000))
def test_with_all_spikes_dropped_only_the_input_is_heard(net: ChipNetwork, seed: int) -> None:
    deaf = replace(
        net,
        connections=tuple(
            link if link.source == INPUT else replace(link, weights=link.weights * 0)
            for link in net.connections
        ),
    )
    faulty = FaultyChip(net, ordered(FaultKind.DROPPED_SPIKES, 1), 0)
    faulty.begin(0)
    frames = frames_for(net, 1, seed)
    got, wanted = (
        faulty.decide(frames, 0, trace=True),
        ReferenceChip(deaf).decide(frames, 0, trace=True),
    )
    assert got.trace is not None
    assert wanted.trace is not None
    for name, membranes in wanted.trace.membranes.items():
        np.testing.assert_array_equal(got.trace.membranes[name], membranes)
        assert not got.trace.spikes[name].any()


def decide(
    kind: FaultKind, rate: float, frame: list[int], net: ChipNetwork | None = None
) -> list[int]:
    """Membrane of the output of the three neurons at the end; its weights are 2 and 0."""
    chip = FaultyChip(net or three_neurons(), ordered(kind, rate), 0)
    chip.begin(0)
    return chip.decide(np.array([frame], np.uint8), 0).values[0].astype(int).tolist()


def test_stuck_neurons_by_hand() -> None:
    # Depth 2, T = 2: the output hears hidden neuron 0 in two steps, 2 << 6 each time it spikes.
    assert decide(FaultKind.STUCK_0, 0, [1, 1]) == [256]
    assert decide(FaultKind.STUCK_0, 1, [1, 1]) == [0]
    assert decide(FaultKind.STUCK_1, 0, [0, 0]) == [0]
    assert decide(FaultKind.STUCK_1, 1, [0, 0]) == [256]


def test_spurious_and_dropped_spikes_by_hand() -> None:
    assert decide(FaultKind.SPURIOUS_SPIKES, 1, [0, 0]) == [256]
    # Those that spike anyway do not spike twice.
    assert decide(FaultKind.SPURIOUS_SPIKES, 1, [1, 1]) == [256]
    assert decide(FaultKind.DROPPED_SPIKES, 1, [1, 1]) == [0]


def test_a_dropped_spike_still_resets_its_neuron() -> None:
    # Threshold 100, 64 a step, no leak, late subtract: without the reset of the lost spike in
    # step 2 the membrane would stand at 192 << 6 after step 3.
    for reset in (Reset.ZERO, Reset.SUBTRACT, Reset.SUBTRACT_LATE):
        net = network(
            (1,),
            [population("out", [[100]], membrane_decay=0, reset=reset)],
            [dense(INPUT, "out", [[64]])],
            time_steps=3,
        )
        wanted = ReferenceChip(net).decide(np.ones((1, 1), np.uint8), 0, trace=True)
        chip = FaultyChip(net, ordered(FaultKind.DROPPED_SPIKES, 1), 0)
        chip.begin(0)
        got = chip.decide(np.ones((1, 1), np.uint8), 0, trace=True)
        assert got.trace is not None
        assert wanted.trace is not None
        assert wanted.trace.spikes["out"].any()
        assert not got.trace.spikes["out"].any()
        np.testing.assert_array_equal(got.trace.membranes["out"], wanted.trace.membranes["out"])


def test_a_reader_of_spikes_sees_the_faults() -> None:
    net = three_neurons()
    net = replace(net, readout=replace(net.readout, kind=ReadoutKind.SPIKES))
    assert decide(FaultKind.STUCK_1, 1, [0, 0], net) == [2]
    assert decide(FaultKind.STUCK_0, 1, [0, 0], net) == [0]


def test_the_ordered_share_of_spikes_is_lost_or_added() -> None:
    size = 3000
    net = network(
        (1,),
        [population("out", np.repeat([[0], [131_071]], size, 0).reshape(1, -1))],
        [dense(INPUT, "out", np.full((2 * size, 1), 200))],
        time_steps=4,
    )
    frame = np.ones((1, 1), np.uint8)

    def sent(kind: FaultKind, decision: int, seed: int = 0) -> np.ndarray:
        chip = FaultyChip(net, ordered(kind, 0.05, seed), 1)
        chip.begin(decision)
        trace = chip.decide(frame, 0, trace=True).trace
        assert trace is not None
        return trace.spikes["out"][1:, 0]

    dropped = ~sent(FaultKind.DROPPED_SPIKES, 0)[:, :size]
    assert dropped.mean() == pytest.approx(0.05, abs=0.01)
    assert not sent(FaultKind.DROPPED_SPIKES, 0)[:, size:].any()
    # Steps differ, decisions differ, seeds differ; the same place repeats.
    assert (dropped[0] != dropped[1]).any()
    np.testing.assert_array_equal(~sent(FaultKind.DROPPED_SPIKES, 0)[:, :size], dropped)
    assert (~sent(FaultKind.DROPPED_SPIKES, 1)[:, :size] != dropped).any()
    assert (~sent(FaultKind.DROPPED_SPIKES, 0, 9)[:, :size] != dropped).any()
    added = sent(FaultKind.SPURIOUS_SPIKES, 0)
    assert added[:, :size].all()
    assert added[:, size:].mean() == pytest.approx(0.05, abs=0.01)
    # Stuck ones stay the same in all steps and decisions.
    stuck = sent(FaultKind.STUCK_1, 0)[:, size:]
    assert stuck[0].mean() == pytest.approx(0.05, abs=0.015)
    assert (stuck == stuck[0]).all()
    np.testing.assert_array_equal(sent(FaultKind.STUCK_1, 5)[:, size:], stuck)
    silent = ~sent(FaultKind.STUCK_0, 0)[:, :size]
    assert (silent[0] != stuck[0]).any()


# Orders


def test_orders_are_read() -> None:
    faults = parse_faults(["stuck-0=0.1", "weight-bits=1e-3"], 7)
    assert faults == Faults({FaultKind.STUCK_0: 0.1, FaultKind.WEIGHT_BITS: 0.001}, 7)
    assert faults.rate(FaultKind.STUCK_1) == 0


@pytest.mark.parametrize(
    ("orders", "seed", "says"),
    [
        (["stuck=0.1"], 0, "unknown fault 'stuck'; there are stuck-0"),
        (["stuck-0"], 0, "KIND=RATE"),
        (["stuck-0=2"], 0, "from 0 to 1"),
        (["stuck-0=nan"], 0, "from 0 to 1"),
        (["stuck-0=0.1", "stuck-0=0.2"], 0, "ordered twice"),
        ([], -1, "fault seed -1"),
    ],
)
def test_bad_orders_are_refused(orders: list[str], seed: int, says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        parse_faults(orders, seed)


def test_one_chip_takes_one_frame() -> None:
    with pytest.raises(BadRequestError, match="one at a time"):
        FaultyChip(three_neurons(), Faults(), 0).decide(np.zeros((2, 2), np.uint8), 0)

"""The torch twin equals the reference; NeuroBench's counts of it equal ours."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtspark.core.chip_network import Encoder
from mtspark.core.chip_network.network import INPUT, ChipNetwork, FrameInput, Reset
from mtspark.core.errors import BadNetworkError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.workflows.neurobench import (
    ChipTwin,
    SecondCount,
    SecondOpinion,
    count_ours,
    count_with_neurobench,
)
from tests.support.networks import conv, dense, network, population, sparse, three_neurons


def chain(seed: int, payload_bits: int) -> ChipNetwork:
    """A padded, strided convolution, a dense layer with zero weights and a sparse readout."""
    draw, high = np.random.default_rng(seed), 2000 if payload_bits else 20

    def weights(*shape: int) -> Any:
        return draw.integers(-20, 21, shape) * 2 * (draw.random(shape) < 0.7)

    return network(
        (2, 5, 6),
        [
            population("map", draw.integers(0, high, (1, 4, 3, 3)), current_decay=2000),
            population(
                "mid", draw.integers(0, 300, (1, 7)), bias_mantissa=draw.integers(-90, 90, 7)
            ),
            population("out", np.full((1, 3), 131071), membrane_decay=0),
        ],
        [
            conv(
                INPUT,
                "map",
                weights(4, 2, 3, 2),
                stride=(2, 2),
                padding=(1, 0),
                exponent=-2 if payload_bits else 0,
            ),
            dense("map", "mid", weights(7, 36), exponent=1),
            sparse("mid", "out", weights(3, 7)),
        ],
        payload_bits=payload_bits,
        time_steps=4,
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("payload_bits", [0, 8])
def test_the_twin_equals_the_reference(seed: int, payload_bits: int) -> None:
    net = chain(seed, payload_bits)
    frames = np.random.default_rng(seed).integers(0, 256, (3, 2, 5, 6)).astype(np.uint8)
    wanted = ReferenceChip(net).decide(frames, 0).values
    twin = ChipTwin(net, 0)
    for frame, values in zip(frames, wanted, strict=True):
        steps = torch.from_numpy(np.stack([frame] * 4)[None].astype(np.float64))
        assert (twin(steps).numpy()[0] * net.readout.scale).tolist() == values.tolist()


def test_the_twin_fires_at_a_threshold_that_is_met() -> None:
    """Three neurons of weight 1 hear 1, 2 and 3; thresholds are 2."""
    net = network(
        (3,),
        [population("n", [[2, 2, 2]], membrane_decay=4096, fires_at_threshold=True),
         population("out", [[131071] * 3], membrane_decay=0)],
        [dense(INPUT, "n", np.eye(3, dtype=int) * 2, exponent=-1),
         dense("n", "out", np.eye(3, dtype=int) * 2)],
        payload_bits=8,
        time_steps=1,
    )  # fmt: skip
    frame = np.array([1, 2, 3], np.uint8)
    wanted = ReferenceChip(net).decide(frame[None], 0).values[0]
    found = ChipTwin(net, 0)(torch.from_numpy(frame[None, None].astype(np.float64)))
    assert [value > 0 for value in wanted] == [False, True, True]
    assert (found.numpy()[0] * net.readout.scale).tolist() == wanted.tolist()


def test_our_counts_of_three_neurons_by_hand() -> None:
    """Sample A of test_counts: 6 effective operations of the input, 2 of spikes; 2 spikes.

    With a payload, a 7 is multiplied; a frame of zeros and ones is binary to NeuroBench.
    """
    net = three_neurons()
    found = count_ours(ReferenceChip(net), net, np.array([7, 1], np.uint8), 0)
    assert (found.binary, found.graded, found.spikes) == (8, 0, 2)
    assert found.sparsity == 4 / 6
    graded = replace(net, input=FrameInput((2,), 8))
    found = count_ours(ReferenceChip(graded), graded, np.array([7, 1], np.uint8), 0)
    assert (found.binary, found.graded) == (2, 6)


def test_what_is_no_chain_is_refused() -> None:
    net = three_neurons()
    late = replace(net, connections=(net.connections[0], replace(net.connections[1], delay=1)))
    with pytest.raises(BadNetworkError, match="chains of layers"):
        ChipTwin(late, 0)
    other = replace(net.populations[0], reset=Reset.SUBTRACT)
    with pytest.raises(BadNetworkError, match="reset to zero"):
        ChipTwin(replace(net, populations=(other, net.populations[1])), 0)


def test_a_second_opinion_is_one_line() -> None:
    one, other = SecondCount(3, 1000, 2, 0.75), SecondCount(4, 1000, 2, 0.75)
    same = SecondOpinion((one, other), (one, other), "NeuroBench 2")
    assert (same.equal, same.operations, same.first_difference) == (2, 2007, None)
    assert same.summary() == (
        "2 of 2 recorded decisions agree exactly in effective synaptic operations "
        "within the windows (2,007 in all) and activation sparsity (75.0000%); counted by "
        "NeuroBench 2."
    )
    differ = SecondOpinion((one, one), (one, other), "NeuroBench 2")
    assert (differ.equal, differ.first_difference) == (1, 1)
    assert f"first difference, decision 1: ours {one}, theirs {other}." in differ.summary()


@pytest.mark.third_party
@pytest.mark.parametrize("payload_bits", [0, 8])
def test_neurobench_counts_what_we_count(payload_bits: int) -> None:
    if importlib.util.find_spec("neurobench") is None:
        pytest.skip("NeuroBench is not installed: pip install -e '.[neurobench]'")
    net = chain(5, payload_bits)
    draw = np.random.default_rng(5)
    frames = draw.integers(0, 256, (20, 2, 5, 6)).astype(np.uint8)
    frames *= draw.random(frames.shape) < 0.5
    frames[3] = 0
    frames[4] = 1
    reference = ReferenceChip(net)
    ours = [count_ours(reference, net, frame, 0) for frame in frames]
    theirs = count_with_neurobench(net, frames, 0)
    assert ours == theirs
    assert sum(count.binary for count in ours) > 1000
    assert len({count.spikes for count in ours}) > 5
    if payload_bits:
        assert sum(count.graded for count in ours) > 1000
        # Other weights are other counts: the comparison can fail.
        changed = net.connections[1]
        fewer = replace(
            changed, weights=changed.weights * (draw.random(changed.weights.shape) < 0.9)
        )
        links = (net.connections[0], fewer, net.connections[2])
        assert count_with_neurobench(replace(net, connections=links), frames, 0) != ours


ENCODERS = (Encoder.EVERY_STEP, Encoder.HELD, Encoder.CHANGES)


def course(seed: int) -> list[NDArray[np.uint8]]:
    """Frames of a game: each keeps most of the one before."""
    draw = np.random.default_rng(seed)
    frames = [draw.integers(0, 256, (2, 5, 6)).astype(np.uint8)]
    for _ in range(4):
        changed = draw.random((2, 5, 6)) < 0.3
        frames.append(np.where(changed, draw.integers(0, 256, (2, 5, 6)), frames[-1]))
    # One that differs by 1 in places, which NeuroBench takes for spikes.
    frames.append(frames[-1] ^ (draw.random((2, 5, 6)) < 0.3))
    return [frame.astype(np.uint8) for frame in frames]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_twin_hears_frames_as_the_chip_does(encoder: Encoder) -> None:
    """Same membranes, and as many operations of the first layer as plain sums say."""
    net = chain(5, 8)
    net = replace(net, input=replace(net.input, encoder=encoder))
    frames, twin, chip = course(5), ChipTwin(net, 0), ReferenceChip(net)
    heard: list[int] = []
    twin.layers[0].synapses.register_forward_hook(
        lambda _layer, given, _out: heard.append(int(torch.count_nonzero(given[0])))
    )
    shown = np.zeros_like(frames[0])
    for frame in frames:
        heard.clear()
        steps = torch.from_numpy(np.stack([frame] * 4)[None].astype(np.float64))
        values = twin(steps).numpy()[0] * net.readout.scale
        assert values.tolist() == chip.decide(frame[None], 0).values[0].tolist()
        each = {
            Encoder.EVERY_STEP: [int((frame != 0).sum())] * 4,
            Encoder.HELD: [int((frame != 0).sum()), 0, 0, 0],
            Encoder.CHANGES: [int((frame != shown).sum()), 0, 0, 0],
        }
        assert heard == each[encoder]
        shown = frame


def test_our_count_of_changes_starts_from_the_frame_before() -> None:
    """By plain sums, whatever the chip was shown last."""
    net = chain(5, 8)
    net = replace(net, input=replace(net.input, encoder=Encoder.CHANGES))
    frames, chip = course(5), ReferenceChip(net)
    one = np.zeros((2, 5, 6), np.int64)
    fans = np.zeros_like(one)
    for place in np.ndindex(*one.shape):
        one[:] = 0
        one[place] = 1
        steps = torch.from_numpy(one[None].astype(np.float64))
        reached = torch.nn.functional.conv2d(
            steps,
            torch.from_numpy((net.connections[0].weights != 0).astype(np.float64)),
            stride=(2, 2),
            padding=(1, 0),
        )
        fans[place] = int(reached.sum())
    for number in (4, 1, 5, 2):
        frame, before = frames[number], frames[number - 1]
        found = count_ours(chip, net, frame, 0, before)
        assert found == count_ours(chip, net, frame, 0, before)
        changed = int((fans * (frame != before)).sum())
        if number == 5:
            # Changes by 1 alone are spikes to NeuroBench.
            assert (found.graded, found.binary >= changed) == (0, True)
        else:
            assert found.graded == changed > 0
        whole = count_ours(chip, net, frame, 0)
        assert whole.graded == int((fans * (frame != 0)).sum())


@pytest.mark.third_party
@pytest.mark.parametrize("encoder", ENCODERS[1:])
def test_neurobench_counts_a_frame_as_it_is_sent(encoder: Encoder) -> None:
    if importlib.util.find_spec("neurobench") is None:
        pytest.skip("NeuroBench is not installed: pip install -e '.[neurobench]'")
    net = chain(5, 8)
    net = replace(net, input=replace(net.input, encoder=encoder))
    frames, chip = course(5), ReferenceChip(net)
    before = [None, *frames[:-1]]
    ours = [
        count_ours(chip, net, frame, 0, earlier)
        for frame, earlier in zip(frames, before, strict=True)
    ]
    assert count_with_neurobench(net, np.stack(frames), 0, before) == ours
    assert sum(count.graded for count in ours) > 100

"""The torch twin equals the reference; NeuroBench's counts of it equal ours."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

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
        "2 of 2 recorded decisions agree exactly in effective synaptic operations (2,007 in all) "
        "and activation sparsity (75.0000%); counted by NeuroBench 2."
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

"""Integer networks in ONNX Runtime: every spike and membrane equals the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.files.onnx.graph import save_onnx
from mtspark.deploy.formats.onnx_integer import integer_model
from mtspark.sim.backends.onnx import OnnxChip
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import conv, dense, frames_for, network, population, varied_networks


def equal(net: ChipNetwork, folder: Path, rows: list[int], seed: int, task: int | None) -> int:
    """Compare whole decisions one after the other; returns how many steps were compared."""
    save_onnx(integer_model(net, task), folder / "step.onnx")
    chip, reference = OnnxChip(folder / "step.onnx", trust=True), ReferenceChip(net)
    steps = 0
    for number, row in enumerate(rows):
        frames = frames_for(net, 2, seed + number)
        one, two = reference.decide(frames, row, trace=True), chip.decide(frames, row, trace=True)
        assert one.trace is not None
        assert two.trace is not None
        for name, membranes in one.trace.membranes.items():
            assert np.array_equal(two.trace.membranes[name], membranes), (number, name)
            assert np.array_equal(two.trace.spikes[name], one.trace.spikes[name])
        assert np.array_equal(one.values, two.values)
        for name, sent in one.activity.window.items():
            assert np.array_equal(two.activity.window[name], sent)
            assert np.array_equal(two.activity.drain[name], one.activity.drain[name])
        steps += net.steps_per_decision
    return steps


@given(net=varied_networks(), seed=st.integers(0, 1000), baked=st.booleans())
@settings(deadline=None, max_examples=20)
def test_every_spike_and_membrane_equals_the_reference(
    tmp_path_factory: pytest.TempPathFactory, net: ChipNetwork, seed: int, baked: bool
) -> None:
    row = len(net.tasks) - 1
    rows = [row, row] if baked else [row, 0, row]
    equal(net, tmp_path_factory.mktemp("onnx"), rows, seed, row if baked else None)


def test_a_hundred_steps_of_a_busy_network_are_equal(tmp_path: Path) -> None:
    """All signs, wraps of the current, saturated membranes, graded messages."""
    rng = np.random.default_rng(4)
    even = rng.integers(-128, 128, (3, 2, 3, 3)) * 2
    net = network(
        (2, 7, 6),
        [
            population("c", rng.integers(0, 131072, (1, 3, 7, 6)), membrane_decay=163),
            population("d", rng.integers(0, 3000, (1, 9)), current_decay=40, membrane_decay=7),
            population("out", [[131071] * 4], membrane_decay=0),
        ],
        [
            conv(INPUT, "c", even, padding=(1, 1), exponent=3),
            dense("c", "d", rng.integers(-128, 128, (9, 126)) * 2, exponent=7),
            dense("d", "out", rng.integers(-128, 128, (4, 9)) * 2, exponent=-3),
        ],
        payload_bits=8,
        time_steps=7,
    )
    assert equal(net, tmp_path, [0] * 10, 3, None) >= 100


def wide(channels: int) -> ChipNetwork:
    weights = np.full((1, channels, 8, 8), 254)
    return network(
        (channels, 8, 8),
        [population("c", np.full((1, 1, 1, 1), 100_000))],
        [conv(INPUT, "c", weights, exponent=-8)],
        payload_bits=8,
    )


def test_sums_beyond_float32_are_split_and_stay_exact(tmp_path: Path) -> None:
    net = wide(16)
    assert net.connections[0].weights.sum() * 255 > 2**25
    net = replace(
        net,
        connections=(
            replace(
                net.connections[0],
                weights=net.connections[0].weights
                - 2 * np.random.default_rng(0).integers(0, 2, (1, 16, 8, 8)),
            ),
        ),
    )
    equal(net, tmp_path, [0, 0, 0], 1, None)


def test_a_convolution_that_cannot_be_exact_is_refused() -> None:
    with pytest.raises(BadNetworkError, match="exact in ONNX Runtime's float32"):
        integer_model(wide(1200))


def test_requests_are_checked(tmp_path: Path) -> None:
    net = network((3,), [population("p", [[5], [7]])], [dense(INPUT, "p", [[2, 4, 6]])])
    net = replace(net, tasks=(net.tasks[0], replace(net.tasks[0], name="b")))
    with pytest.raises(BadRequestError, match="task 2"):
        integer_model(net, 2)
    save_onnx(integer_model(net, 1), tmp_path / "b.onnx")
    chip = OnnxChip(tmp_path / "b.onnx")
    with pytest.raises(BadRequestError, match="for task 'b' only"):
        chip.decide(np.zeros((1, 3), np.uint8), 0)
    with pytest.raises(BadRequestError, match="frames are"):
        chip.decide(np.zeros((1, 4), np.uint8), 1)
    assert chip.decide(np.zeros((4, 3), np.uint8), 1).values.shape == (4, 1)


def test_a_current_far_beyond_32_bits_decays(tmp_path: Path) -> None:
    """Sixteen of them together, of both signs, at rates of their own, over several decisions."""
    weights = np.where(np.arange(16)[:, None] % 3 == 0, -256, 254) + np.zeros((16, 40), int)
    decays = np.resize([163, 2048, 0, 4095], 16)
    hidden = population("hidden", [[131071] * 16], current_decay=decays, membrane_decay=4096)
    net = network(
        (40,),
        [hidden, population("out", [[131071] * 4], membrane_decay=0)],
        [
            dense(INPUT, "hidden", weights, exponent=7),
            dense("hidden", "out", np.full((4, 16), 2)),
        ],
        payload_bits=8,
        time_steps=6,
    )
    assert equal(net, tmp_path, [0] * 6, 0, None) >= 40


def test_a_membrane_far_beyond_32_bits_saturates(tmp_path: Path) -> None:
    """A current that hardly decays grows by 2^30 a step; many neurons, as vectors are taken."""
    first = population("first", np.full((1, 1, 4, 5), 1), current_decay=0, membrane_decay=4096)
    weights = np.full((1, 2, 1, 2), -256)
    net = network(
        (2, 4, 6),
        [first, population("out", [[1]])],
        [conv(INPUT, "first", weights, exponent=7), dense("first", "out", np.zeros((1, 20), int))],
        payload_bits=8,
        time_steps=5,
    )
    assert equal(net, tmp_path, [0, 0], 3, None) > 10

"""Integer networks in ONNX Runtime: every spike and membrane equals the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network import Encoder
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.files.onnx.graph import save_onnx
from mtspark.deploy.formats.onnx_integer import integer_model
from mtspark.sim.backends.onnx import OnnxChip
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
    varied_networks,
)


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


def kept_network() -> ChipNetwork:
    """A convolution and a delayed skip hear the frame; their sums are shifted down and up."""
    rng = np.random.default_rng(11)
    tasks = (PONG, BREAKOUT)
    return network(
        (2, 6, 5),
        [
            population("c", rng.integers(0, 4000, (2, 3, 4, 4)), membrane_decay=163),
            population("d", rng.integers(0, 9000, (2, 6)), current_decay=40),
            population("out", [[131071] * 4] * 2, membrane_decay=0),
        ],
        [
            conv(INPUT, "c", rng.integers(-40, 40, (3, 2, 3, 2)) * 2, exponent=-6),
            dense("c", "d", rng.integers(-128, 128, (6, 48)) * 2, exponent=3),
            dense(INPUT, "d", rng.integers(-40, 40, (6, 60)) * 2, exponent=-3, delay=1),
            dense("d", "out", rng.integers(-128, 128, (4, 6)) * 2),
        ],
        payload_bits=8,
        time_steps=3,
        tasks=tasks,
    )


@pytest.mark.parametrize("encoder", [Encoder.HELD, Encoder.CHANGES])
def test_the_sum_of_a_frame_goes_in_and_comes_out(encoder: Encoder, tmp_path: Path) -> None:
    """Sixty decisions of games that end, by ONNX Runtime alone, against the engine.

    At rest is all zeros: the sums, too, and the frame that changes are taken against.
    """
    net = kept_network()
    net = replace(net, input=replace(net.input, encoder=encoder))
    save_onnx(integer_model(net), tmp_path / "step.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx")
    ports = {port.name: port for port in session.get_inputs()}
    assert ports["input"].type == "tensor(uint8)"
    state_names = set(ports) - {"input", "step", "task"}
    assert {name for name in state_names if name.startswith("sum.")} == {
        f"sum.{link.name}" for link in net.connections if link.source == INPUT
    }
    assert ("frame.input" in state_names) is (encoder is Encoder.CHANGES)
    names = [entry.name for entry in session.get_outputs()]
    chip, rng, frames = EngineChip(net), np.random.default_rng(5), np.zeros((2, 2, 6, 5), np.uint8)
    state: dict[str, np.ndarray] = {}
    for number in range(60):
        if number % 17 == 0:
            chip.start(2)
            state = {
                name: np.zeros((2, *ports[name].shape[1:]), ports[name].type[7:-1])
                for name in state_names
            }
        fresh = rng.random(frames.shape) < 0.3
        frames = np.where(fresh, rng.integers(0, 256, frames.shape), frames).astype(np.uint8)
        row = number // 5 % 2
        wanted = chip.decide(frames, row, trace=True)
        assert wanted.trace is not None
        messages = np.zeros(frames.shape, np.int64)
        for step in range(net.steps_per_decision):
            feeds = {"input": frames, "step": np.array(step), "task": np.array(row)}
            results = dict(zip(names, session.run(names, {**feeds, **state}), strict=True))
            state = {name: results[f"next.{name}"] for name in state_names}
            messages += state["sent.input.0"] != 0
            for entry in net.populations:
                where = (number, step, entry.name)
                spikes, membranes = state[f"sent.{entry.name}.0"], state[f"membrane.{entry.name}"]
                assert np.array_equal(spikes, wanted.trace.spikes[entry.name][step]), where
                assert np.array_equal(membranes, wanted.trace.membranes[entry.name][step]), where
        assert np.array_equal(results["values"], wanted.values)
        assert np.array_equal(messages, wanted.activity.window[INPUT])
        by_hand = (net.connections[2].weights @ frames.reshape(2, -1).T.astype(np.int64)).T
        assert np.array_equal(state["sum.input->d"], by_hand)


@given(net=frame_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=10)
def test_every_encoder_equals_the_reference(
    tmp_path_factory: pytest.TempPathFactory, net: ChipNetwork, seed: int
) -> None:
    row = len(net.tasks) - 1
    equal(net, tmp_path_factory.mktemp("onnx"), [row, 0, row, 0], seed, None)

"""Frames that are held, or sent as changes: the same spikes, fewer messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtspark
from mtspark.core.chip_network import Encoder, network_from_json, network_to_json
from mtspark.core.chip_network.network import INPUT, ChipNetwork, FrameInput, Reset, SignMode
from mtspark.core.errors import BadNetworkError
from mtspark.deploy.chips import load_chip
from mtspark.deploy.chips.rules import chip_violations
from mtspark.deploy.formats.netx import netx_layers
from mtspark.deploy.lava.build import check_fits_lava
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip
from tests.support.networks import conv, dense, frame_networks, network, population, three_neurons
from tests.support.scalar_chip import ScalarChip

KEPT = [Encoder.HELD, Encoder.CHANGES]


def with_encoder(net: ChipNetwork, encoder: Encoder) -> ChipNetwork:
    return replace(net, input=replace(net.input, payload_bits=8, encoder=encoder))


def course(net: ChipNetwork, batch: int, decisions: int, seed: int) -> np.ndarray:
    """Frames of a game: few values change from one to the next; one frame is dark."""
    generator = np.random.default_rng(seed)
    frames = generator.integers(0, 256, (decisions, batch, *net.input.shape)).astype(np.uint8)
    for number in range(1, decisions):
        still = generator.random(frames[number].shape) < 0.8
        frames[number][still] = frames[number - 1][still]
    frames[decisions // 2] = 0
    return frames.view(net.input.dtype)


@given(net=frame_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_every_spike_and_membrane_equals_plain_integers(net: ChipNetwork, seed: int) -> None:
    """Decisions under changing tasks; after the second one a game of three ends."""
    chip, scalars = ReferenceChip(net), [ScalarChip(net) for _ in range(3)]
    messages = 0
    for number, frames in enumerate(course(net, 3, 4, seed)):
        if number == 2:
            chip.keep(np.array([2, 0]))
            scalars = [scalars[2], scalars[0]]
        frames, row = frames[: len(scalars)], number % len(net.tasks)
        decision = chip.decide(frames, row, trace=True)
        assert decision.trace is not None
        messages += int(decision.activity.window[INPUT].sum())
        for member, scalar in enumerate(scalars):
            spikes, membranes = scalar.decide(frames[member], row)
            for (step, name, index), expected in membranes.items():
                where = (step - 1, member, *index)
                assert decision.trace.membranes[name][where] == expected
                assert decision.trace.spikes[name][where] == spikes[step, name, index]
        if number == 1 and net.input.encoder is not Encoder.EVERY_STEP:
            assert messages == sum(scalar.messages for scalar in scalars)


@given(net=frame_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_all_encoders_give_the_same_spikes_and_membranes(net: ChipNetwork, seed: int) -> None:
    chips = [ReferenceChip(with_encoder(net, encoder)) for encoder in Encoder]
    for number, frames in enumerate(course(net, 2, 4, seed)):
        row = number % len(net.tasks)
        traces = [chip.decide(frames, row, trace=True).trace for chip in chips]
        for trace in traces[1:]:
            assert trace is not None
            assert traces[0] is not None
            for name, membranes in traces[0].membranes.items():
                np.testing.assert_array_equal(membranes, trace.membranes[name])
                np.testing.assert_array_equal(traces[0].spikes[name], trace.spikes[name])


def test_messages_by_hand() -> None:
    """T = 2. Frames (7, 0), (7, 3), (7, 3), (0, 4): nonzero, once a decision, changes."""
    net = replace(three_neurons(), input=FrameInput((2,), 8))
    frames = np.array([[7, 0], [7, 3], [7, 3], [0, 4]], np.uint8)
    wanted = {
        Encoder.EVERY_STEP: [[2, 0], [2, 2], [2, 2], [0, 2]],
        Encoder.HELD: [[1, 0], [1, 1], [1, 1], [0, 1]],
        Encoder.CHANGES: [[1, 0], [0, 1], [0, 0], [1, 1]],
    }
    for encoder, counts in wanted.items():
        for chip in (
            ReferenceChip(with_encoder(net, encoder)),
            EngineChip(with_encoder(net, encoder)),
        ):
            activities = [chip.decide(frame[None], 0).activity for frame in frames]
            assert [one.window[INPUT][0].tolist() for one in activities] == counts
            assert not any(one.drain[INPUT].any() for one in activities)


@pytest.mark.parametrize("encoder", KEPT)
def test_changes_under_a_negative_exponent_never_drift(encoder: Encoder) -> None:
    """A sum of shifted changes would lose a part of a unit at every change."""
    net = network(
        (2,),
        [population("out", np.full((1, 2), 2**17 - 1))],
        [dense(INPUT, "out", np.array([[2, -2], [6, 10]]), exponent=-6)],
        payload_bits=8,
        time_steps=1,
    )
    plain, chip = ReferenceChip(net), EngineChip(with_encoder(net, encoder))
    generator = np.random.default_rng(0)
    for _ in range(300):
        frame = generator.integers(0, 256, (1, 2)).astype(np.uint8)
        np.testing.assert_array_equal(plain.decide(frame, 0).values, chip.decide(frame, 0).values)


def test_a_state_of_the_engine_goes_on_from_its_frame() -> None:
    net = with_encoder(three_neurons(), Encoder.CHANGES)
    chip, other = EngineChip(net), EngineChip(net)
    frames = np.array([[[9, 1]], [[9, 2]]], np.uint8)
    chip.decide(frames[0], 0)
    other.restore(chip.state())
    for one in (chip, other):
        assert one.decide(frames[1], 0).activity.window[INPUT].tolist() == [[0, 1]]
    other.start(1)
    assert other.decide(frames[1], 0).activity.window[INPUT].tolist() == [[1, 1]]


def pixels_as_biases() -> ChipNetwork:
    """All that netx holds of graded inputs: each drives one neuron of the first layer."""
    return network(
        (1, 2, 2),
        [
            population("seen", np.full((1, 1, 2, 2), 300)),
            population("out", np.full((1, 2), 5), bias_exponent=6),
        ],
        [
            conv(INPUT, "seen", [[[[1]]]], sign_mode=SignMode.EXCITATORY),
            dense("seen", "out", np.array([[2, 4, 6, 8], [8, 6, 4, 2]])),
        ],
        payload_bits=8,
    )


@pytest.mark.parametrize("encoder", KEPT)
def test_what_has_no_such_neurons_names_an_encoder_that_helps(encoder: Encoder) -> None:
    net = with_encoder(pixels_as_biases(), encoder)
    for refuse in (partial(check_fits_lava, stock=True), netx_layers):
        with pytest.raises(BadNetworkError, match=r"export with --encoder every-step$"):
            refuse(net)
        refuse(with_encoder(net, Encoder.EVERY_STEP))
    broken = [str(one) for one in chip_violations(net, load_chip("loihi1"))]
    assert any(f"encoder {encoder.value}" in line and "every-step" in line for line in broken)
    assert not [one for one in chip_violations(net, load_chip("loihi2")) if "encoder" in str(one)]


@pytest.mark.parametrize("encoder", KEPT)
def test_an_encoder_is_not_advised_where_something_else_is_in_the_way(encoder: Encoder) -> None:
    net = with_encoder(three_neurons(), encoder)
    with pytest.raises(BadNetworkError, match="hears graded messages") as caught:
        netx_layers(net)
    assert "--encoder" not in str(caught.value)
    hidden, out = net.populations
    net = replace(net, populations=(replace(hidden, reset=Reset.SUBTRACT), out))
    with pytest.raises(BadNetworkError, match="use the backend lava") as caught:
        check_fits_lava(net, stock=True)
    assert "--encoder" not in str(caught.value)
    check_fits_lava(net)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"payload_bits": 0}, "the input sends spikes, encoder changes sends values"),
        ({"held": False}, "a series of slices, encoder changes holds one frame"),
    ],
)
def test_only_a_frame_of_values_is_held(changes: dict[str, Any], words: str) -> None:
    net = with_encoder(three_neurons(), Encoder.CHANGES)
    with pytest.raises(BadNetworkError, match=words):
        ReferenceChip(replace(net, input=replace(net.input, **changes)))


def test_sums_that_do_not_fit_are_refused() -> None:
    """130 weights of 254 under values of 255: 8,420,100 of 8,388,607."""
    net = network(
        (130,),
        [population("out", np.full((1, 1), 2**17 - 1))],
        [dense(INPUT, "out", np.full((1, 130), 254), exponent=-6)],
        payload_bits=8,
    )
    ReferenceChip(net)
    with pytest.raises(BadNetworkError, match="can reach 8,420,100, encoder held holds less"):
        ReferenceChip(with_encoder(net, Encoder.HELD))


def test_the_default_is_not_written() -> None:
    net = with_encoder(three_neurons(), Encoder.EVERY_STEP)
    data, arrays = network_to_json(net)
    assert "encoder" not in data["input"]
    assert network_from_json(data, arrays, "x").input.encoder is Encoder.EVERY_STEP
    data, arrays = network_to_json(with_encoder(net, Encoder.CHANGES))
    assert data["input"]["encoder"] == "changes"
    assert network_from_json(data, arrays, "x").input.encoder is Encoder.CHANGES


@pytest.mark.slow
def test_an_agent_plays_the_same_games_for_fewer_messages(
    make_agent: Callable[..., Any], tmp_path: Path
) -> None:
    chips = {name: mtspark.export(make_agent(), encoder=name) for name in ("every-step", "changes")}
    plain, changed = (chip.play("pong", max_decisions=20).run for chip in chips.values())
    assert plain.episodes == changed.episodes
    assert changed.counts.input_events.total < 0.25 * plain.counts.input_events.total
    assert plain.counts.layers[1:] == changed.counts.layers[1:]
    bills = [chip.energy(card="loihi2_pilotnet") for chip in chips.values()]
    assert bills[1].dynamic_j_per_decision < bills[0].dynamic_j_per_decision
    assert chips["changes"].map("loihi1").mapping.violations
    formats = mtspark.export(make_agent(), encoder="changes", formats="onnx,lava")
    folder = formats.save(tmp_path / "x.deploy")
    assert mtspark.load_bundle(folder).diff(folder / "network.onnx", decisions=3).equal

"""The engine's state: a run in parts equals a run at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import INPUT, ChipNetwork, ReadoutKind
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.engine.chip import EngineChip
from tests.support.engine_checks import PATHS, assert_same, wide_networks
from tests.support.networks import (
    dense,
    frames_for,
    network,
    population,
    three_neurons,
    varied,
    varied_networks,
)


@given(net=varied_networks(), seed=st.integers(0, 1000), split=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_a_run_in_two_parts_equals_one_run(net: ChipNetwork, seed: int, split: int) -> None:
    frames = [frames_for(net, 2, seed + number) for number in range(4)]
    whole = EngineChip(net)
    expected = [whole.decide(batch, 0, trace=True) for batch in frames]
    first = EngineChip(net)
    for batch in frames[:split]:
        first.decide(batch, 0)
    saved = first.state()
    first.decide(frames[0], 0)  # A saved state is a copy: going on does not change it.
    second = EngineChip(net, threads=2)
    second.decide(frames_for(net, 3, seed), 0)  # Whatever it did before is forgotten.
    for chip in (second, first):
        chip.restore(saved)
        for batch, decision in zip(frames[split:], expected[split:], strict=True):
            assert_same(chip.decide(batch, 0, trace=True), decision)
    second.close()


@given(
    net=st.one_of(varied_networks(), varied(wide_networks())),
    seed=st.integers(0, 1000),
    first=st.integers(1, 20),
    path=PATHS,
)
@settings(deadline=None, max_examples=30)
def test_a_plus_b_steps_of_a_decision_equal_both_at_once(
    net: ChipNetwork, seed: int, first: int, path: str
) -> None:
    """Two decisions, the second one in two parts; another chip goes on from a saved state."""
    earlier, frames = frames_for(net, 2, seed), frames_for(net, 2, seed + 1)
    whole, one, other = (EngineChip(net, path=path) for _ in range(3))
    whole.decide(earlier, 0)
    expected = whole.decide(frames, 0, trace=True)
    first = min(first, net.steps_per_decision - 1)
    one.decide(earlier, 0)
    parts = [one.advance(frames, 0, range(first), trace=True)]
    other.restore(one.state())
    parts.append(other.advance(frames, 0, range(first, net.steps_per_decision), trace=True))
    assert expected.trace is not None
    for name, membranes in expected.trace.membranes.items():
        traces = [part.trace for part in parts if part.trace is not None]
        joined = np.concatenate([trace.membranes[name] for trace in traces])
        assert np.array_equal(joined, membranes)
        joined = np.concatenate([trace.spikes[name] for trace in traces])
        assert np.array_equal(joined, expected.trace.spikes[name])
    for name in expected.activity.window:
        for kind in ("window", "drain"):
            found = sum(getattr(part.activity, kind)[name] for part in parts)
            assert np.array_equal(found, getattr(expected.activity, kind)[name])
    counted = net.readout.kind is ReadoutKind.SPIKES
    values = parts[0].values + parts[1].values if counted else parts[1].values
    assert np.array_equal(values, expected.values)
    walked = {name: one.synops_walked[name] + more for name, more in other.synops_walked.items()}
    assert walked == whole.synops_walked


def test_messages_on_their_way_are_part_of_a_state() -> None:
    """Biased neurons also fire after their window, into a delay of 3 that outlasts the decision.

    The decision of 10 steps is no multiple of the ring of 4 in which messages wait, so their
    place in it matters too.
    """
    first = population(
        "one", [[40, 100, 55]], membrane_decay=0, bias_mantissa=np.array([700, 900, 1100])
    )
    net = network(
        (1,),
        [first, population("out", [[131_071]], membrane_decay=4096)],
        [
            dense(INPUT, "one", [[32]] * 3),
            dense("one", "out", [[2, 16, 128]], delay=3),
        ],
        time_steps=5,
    )
    frame = np.ones((1, 1), np.uint8)
    chip = EngineChip(net)
    fresh = chip.decide(frame, 0, trace=True)
    saved = chip.state()
    expected = chip.decide(frame, 0, trace=True)
    assert fresh.trace is not None
    assert expected.trace is not None
    assert not np.array_equal(fresh.trace.membranes["out"], expected.trace.membranes["out"])
    other = EngineChip(net)
    other.restore(saved)
    assert_same(other.decide(frame, 0, trace=True), expected)
    other.restore(replace(saved, clock=0))
    wrong = other.decide(frame, 0, trace=True)
    assert wrong.trace is not None
    assert not np.array_equal(wrong.trace.membranes["out"], expected.trace.membranes["out"])


def test_another_batch_size_starts_new_chips_and_so_does_start() -> None:
    net = three_neurons()
    chip, reference = EngineChip(net), ReferenceChip(net)
    for batch in (1, 2, 1):
        frames = np.ones((batch, 2), np.uint8)
        expected = reference.decide(frames, 0, trace=True)
        assert_same(chip.decide(frames, 0, trace=True), expected)
    chip.start(1)
    reference.start(1)
    frames = np.ones((1, 2), np.uint8)
    assert_same(chip.decide(frames, 0), reference.decide(frames, 0))


def test_foreign_and_damaged_states_are_refused() -> None:
    def small(seed: int) -> EngineChip:
        weights = np.random.default_rng(seed).integers(-9, 9, (4, 2)) * 2
        net = network((2,), [population("out", [[50] * 4])], [dense(INPUT, "out", weights)])
        return EngineChip(net)

    chip, other = small(0), small(1)
    with pytest.raises(BadRequestError, match="no state yet"):
        chip.state()
    for each in (chip, other):
        each.decide(np.ones((1, 2), np.uint8), 0)
    state = chip.state()
    arrays = state.arrays
    beyond = arrays[0].copy()
    beyond[0, 0] = 2**23
    for wrong in (
        other.state(),
        replace(state, batch=2),
        replace(state, batch=0),
        replace(state, arrays=arrays[:3]),
        replace(state, arrays=tuple(array.astype(float) for array in arrays)),
        replace(state, arrays=(beyond, *arrays[1:])),
    ):
        with pytest.raises(BadRequestError, match="does not fit"):
            chip.restore(wrong)
    chip.restore(state)


def test_a_decision_ends_with_the_batch_that_it_began_with() -> None:
    chip = EngineChip(three_neurons())
    one, two = np.ones((1, 2), np.uint8), np.ones((2, 2), np.uint8)
    with pytest.raises(BadRequestError, match="1 frames from step 1 on: 0 chips run"):
        chip.advance(one, 0, range(1, 2))
    chip.advance(one, 0, range(2))
    saved = chip.state()
    with pytest.raises(BadRequestError, match="2 frames from step 2 on: 1 chips run"):
        chip.advance(two, 0, range(2, 4))
    expected = chip.advance(one, 0, range(2, 4))
    fresh = EngineChip(three_neurons())
    fresh.restore(saved)
    assert_same(fresh.advance(one, 0, range(2, 4)), expected)

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.agent import Decision
from mtspark.core.chip_network import INPUT, ChipNetwork, ReadoutKind, SignMode
from mtspark.core.errors import BadRequestError
from mtspark.sim import engine_plan
from mtspark.sim.counts import Counter, fan_out
from mtspark.sim.engine import EngineChip
from mtspark.sim.reference import ReferenceChip
from tests.networks import (
    BREAKOUT,
    PONG,
    conv,
    dense,
    frames_for,
    layers,
    network,
    population,
    random_networks,
    random_weights,
    sparse,
    three_neurons,
    varied,
    varied_networks,
)

PATHS = st.sampled_from(["automatic", "events", "product"])


@st.composite
def wide_networks(draw: st.DrawFn) -> ChipNetwork:
    """Two convolutions of many channels: whole vectors, ends of vectors, groups, skips."""
    tasks = draw(st.integers(1, 2))
    channels = draw(st.sampled_from([1, 3, 4, 17]))
    middle = draw(st.sampled_from([4, 16, 20, 70]))
    groups = draw(st.sampled_from([1, 2, middle]))
    out = groups * draw(st.sampled_from([1, 9, 16])) if groups <= 2 else middle
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    height, width = 8, 9

    def size(length: int, axis: int) -> int:
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        return (length + 2 * padding[axis] - reach) // stride[axis] + 1

    rows, columns = size(height, 0), size(width, 1)
    if rows < 1 or columns < 1:
        dilation, rows, columns = (1, 1), 0, 0
        rows, columns = size(height, 0), size(width, 1)
    first = draw(layers("first", (middle, height, width), tasks))
    second = draw(layers("second", (out, rows, columns), tasks))
    last = draw(layers("last", (18,), tasks))
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return network(
        (channels, height, width),
        [first, second, last],
        [
            conv(
                INPUT,
                "first",
                **draw(random_weights((middle, channels, 3, 3))),
                padding=(1, 1),
            ),
            conv(
                "first",
                "second",
                **draw(random_weights((out, middle // groups, *kernel))),
                **geometry,
            ),
            draw(st.sampled_from([dense, sparse]))(
                "second", "last", **draw(random_weights((18, second.size)))
            ),
            dense("first", "last", **draw(random_weights((18, first.size))), delay=1),
        ],
        payload_bits=draw(st.sampled_from([0, 8])),
        time_steps=draw(st.integers(1, 3)),
        tasks=(PONG, BREAKOUT)[:tasks],
    )


def assert_same(found: Decision, expected: Decision) -> None:
    assert np.array_equal(found.values, expected.values)
    for name, messages in expected.activity.window.items():
        assert np.array_equal(found.activity.window[name], messages), name
        assert np.array_equal(found.activity.drain[name], expected.activity.drain[name]), name
    assert (found.trace is None) == (expected.trace is None)
    if found.trace is None or expected.trace is None:
        return
    assert list(found.trace.spikes) == list(expected.trace.spikes)
    for name, membranes in expected.trace.membranes.items():
        assert found.trace.membranes[name].dtype == membranes.dtype
        assert found.trace.spikes[name].dtype == np.bool_
        assert np.array_equal(found.trace.membranes[name], membranes), name
        assert np.array_equal(found.trace.spikes[name], expected.trace.spikes[name]), name


def assert_equals_the_reference(
    net: ChipNetwork, seed: int, tasks: list[int], **options: Any
) -> None:
    """Several decisions with changing frames and tasks, and the operations walked in them."""
    engine, reference = EngineChip(net, **options), ReferenceChip(net)
    counter, engines_counter, spikes = Counter(net), Counter(net), []
    for number, task in enumerate([0, *tasks]):
        frames = frames_for(net, 2, seed + number)
        row = task % len(net.tasks)
        expected = reference.decide(frames, row, trace=True)
        found = engine.decide(frames, row, trace=True)
        # Added before anything is read of it: the way that adds by lane.
        engines_counter.add(found.activity)
        assert_same(found, expected)
        assert expected.trace is not None
        counter.add(expected.activity)
        spikes.append(expected.trace.spikes)
    assert engines_counter.result() == counter.result()
    counted = {layer.name: layer.synops_structural.total for layer in counter.result().layers}
    for link in net.connections:
        counted[link.target] -= engine.synops_walked[link.name]
        if link.source == INPUT:
            continue
        # Counts book an operation when a message is sent, the engine when it arrives: what was
        # sent in the very last steps is still on its way. A loop does not deliver that, nor what
        # was sent outside of the window.
        fans, _ = fan_out(link, net.shape_of(link.source), net.shape_of(link.target))
        on_the_way = np.arange(net.steps_per_decision) >= net.steps_per_decision - 1 - link.delay
        if link.recurrent:
            lost = np.ones_like(on_the_way)
            lost[net.window(link.source)] = False
            late = [part[link.source][on_the_way | lost] for part in spikes]
        else:
            sent = np.concatenate([part[link.source] for part in spikes])
            late = [sent[-1 - link.delay :]]
        counted[link.target] -= sum(int((part * fans).sum()) for part in late)
    assert not any(counted.values())
    engine.close()


@given(
    net=random_networks(),
    seed=st.integers(0, 1000),
    tasks=st.lists(st.integers(0, 1), max_size=2),
    path=PATHS,
    hold=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_every_spike_membrane_and_operation_equals_the_reference(
    net: ChipNetwork, seed: int, tasks: list[int], path: str, hold: bool
) -> None:
    assert_equals_the_reference(net, seed, tasks, path=path, hold_frame=hold)


@given(
    net=st.one_of(varied_networks(), varied(wide_networks())),
    seed=st.integers(0, 1000),
    tasks=st.lists(st.integers(0, 1), max_size=2),
    path=PATHS,
)
@settings(deadline=None, max_examples=80)
def test_every_reset_decay_loop_series_and_readout_equals_the_reference(
    net: ChipNetwork, seed: int, tasks: list[int], path: str
) -> None:
    assert_equals_the_reference(net, seed, tasks, path=path)


@given(net=wide_networks(), seed=st.integers(0, 1000), path=PATHS)
@settings(deadline=None, max_examples=40)
def test_networks_of_many_channels_equal_the_reference(
    net: ChipNetwork, seed: int, path: str
) -> None:
    assert_equals_the_reference(net, seed, [1], path=path)


@pytest.mark.slow
@given(
    net=st.one_of(varied_networks(), wide_networks(), varied(wide_networks())),
    seed=st.integers(0, 1000),
    path=PATHS,
)
@settings(deadline=None, max_examples=2000)
def test_thousands_of_networks_equal_the_reference(net: ChipNetwork, seed: int, path: str) -> None:
    assert_equals_the_reference(net, seed, [1, 0], path=path)


@pytest.mark.parametrize("current_decay", [4095, 0, 100])
@pytest.mark.parametrize("mode", list(SignMode))
def test_currents_that_wrap_and_membranes_that_saturate(mode: SignMode, current_decay: int) -> None:
    """Full-scale weights and payloads: A = 255 * 9 * 255 * 2^7 * 2^6, far beyond 2^24."""
    extreme = {SignMode.MIXED: 254, SignMode.EXCITATORY: 255, SignMode.INHIBITORY: -255}[mode]
    for exponent in (-8, -3, 0, 2, 3, 4, 5, 7):
        changes = {"current_decay": current_decay, "membrane_decay": 1000}
        net = network(
            (1, 3, 3),
            [population("all", np.full((1, 4), 131_071), **changes)],
            [dense(INPUT, "all", np.full((4, 9), extreme), sign_mode=mode, exponent=exponent)],
            payload_bits=8,
            time_steps=9,
        )
        for brightness in (1, 3, 100, 255):
            frames = np.full((1, 1, 3, 3), brightness, np.uint8)
            expected = ReferenceChip(net).decide(frames, 0, trace=True)
            assert_same(EngineChip(net).decide(frames, 0, trace=True), expected)


@given(
    net=st.one_of(varied_networks(), wide_networks(), varied(wide_networks())),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_a_batch_equals_a_loop_and_two_threads_equal_one(net: ChipNetwork, seed: int) -> None:
    frames = [frames_for(net, 5, seed), frames_for(net, 5, seed + 1)]
    together, threaded = EngineChip(net), EngineChip(net, threads=2)
    alone = [EngineChip(net) for _ in range(5)]
    for batch in frames:
        decision = together.decide(batch, 0, trace=True)
        assert_same(threaded.decide(batch, 0, trace=True), decision)
        for member, chip in enumerate(alone):
            single = chip.decide(batch[member : member + 1], 0, trace=True)
            assert np.array_equal(single.values[0], decision.values[member])
            assert decision.trace is not None
            assert single.trace is not None
            for name, membranes in decision.trace.membranes.items():
                assert np.array_equal(single.trace.membranes[name][:, 0], membranes[:, member])
            for name, sent in decision.activity.window.items():
                assert np.array_equal(single.activity.window[name][0], sent[member])
    assert threaded.synops_walked == together.synops_walked
    assert together.synops_walked == {
        name: sum(chip.synops_walked[name] for chip in alone) for name in together.synops_walked
    }
    threaded.close()
    threaded.close()


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


def test_long_windows_are_counted_beyond_eight_bits() -> None:
    """A neuron that fires 600 times, before, within and after its window."""
    net = network(
        (1,),
        [
            population("one", [[1]], bias_mantissa=np.array([100])),
            population("out", [[1]], bias_mantissa=np.array([100])),
        ],
        [dense(INPUT, "one", [[2]], delay=62), dense("one", "out", [[2]], delay=62)],
        time_steps=600,
    )
    frames = np.ones((1, 1), np.uint8)
    expected = ReferenceChip(net).decide(frames, 0, trace=True)
    assert expected.activity.window["out"].sum() == 600
    assert expected.activity.drain["out"].sum() == 126
    assert_same(EngineChip(net).decide(frames, 0, trace=True), expected)


def test_sums_beyond_32_bits_are_exact() -> None:
    """40,000 full-scale pixels of one sign reach 2.6e9; the engine lists their synapses."""
    generator = np.random.default_rng(0)
    net = network(
        (1, 200, 200),
        [population("wide", np.full((1, 3), 131_071), current_decay=7)],
        [
            dense(
                INPUT,
                "wide",
                np.where(generator.random((3, 40_000)) < 0.999, 255, 0),
                sign_mode=SignMode.EXCITATORY,
                exponent=-8,
            )
        ],
        payload_bits=8,
    )
    frames = np.full((1, 1, 200, 200), 255, np.uint8)
    chip = EngineChip(net)
    expected = ReferenceChip(net).decide(frames, 0, trace=True)
    assert_same(chip.decide(frames, 0, trace=True), expected)
    assert chip.synops_walked == {"input->wide": 3 * 40_000 * net.time_steps}


@given(net=st.one_of(random_networks(), wide_networks()), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_listed_synapses_equal_the_reference(net: ChipNetwork, seed: int) -> None:
    """Every connection as if its sums needed 64 bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_plan, "LARGEST_SUM", -1)
        assert_equals_the_reference(net, seed, [0])


@given(net=st.one_of(varied_networks(), varied(wide_networks())), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_neurons_in_64_bits_equal_the_reference(net: ChipNetwork, seed: int) -> None:
    """Every population as if no proof for 32 bits covered it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_plan.PlanBuilder, "_fits_32_bits", lambda *_: False)
        assert_equals_the_reference(net, seed, [0])


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
        EngineChip(three_neurons()).decide(frames, task)


def test_wrong_options_and_foreign_states_are_refused() -> None:
    chip = EngineChip(three_neurons())
    with pytest.raises(BadRequestError, match="no state yet"):
        chip.state()
    with pytest.raises(BadRequestError, match="threads"):
        EngineChip(three_neurons(), threads=0)
    with pytest.raises(BadRequestError, match="automatic, events, product"):
        EngineChip(three_neurons(), path="fast")
    with pytest.raises(BadRequestError, match="batch of 0"):
        chip.start(0)
    for steps in (range(0), range(3, 9), range(-1, 2), range(0, 4, 2)):
        with pytest.raises(BadRequestError, match="0 to 4, one by one"):
            chip.advance(np.ones((1, 2), np.uint8), 0, steps)
    other = EngineChip(
        network((2,), [population("all", np.ones((1, 99)))], [dense(INPUT, "all", [[2, 2]] * 99)])
    )
    other.start(1)
    with pytest.raises(BadRequestError, match="does not fit"):
        chip.restore(other.state())

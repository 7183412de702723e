"""Counts at full depth: three neurons by hand, random networks against the trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.backend import Moment
from mtspark.core.chip_network.network import INPUT, ChipNetwork, FrameInput
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.activity import ActivityRecorder, memory, summarise
from mtspark.sim.counts.totals import Counter
from tests.support.networks import frames_for, random_networks, three_neurons
from tests.support.scalar_chip import synapses

FRAMES = np.array([[7, 1], [0, 255]], np.uint8)


def test_three_neurons_and_two_unequal_samples_by_hand() -> None:
    """T = 2, depth 2, 4 steps. Sample A (1, 1): hidden 0 fires in steps 2 and 3, B: hidden 1.

    Input messages A 4, B 2; operations input->hidden A 8, B 4, in steps 1 and 2; hidden->out
    one a spike, in steps 2 and 3. No neuron is dead but the output; none always fires.
    """
    net = three_neurons()
    recorder = ActivityRecorder(net)
    decision = ReferenceChip(net).decide(FRAMES, 0, trace=True)
    recorder.add(decision, FRAMES, np.array([0, 1]))
    deep = recorder.result()
    assert (deep.populations, deep.connections) == (
        ("hidden", "out"),
        ("input->hidden", "hidden->out"),
    )
    assert deep.episode.tolist() == [0, 1]
    assert deep.input_events.tolist() == [4, 2]
    assert deep.spikes_window.tolist() == [[2, 0], [2, 0]]
    assert deep.spikes_drain.tolist() == [[0, 0], [0, 0]]
    assert deep.operations.tolist() == [[8, 2], [4, 2]]
    assert deep.steps is not None
    assert deep.steps.decisions == 2
    assert deep.steps.spikes.tolist() == [[0, 0], [2, 0], [2, 0], [0, 0]]
    assert deep.steps.operations.tolist() == [[6, 0], [6, 2], [0, 2], [0, 0]]
    assert (deep.silent, deep.unceasing) == ({"hidden": 0, "out": 0}, {"hidden": 0, "out": 0})
    assert {name: count.tolist() for name, count in deep.nonzero.items()} == {
        INPUT: [1, 2],
        "hidden": [1, 1],
        "out": [0],
    }
    assert deep.shares[INPUT].tolist() == [0.5, 1.0]
    assert {name: sent.tolist() for name, sent in deep.sent.items()} == {
        INPUT: [2, 4],
        "hidden": [2, 2],
        "out": [0],
    }


def test_changes_are_to_the_decision_before_of_the_same_episode() -> None:
    """A fires hidden 0 twice, B hidden 1 twice; A again, B, and A in an episode of its own."""
    net = three_neurons()
    recorder = ActivityRecorder(net)
    for sample, episode in ((0, 0), (0, 0), (1, 0), (0, 1)):
        frames = FRAMES[sample : sample + 1]
        recorder.add(ReferenceChip(net).decide(frames, 0), frames, np.array([episode]))
    deep = recorder.result()
    # Binary inputs (1, 1) and (0, 1): a 7 and a 255 are the same spike.
    assert deep.changed[INPUT].tolist() == [3, 2]
    assert deep.changed["hidden"].tolist() == [3, 1]
    assert deep.changed["out"].tolist() == [0]
    assert deep.changed_shares[INPUT].tolist() == [0.75, 0.5]


def test_changed_values_of_a_graded_input() -> None:
    net = replace(three_neurons(), input=FrameInput((2,), 8))
    recorder = ActivityRecorder(net)
    for frame in ([7, 1], [8, 1], [8, 0]):
        frames = np.array([frame], np.uint8)
        recorder.add(ReferenceChip(net).decide(frames, 0), frames, np.array([0]))
    assert recorder.result().changed[INPUT].tolist() == [2, 2]


def test_dead_and_saturated_neurons_by_hand() -> None:
    """Sample A alone: hidden 0 fires at every step of its window, hidden 1 never."""
    net = three_neurons()
    recorder = ActivityRecorder(net)
    recorder.add(ReferenceChip(net).decide(FRAMES[:1], 0), FRAMES[:1], np.array([0]))
    deep = recorder.result()
    assert (deep.silent["hidden"], deep.unceasing["hidden"]) == (1, 1)
    assert deep.steps is None


def test_decisions_are_sorted_by_episode_and_time() -> None:
    """Two games; the second one ends after one decision."""
    net = three_neurons()
    chip, recorder = ReferenceChip(net), ActivityRecorder(net)
    zeros = np.zeros(2)
    for running in ([0, 1], [0]):
        frames, none = FRAMES[running], zeros[running]
        decision = chip.decide(frames, 0)
        recorder(Moment(frames, np.array(running), none.astype(np.int64), none, decision))
    deep = recorder.result()
    assert deep.episode.tolist() == [0, 0, 1]
    assert [part.tolist() for part in deep.by_episode(deep.input_events)] == [[4, 4], [2]]


def test_a_summary_by_hand() -> None:
    found = summarise([1, 2, 3, 6]).to_json()
    assert (found["mean"], found["min"], found["max"], found["n"]) == (3, 1, 6, 4)
    assert found["sd"] == pytest.approx(np.sqrt(14 / 3))
    assert summarise([5]).sd == 0


def test_nothing_recorded_is_refused() -> None:
    with pytest.raises(BadRequestError, match="no decision"):
        ActivityRecorder(three_neurons()).result()


def test_memory_of_three_neurons_by_hand() -> None:
    """6 weights of 8 bits; 3 neurons of 48 bits of state, 17 of threshold, 13 of bias."""
    found = memory(three_neurons())
    assert (found.weights, found.synapses) == (48, 48)
    assert (found.state, found.thresholds, found.biases) == (144, 51, 39)


@given(net=random_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_steps_and_decisions_equal_walking_the_trace_and_the_totals(
    net: ChipNetwork, seed: int
) -> None:
    frames = frames_for(net, 2, seed)
    chip, recorder, counter = ReferenceChip(net), ActivityRecorder(net), Counter(net)
    for _ in range(2):
        decision = chip.decide(frames, 0, trace=True)
        recorder.add(decision, frames, np.array([0, 1]))
        counter.add(decision.activity)
    deep, totals = recorder.result(), counter.result()
    assert deep.steps is not None
    assert deep.operations.sum(0).tolist() == [
        link.synops_structural.total for link in totals.connections
    ]
    assert deep.steps.operations.sum(0).tolist() == deep.operations.sum(0).tolist()
    assert deep.spikes_window.sum(0).tolist() == [layer.spikes.window for layer in totals.layers]
    assert deep.spikes.sum() == sum(layer.spikes.total for layer in totals.layers)
    assert list(deep.silent.values()) == [layer.silent_neurons for layer in totals.layers]
    assert deep.input_events.sum() == totals.input_events.total
    for name, sent in deep.sent.items():
        assert sent.tolist() == (counter.window[name] + counter.drain[name]).tolist()
    # The last decision's trace, walked synapse by synapse, is half of what its twin gave.
    assert decision.trace is not None
    recorder = ActivityRecorder(net)
    recorder.add(decision, frames, np.array([0, 1]))
    steps = recorder.result().steps
    assert steps is not None
    for column, link in enumerate(net.connections):
        parts = synapses(link, net.shape_of(link.source), net.shape_of(link.target))
        for step in range(net.steps_per_decision):
            if link.source == INPUT:
                met = sum(int(frames[(m, *o)] != 0) for m in range(2) for o, _, _ in parts)
                met *= step < net.time_steps
            else:
                spikes = decision.trace.spikes[link.source][step]
                met = sum(int(spikes[(m, *o)]) for m in range(2) for o, _, _ in parts)
            assert steps.operations[step, column] == met

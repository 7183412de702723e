from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.network import ChipNetwork
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.totals import Counter, Split
from mtspark.sim.engine.chip import EngineChip
from tests.support.networks import frames_for, random_networks, three_neurons
from tests.support.scalar_chip import synapses


def test_three_neurons_and_two_unequal_samples_by_hand() -> None:
    """T = 2, depth 2. Sample A (1, 1): both inputs speak in both steps; hidden 0 fires twice.

    Sample B (0, 1): input 1 speaks twice; hidden 1 gets 128 > 100 and fires twice.
    Input messages: A 4, B 2. Structural operations on input->hidden: 2 a message, so 8 and 4.
    Effective: input 0 meets two nonzero synapses, input 1 one (64, -64 and 0, 128): A 6, B 2.
    hidden->out: one synapse a message, A 2 and B 2; nonzero only for hidden 0: A 2, B 0.
    """
    net = three_neurons()
    counter = Counter(net)
    counter.add(ReferenceChip(net).decide(np.array([[7, 1], [0, 255]], np.uint8), 0).activity)
    result = counter.result()
    hidden, out = result.layers
    assert result.decisions == 2
    assert result.input_events == Split(6, 0)
    assert (hidden.spikes, out.spikes) == (Split(4, 0), Split(0, 0))
    assert (hidden.synops_structural, hidden.synops_effective) == (Split(12, 0), Split(8, 0))
    assert (out.synops_structural, out.synops_effective) == (Split(4, 0), Split(2, 0))
    # Two samples, two steps of window and two of pipeline each.
    assert (hidden.neuron_updates, out.neuron_updates) == (Split(8, 8), Split(4, 4))
    # The readout has no spikes that could be missing.
    assert (hidden.silent_neurons, out.silent_neurons) == (0, 0)
    assert (result.synops_structural, result.neuron_updates) == (16, 24)


@given(net=random_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_operations_equal_walking_every_message_of_the_trace(net: ChipNetwork, seed: int) -> None:
    frames = frames_for(net, 2, seed)
    chip, counter = ReferenceChip(net), Counter(net)
    chip.decide(frames, 0)
    decision = chip.decide(frames, 0, trace=True)
    counter.add(decision.activity)
    assert decision.trace is not None
    walked = {population.name: Split(0, 0) for population in net.populations}
    for link in net.connections:
        window, drain = 0, 0
        parts = synapses(link, net.shape_of(link.source), net.shape_of(link.target))
        if link.source == "input":
            window = sum(int(frames[(m, *o)] != 0) for m in range(2) for o, _, _ in parts)
            window *= net.time_steps
        else:
            spikes, own = decision.trace.spikes[link.source], net.window(link.source)
            for step in range(net.steps_per_decision):
                met = sum(int(spikes[(step, m, *o)]) for m in range(2) for o, _, _ in parts)
                inside = own.start <= step < own.stop
                window, drain = window + met * inside, drain + met * (not inside)
        before = walked[link.target]
        walked[link.target] = Split(before.window + window, before.drain + drain)
    for layer in counter.result().layers:
        assert layer.synops_structural == walked[layer.name]


@given(
    net=random_networks(),
    seed=st.integers(0, 1000),
    batches=st.lists(st.integers(1, 3), min_size=4, max_size=4),
)
@settings(deadline=None, max_examples=15)
def test_what_the_engine_counts_by_lane_is_what_the_reference_counts(
    net: ChipNetwork, seed: int, batches: list[int]
) -> None:
    """Games end and begin, read in between, and sums that would not fit 32 bits."""
    engine, reference = EngineChip(net, threads=2), ReferenceChip(net)
    found, expected = Counter(net), Counter(net)
    for number, batch in enumerate(batches):
        frames = frames_for(net, batch, seed + number)
        found.add(engine.decide(frames, 0).activity)
        expected.add(reference.decide(frames, 0).activity)
        if number == 1:
            assert found.result() == expected.result()
        if number == 2:
            for totals in found._lanes:
                assert totals is not None
                totals._added = 2**32 - 1
    engine.close()
    assert found.result() == expected.result()
    for name, messages in expected.window.items():
        assert np.array_equal(found.window[name], messages)
        assert np.array_equal(found.drain[name], expected.drain[name])

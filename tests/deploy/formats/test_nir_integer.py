"""A chip network in float units: the same spikes where nothing rounds, and a NIR graph of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mtspark.convert.nir.agent import load_graph, save_graph
from mtspark.convert.nir.reader import import_graph
from mtspark.convert.nir.writer import network_to_nir
from mtspark.core.arithmetic import CURRENT_LIMIT, MEMBRANE_LIMIT
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.formats.nir_integer import in_chip_units, integer_metadata
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import frames_for, three_neurons, varied_networks


def without_rounding(net: ChipNetwork) -> ChipNetwork:
    """Decays of all or nothing and exponents that shift up."""
    return replace(
        net,
        populations=tuple(
            replace(entry, current_decay=4095, membrane_decay=4096 * (index % 2))
            for index, entry in enumerate(net.populations)
        ),
        connections=tuple(replace(link, exponent=0) for link in net.connections),
        input=replace(net.input, payload_bits=0, signed=False, held=False),
    )


@given(net=varied_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_every_spike_is_the_chips_where_nothing_rounds(net: ChipNetwork, seed: int) -> None:
    net = without_rounding(net)
    frames = frames_for(net, 2, seed)
    trace = ReferenceChip(net).decide(frames, 0, trace=True).trace
    assert trace is not None
    assume(max(np.abs(values).max() for values in trace.membranes.values()) < MEMBRANE_LIMIT)
    units = in_chip_units(net)
    run = run_float(units, (frames != 0).astype(float).swapaxes(0, 1))
    for entry in net.populations:
        if entry.name not in run.spikes:
            continue
        expected = trace.spikes[entry.name][net.window(entry.name)]
        assert np.abs(run.membranes[entry.name]).max() < CURRENT_LIMIT
        np.testing.assert_array_equal(run.spikes[entry.name].reshape(expected.shape), expected)


def test_three_neurons_as_integer_nir(tmp_path: Path) -> None:
    net = three_neurons()
    graph = network_to_nir(in_chip_units(net))
    graph.metadata["mtspark"]["integer"] = integer_metadata(net)
    save_graph(graph, tmp_path / "integer.nir")
    again = load_graph(tmp_path / "integer.nir")
    linear = again.nodes["input_to_hidden"]
    assert linear.weight.tolist() == [[4096, 0], [-4096, 8192]]
    assert again.nodes["hidden"].v_threshold.tolist() == [50 * 64, 100 * 64]
    said = again.metadata["mtspark"]["integer"]
    assert said["readout_scale"].tolist() == [1.0]
    assert said["weight_exponent"]["input->hidden"] == 0
    run = run_float(import_graph(again), np.ones((2, 1, 2)))
    # As the chip: hidden 0 fires in both steps, hidden 1 never; the output adds 2 << 6 a spike.
    assert run.spikes["hidden"][:, 0].tolist() == [[1, 0], [1, 0]]
    assert run.values.ravel().tolist() == pytest.approx([256])

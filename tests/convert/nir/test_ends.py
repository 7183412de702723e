"""A graph without ends: the first and the last node act, and do not stand for the ends."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

from mtspark.convert.nir.neurons import ImportOptions
from mtspark.convert.nir.reader import import_graph
from mtspark.core.float_network.simulator import run_float

STEPS = 5
SERIES = np.random.default_rng(0).integers(0, 2, (STEPS, 1, 1, 4, 4)).astype(float)


def neurons(*shape: int, threshold: float = 0.5) -> nir.LIF:
    ones = np.ones(shape)
    return nir.LIF(
        tau=2 * ones, r=ones, v_leak=0 * ones, v_threshold=threshold * ones, v_reset=0 * ones
    )


def lif(currents: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """tau dv/dt = -v + I by forward Euler with dt 1 and tau 2, reset to zero: (T, n) spikes."""
    membrane, spikes = np.zeros(currents.shape[1:]), []
    for current in currents:
        membrane = membrane + (current - membrane) / 2
        fired = membrane > threshold
        spikes.append(fired)
        membrane = np.where(fired, 0.0, membrane)
    return np.array(spikes)


def spikes_of(nodes: dict[str, Any], edges: list[tuple[str, str]], series: np.ndarray) -> Any:
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    network = import_graph(graph, ImportOptions(dt=1.0, time_steps=STEPS))
    return run_float(network, series).spikes, network


@pytest.mark.parametrize("weight", [0.1, 0.9, 3.0])
def test_a_linear_first_node_keeps_its_weights(weight: float) -> None:
    nodes = {"w": nir.Linear(np.array([[weight]])), "n": neurons(1)}
    spikes, network = spikes_of(nodes, [("w", "n")], SERIES[:, :, 0, 0, :1])
    wanted = lif(weight * SERIES[:, 0, 0, 0, :1])
    assert np.array_equal(spikes["n"][:, 0], wanted)
    assert "no input node: the input is in front of 'w'" in network.notes


def test_a_first_neuron_fires_by_itself() -> None:
    nodes = {"a": neurons(1, threshold=0.4), "b": neurons(1, threshold=0.3)}
    spikes, _ = spikes_of(nodes, [("a", "b")], SERIES[:, :, 0, 0, :1])
    first = lif(SERIES[:, 0, 0, 0, :1], 0.4)
    assert first.any()
    assert np.array_equal(spikes["a"][:, 0], first)
    assert np.array_equal(spikes["b"][:, 0], lif(first.astype(float), 0.3))


def test_a_convolution_first_keeps_its_kernel() -> None:
    kernel = np.array([[[[0.2, -0.4], [0.7, 0.9]]]])
    nodes = {
        "c": nir.Conv2d((4, 4), kernel, 1, 0, 1, 1, np.array([0.1])),
        "n": neurons(1, 3, 3),
        "output": nir.Output({"output": np.array([1, 3, 3])}),
    }
    spikes, network = spikes_of(nodes, [("c", "n"), ("n", "output")], SERIES)
    image = SERIES[:, 0, 0]
    currents = np.full((STEPS, 3, 3), 0.1)
    for row in range(2):
        for column in range(2):
            window = image[:, row : row + 3, column : column + 3]
            currents += kernel[0, 0, row, column] * window
    assert network.input.shape == (1, 4, 4)
    assert np.array_equal(spikes["n"][:, 0, 0], lif(currents))


def test_a_linear_last_node_keeps_its_weights() -> None:
    nodes = {
        "input": nir.Input({"input": np.array([1])}),
        "n": neurons(1),
        "w": nir.Linear(np.array([[0.25]])),
    }
    graph = nir.NIRGraph(nodes=nodes, edges=[("input", "n"), ("n", "w")], type_check=False)
    network = import_graph(graph, ImportOptions(dt=1.0, time_steps=STEPS))
    run = run_float(network, SERIES[:, :, 0, 0, :1])
    count = lif(SERIES[:, 0, 0, 0, :1]).sum()
    assert count
    # A readout behind neurons is the mean over the steps.
    np.testing.assert_allclose(run.values, [[0.25 * count / STEPS]])


def test_a_first_node_called_input_is_not_mistaken_for_one() -> None:
    nodes = {"input": nir.Linear(np.array([[0.1]])), "n": neurons(1)}
    spikes, _ = spikes_of(nodes, [("input", "n")], SERIES[:, :, 0, 0, :1])
    assert not spikes["n"].any()

"""A graph without ends: the first and the last node act, and do not stand for the ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest

from mtspark.convert.nir.neurons import ImportOptions
from mtspark.convert.nir.reader import import_graph
from mtspark.core.errors import BadNetworkError
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


@pytest.mark.parametrize("shape", [None, np.array([], np.int64)])
def test_ends_without_a_shape_take_their_neighbours(shape: Any) -> None:
    """Neurons of numbers without a dimension declare the shape () at both ends."""
    weights = np.random.default_rng(1).normal(0, 1, (3, 4))
    nodes = {
        "input": nir.Input({"input": shape}),
        "w": nir.Linear(weights),
        "n": neurons(3),
        "output": nir.Output({"output": shape}),
    }
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    series = SERIES[:, :, 0, 0]
    spikes, _ = spikes_of(nodes, edges, series)
    wanted = lif(series[:, 0] @ weights.T)
    assert wanted.any()
    assert np.array_equal(spikes["n"][:, 0], wanted)


def test_an_input_of_one_value_before_neurons_of_one_number_each() -> None:
    weights = np.random.default_rng(1).normal(0, 1, (3, 4))
    nodes = {
        "input": nir.Input({"input": np.array([1])}),
        "a": neurons(1, threshold=0.4),
        "w": nir.Linear(weights),
        "n": neurons(3),
        "output": nir.Output({"output": np.array([3])}),
    }
    edges = [("input", "a"), ("a", "w"), ("w", "n"), ("n", "output")]
    series = SERIES[:, :, 0, 0]
    spikes, network = spikes_of(nodes, edges, series)
    first = lif(series[:, 0], 0.4)
    wanted = lif(first @ weights.T)
    assert wanted.any()
    assert np.array_equal(spikes["n"][:, 0], wanted)
    assert any(note.endswith("one number each; takes (4,)") for note in network.notes)


@pytest.mark.parametrize("declared", [None, np.array([16])])
def test_the_shape_of_the_input_can_be_given(declared: Any) -> None:
    kernel = np.random.default_rng(1).normal(0, 1, (2, 1, 3, 3))
    nodes = {
        "input": nir.Input({"input": declared}),
        "c": nir.Conv2d(None, kernel, 1, 0, 1, 1, np.zeros(2)),
        "n": neurons(2, 2, 2),
        "output": nir.Output({"output": np.array([2, 2, 2])}),
    }
    edges = [("input", "c"), ("c", "n"), ("n", "output")]
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    options = ImportOptions(dt=1.0, time_steps=STEPS)
    remedy = "give it, --input-shape" if declared is None else "takes 1 channels"
    with pytest.raises(BadNetworkError, match=remedy):
        import_graph(graph, options)
    network = import_graph(graph, replace(options, input_shape=(1, 4, 4)))
    found = run_float(network, SERIES).spikes["n"][:, 0]
    windows = np.lib.stride_tricks.sliding_window_view(SERIES[:, 0, 0], (3, 3), (1, 2))
    wanted = lif(np.einsum("trcij,oij->torc", windows, kernel[:, 0]))
    assert wanted.any()
    assert np.array_equal(found, wanted)
    if declared is not None:
        with pytest.raises(BadNetworkError, match=r"has shape \(16,\), not \(1, 5, 5\)"):
            import_graph(graph, replace(options, input_shape=(1, 5, 5)))


def test_an_image_of_one_channel_without_an_axis_for_it() -> None:
    kernel = np.random.default_rng(1).normal(0, 1, (2, 1, 3, 3))
    nodes = {
        "input": nir.Input({"input": np.array([4, 4])}),
        "c": nir.Conv2d(None, kernel, 1, 0, 1, 1, np.zeros(2)),
        "n": neurons(2, 2, 2),
    }
    spikes, _ = spikes_of(nodes, [("input", "c"), ("c", "n")], SERIES[:, :, 0])
    windows = np.lib.stride_tricks.sliding_window_view(SERIES[:, 0, 0], (3, 3), (1, 2))
    wanted = lif(np.einsum("trcij,oij->torc", windows, kernel[:, 0]))
    assert np.array_equal(spikes["n"][:, 0], wanted)


POOL = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
CONV = nir.Conv2d(None, np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2))


@pytest.mark.parametrize("node", [POOL, CONV])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_flattened_image_is_told_how_to_give_its_shape(node: Any, scaled: bool) -> None:
    """The advice helps: with it the same graph is read."""
    last = nir.IF(np.array(1.0), np.array(0.5), np.array(0.0))
    nodes = {"input": nir.Input({"input": np.array([16])}), "n": node, "a": last}
    edges = [("input", "n"), ("n", "a")]
    if scaled:
        nodes["s"] = nir.Scale(np.array([2.0]))
        edges = [("input", "s"), ("s", "n"), ("n", "a")]
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    with pytest.raises(BadNetworkError, match="--input-shape CHANNELS,ROWS,COLUMNS"):
        import_graph(graph, ImportOptions(dt=1.0))
    network = import_graph(graph, ImportOptions(dt=1.0, input_shape=(1, 4, 4)))
    assert network.input.shape == (1, 4, 4)


def test_an_image_that_weights_have_flattened_is_told_no_shape() -> None:
    """--input-shape would not bring the axes back."""
    nodes = {
        "input": nir.Input({"input": np.array([16])}),
        "w": nir.Linear(np.ones((16, 16))),
        "n": POOL,
        "a": nir.IF(np.array(1.0), np.array(0.5), np.array(0.0)),
    }
    edges = [("input", "w"), ("w", "n"), ("n", "a")]
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    with pytest.raises(BadNetworkError, match=r"arrives is \(16,\)$"):
        import_graph(graph, ImportOptions(dt=1.0))


def test_a_declared_shape_that_does_not_arrive_is_said() -> None:
    kernel = np.ones((2, 1, 3, 3))
    nodes = {
        "c": nir.Conv2d((9, 8), kernel, 1, 0, 1, 1, np.zeros(2)),
        "f": nir.Flatten({"input": np.array([2, 7, 6])}, 0, -1),
        "n": neurons(8),
        "input": nir.Input({"input": np.array([1, 4, 4])}),
    }
    _, network = spikes_of(nodes, [("input", "c"), ("c", "f"), ("f", "n")], SERIES)
    told = [note for note in network.notes if "declares" in note]
    assert told == [
        "c: declares an input of (9, 8); takes (1, 4, 4), what arrives",
        "f: declares an input of (2, 7, 6); takes (2, 2, 2), what arrives",
    ]
    nodes["c"] = nir.Conv2d((4, 4), kernel, 1, 0, 1, 1, np.zeros(2))
    nodes["f"] = nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1)
    _, network = spikes_of(nodes, [("input", "c"), ("c", "f"), ("f", "n")], SERIES)
    assert not any("declares" in note for note in network.notes)


def test_the_ends_of_a_subgraph_are_not_called_those_of_the_graph() -> None:
    inside = nir.NIRGraph(
        nodes={"w": nir.Linear(np.ones((3, 4))), "n": neurons(3)},
        edges=[("w", "n")],
        type_check=False,
    )
    lacks = [
        "subgraph 'a' has no input node: its input is in front of 'a.w'",
        "subgraph 'a' has no output node: its output is behind 'a.n'",
    ]
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "a": inside,
        "output": nir.Output({"output": np.array([3])}),
    }
    _, network = spikes_of(nodes, [("input", "a"), ("a", "output")], SERIES[:, :, 0, 0])
    assert [note for note in network.notes if " node: " in note] == lacks
    _, network = spikes_of({"a": inside}, [], SERIES[:, :, 0, 0])
    whole = [
        "no input node: the input is in front of 'a.w'",
        "no output node: the output is behind 'a.n'",
    ]
    assert [note for note in network.notes if " node: " in note] == lacks + whole


def test_a_length_that_does_not_arrive_is_said() -> None:
    conv = nir.Conv1d(9, np.ones((2, 1, 3)), 1, 0, 1, 1, np.zeros(2))
    nodes = {"input": nir.Input({"input": np.array([1, 4])}), "c": conv, "n": neurons(2, 2)}
    _, network = spikes_of(nodes, [("input", "c"), ("c", "n")], SERIES[:, :, :, 0])
    assert "c: declares an input of (9,); takes (1, 4), what arrives" in network.notes

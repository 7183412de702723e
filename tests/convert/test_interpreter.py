"""The float interpreter: neurons by hand, and a public trace that other people recorded."""

from __future__ import annotations

import itertools
from pathlib import Path

import nir
import numpy as np
import pytest

from mtspark.convert.interpreter import (
    leaky_integrate_and_fire,
    run_graph,
    run_node,
    topological_order,
)
from mtspark.core.errors import BadNetworkError


def neuron(**changes: float) -> nir.LIF:
    values = {"tau": 2.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}
    return nir.LIF(**{key: np.array([value]) for key, value in {**values, **changes}.items()})


def graph_of(**nodes: nir.NIRNode) -> nir.NIRGraph:
    """A chain of nodes."""
    return nir.NIRGraph(nodes=nodes, edges=list(itertools.pairwise(nodes)))


def test_a_neuron_by_hand() -> None:
    """dt / tau = 0.5: v becomes v / 2 + current, fires strictly above 1, then starts at 0."""
    currents = np.array([0.75, 0.75, 0.75, 0.625, 0.25]).reshape(5, 1, 1)
    spikes, membranes = leaky_integrate_and_fire(neuron(), currents, dt=1.0)
    assert membranes.ravel().tolist() == [0.75, 1.125, 0.75, 1.0, 0.75]
    assert spikes.ravel().tolist() == [0, 1, 0, 0, 0]


def test_leak_and_reset_potentials_count() -> None:
    node = neuron(v_leak=0.5, v_reset=-1.0)
    spikes, membranes = leaky_integrate_and_fire(node, np.array([[[1.0]], [[0.0]]]), dt=1.0)
    # 0 + 0.5 (0.5 - 0 + 2) = 1.25 fires, to -1; -1 + 0.5 (0.5 + 1) = -0.25
    assert membranes.ravel().tolist() == [1.25, -0.25]
    assert spikes.ravel().tolist() == [1, 0]


def test_convolution_by_hand_is_a_cross_correlation() -> None:
    node = nir.Conv2d(
        input_shape=(3, 4),
        weight=np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
        stride=(1, 2),
        padding=(0, 0),
        dilation=(1, 1),
        groups=1,
        bias=np.array([0.5]),
    )
    inputs = np.arange(12.0).reshape(1, 1, 1, 3, 4)
    # Rows 0-1, columns 0-1: 0*1 + 1*2 + 4*3 + 5*4 = 34; and so on.
    expected = np.array([[34.5, 54.5], [74.5, 94.5]])
    np.testing.assert_array_equal(run_node("conv", node, inputs, 1.0)[0, 0, 0], expected)


def test_affine_and_linear_and_flatten_by_hand() -> None:
    weight = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]])
    inputs = np.array([[[1.0, 10.0, 100.0]], [[0.0, 1.0, 0.0]]])
    affine = nir.Affine(weight=weight, bias=np.array([0.25, 0.0]))
    assert run_node("a", affine, inputs, 1.0).tolist() == [[[321.25, 40.0]], [[2.25, -1.0]]]
    linear = nir.Linear(weight=weight)
    assert run_node("l", linear, inputs, 1.0).tolist() == [[[321.0, 40.0]], [[2.0, -1.0]]]
    flatten = nir.Flatten(input_type={"input": np.array([2, 3])}, start_dim=0, end_dim=-1)
    grid = np.arange(12.0).reshape(1, 2, 2, 3)
    assert run_node("f", flatten, grid, 1.0).tolist() == grid.reshape(1, 2, 6).tolist()


def test_edges_that_meet_are_summed_whatever_the_order_of_nodes() -> None:
    graph = nir.NIRGraph(
        nodes={
            "output": nir.Output(output_type={"output": np.array([1])}),
            "double": nir.Linear(weight=np.array([[2.0]])),
            "triple": nir.Linear(weight=np.array([[3.0]])),
            "input": nir.Input(input_type={"input": np.array([1])}),
        },
        edges=[
            ("input", "double"),
            ("input", "triple"),
            ("double", "output"),
            ("triple", "output"),
        ],
    )
    assert topological_order(graph)[0] == "input"
    outputs = run_graph(graph, np.array([[[1.0]], [[7.0]]]), dt=1.0)
    assert outputs["output"].ravel().tolist() == [5.0, 35.0]


def test_a_loop_is_refused() -> None:
    graph = graph_of(
        input=nir.Input(input_type={"input": np.array([1])}),
        a=nir.Linear(weight=np.eye(1)),
        b=nir.Linear(weight=np.eye(1)),
        output=nir.Output(output_type={"output": np.array([1])}),
    )
    graph.edges.append(("b", "a"))
    with pytest.raises(BadNetworkError, match="loop through a, b, output"):
        topological_order(graph)


def test_an_unknown_node_is_refused_by_name_and_type() -> None:
    node = nir.Threshold(threshold=np.array([1.0]))
    with pytest.raises(BadNetworkError, match="node 'gate': Threshold is not interpreted"):
        run_node("gate", node, np.zeros((1, 1, 1)), 1.0)


def golden_trace(golden: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of a recorded run: input spikes, membrane after the reset, output spikes."""
    columns = np.loadtxt(golden / "lif" / f"lif_{name}.csv", delimiter=",").T
    assert columns.shape == (3, 1000)
    return columns[0], columns[1], columns[2]


# snntorch recorded the membrane times tau / dt.
@pytest.mark.parametrize(("name", "scale"), [("norse", 1), ("snntorch", 25)])
def test_the_public_lif_graph_gives_the_recorded_runs(
    golden: Path, name: str, scale: float
) -> None:
    graph = nir.read(str(golden / "lif" / "lif_norse.nir"))
    inputs, recorded, spikes = golden_trace(golden, name)
    (affine,) = (node for node in graph.nodes.values() if isinstance(node, nir.Affine))
    (lif,) = (node for node in graph.nodes.values() if isinstance(node, nir.LIF))
    current = run_node("affine", affine, inputs.reshape(-1, 1, 1), dt=1e-4)
    fired, membranes = leaky_integrate_and_fire(lif, current, dt=1e-4)
    np.testing.assert_array_equal(fired.ravel(), spikes)
    assert np.flatnonzero(fired).tolist() == [460, 510, 710, 760]
    after_reset = np.where(fired > 0, 0.0, membranes).ravel()
    np.testing.assert_allclose(after_reset, recorded / scale, rtol=0, atol=1e-6)
    (output,) = (name for name, node in graph.nodes.items() if isinstance(node, nir.Output))
    whole = run_graph(graph, inputs.reshape(-1, 1, 1), dt=1e-4)[output]
    np.testing.assert_array_equal(whole.ravel(), spikes)

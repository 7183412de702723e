"""The importer: published traces, random graphs against a plain-Python oracle, refusals."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mtspark.convert.nir.nodes as nir_import_nodes
import mtspark.convert.nir.reader as nir_import
import mtspark.core.float_network.simulator as float_simulator
from mtspark.convert.nir.neurons import ImportOptions, Integrator, Order
from mtspark.convert.nir.reader import import_graph, import_nir
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.float_network.network import FloatReset, OutputKind
from mtspark.core.float_network.simulator import run_float
from tests.support.nir_oracle import Oracle
from tests.support.random_graphs import random_graph

LIF_DT = 1e-4
EULER, EXACT, DECAY = Integrator.EULER, Integrator.EXPONENTIAL, Integrator.EXPONENTIAL_DECAY


# Traces that other simulators recorded; the column of a membrane has its own unit in each.
@pytest.mark.parametrize(
    ("tool", "integrator", "reset", "unit"),
    [
        ("norse", EULER, FloatReset.ZERO, 1),
        ("snntorch", EULER, FloatReset.ZERO, 25),
        # Its weights are whole numbers, so its unit is not quite snntorch's; as measured.
        ("spinnaker2", EULER, FloatReset.ZERO, 25 * 5100 / 5101),
        ("nengo", EXACT, FloatReset.ZERO, 10),
        ("sinabs", DECAY, FloatReset.SUBTRACT, 1),
        ("rockpool", DECAY, FloatReset.SUBTRACT, 1),
    ],
)
def test_the_published_neuron_gives_each_tools_trace(
    golden: Path, tool: str, integrator: Integrator, reset: FloatReset, unit: float
) -> None:
    column, membranes, spikes = np.loadtxt(golden / "lif" / f"lif_{tool}.csv", delimiter=",").T
    options = ImportOptions(dt=LIF_DT, integrator=integrator, reset=reset)
    network = import_nir(golden / "lif" / "lif_norse.nir", options)
    run = run_float(network, (column != 0).astype(float).reshape(-1, 1, 1))
    (name,) = run.spikes
    np.testing.assert_array_equal(run.spikes[name].ravel(), spikes)
    np.testing.assert_allclose(run.rests[name].ravel(), membranes / unit, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tool", ["spyx", "lava_cpu_float"])
def test_tools_that_report_a_step_late(golden: Path, tool: str) -> None:
    """spyx subtracts a step late and shows spikes late; Lava's synapse costs a step."""
    column, membranes, spikes = np.loadtxt(golden / "lif" / f"lif_{tool}.csv", delimiter=",").T
    reset = FloatReset.SUBTRACT_LATE if tool == "spyx" else FloatReset.ZERO
    network = import_nir(golden / "lif" / "lif_norse.nir", ImportOptions(reset=reset))
    run = run_float(network, column.reshape(-1, 1, 1))
    (name,) = run.spikes
    np.testing.assert_array_equal(run.spikes[name].ravel()[:-1], spikes[1:])
    late = 0 if tool == "spyx" else 1
    ours = run.rests[name].ravel()
    np.testing.assert_allclose(ours[: len(ours) - late], membranes[late:], rtol=0, atol=1e-6)


def check_against_oracle(
    seed: int,
    integrator: Integrator = EULER,
    reset: FloatReset = FloatReset.ZERO,
    order: Order = Order.CURRENT_FIRST,
    exact: bool = False,
) -> int:
    """Every spike of every neuron, and the values at the end; returns how many spikes."""
    made = random_graph(seed, exact=exact, subtract=reset is not FloatReset.ZERO)
    series = (np.random.default_rng(seed).random((5, *made.shape)) < 0.4).astype(float)
    options = ImportOptions(dt=1.0, integrator=integrator, reset=reset, order=order)
    network = import_graph(made.graph, options)
    run = run_float(network, series[:, None])
    oracle = Oracle(
        made.graph,
        integrator=integrator.value,
        reset=reset.value,
        membrane_first=order is Order.MEMBRANE_FIRST,
        late=made.late,
    ).run(series)
    for name in made.neurons:
        wanted = np.array(oracle[name])
        np.testing.assert_array_equal(run.spikes[name].reshape(wanted.shape), wanted, name)
    final = {"spikes": np.sum, "current": np.mean, "membrane": lambda values, axis: values[-1]}
    values = final[made.kind](np.array(oracle["output"]), axis=0)
    np.testing.assert_allclose(run.values[0].ravel(), values, rtol=1e-9, atol=1e-9)
    return int(sum(run.spikes[name].sum() for name in made.neurons))


@given(
    seed=st.integers(0, 10_000),
    integrator=st.sampled_from([EULER, EXACT, DECAY]),
    reset=st.sampled_from([FloatReset.ZERO, FloatReset.SUBTRACT, FloatReset.SUBTRACT_LATE]),
    order=st.sampled_from(list(Order)),
)
@settings(max_examples=25)
def test_random_graphs_fire_what_the_oracle_fires(
    seed: int, integrator: Integrator, reset: FloatReset, order: Order
) -> None:
    check_against_oracle(seed, integrator, reset, order)


def test_a_loop_of_neurons_that_step_the_membrane_first_takes_two_steps() -> None:
    """One step back to the current, one more from the current to the membrane."""
    assert check_against_oracle(7297, EULER, FloatReset.SUBTRACT, Order.MEMBRANE_FIRST) > 0


def _transposed(original: Callable[..., Any]) -> Callable[..., Any]:
    def convolution(weights: Any, *rest: Any) -> Any:
        return original(weights[:, :, ::-1, ::-1], *rest)

    return convolution


def _without_bias(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda effect, signal: original(replace(effect, bias=None), signal)


def _other_reset(original: Callable[..., Any]) -> Callable[..., Any]:
    def population_of(*arguments: Any) -> Any:
        population, notes = original(*arguments)
        return replace(population, reset=FloatReset.SUBTRACT), notes

    return population_of


def _a_step_late(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda values, delay: original(values, delay + 1)


@pytest.mark.parametrize(
    ("module", "name", "mutation"),
    [
        (nir_import_nodes, "convolution", _transposed),
        (nir_import, "through", _without_bias),
        (nir_import, "population_of", _other_reset),
        (float_simulator, "delayed", _a_step_late),
    ],
)
def test_a_mistake_does_not_go_unseen(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, mutation: Callable[..., Any]
) -> None:
    """A flipped kernel, a dropped bias, another reset, time shifted by one."""
    seeds = range(4)
    assert sum(check_against_oracle(seed) for seed in seeds) > 20
    monkeypatch.setattr(module, name, mutation(getattr(module, name)))
    with pytest.raises(AssertionError):
        sum(check_against_oracle(seed) for seed in seeds)


def chain(**nodes: nir.NIRNode) -> nir.NIRGraph:
    names = list(nodes)
    return nir.NIRGraph(nodes=nodes, edges=list(itertools.pairwise(names)), type_check=False)


def ends(size: int) -> tuple[nir.Input, nir.Output]:
    return (
        nir.Input(input_type={"input": np.array([size])}),
        nir.Output(output_type={"output": np.array([size])}),
    )


def lif(size: int, **changes: float) -> nir.LIF:
    values = {"tau": 4.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **changes}
    return nir.LIF(**{key: np.full(size, value) for key, value in values.items()})


def test_metadata_of_mtspark_win_and_say_so() -> None:
    first, last = ends(2)
    graph = chain(input=first, lif=lif(2), output=last)
    graph.metadata = {"mtspark": {"dt": 0.5, "reset": "subtract", "time_steps": 7}}
    network = import_graph(graph, ImportOptions(dt=1.0, integrator=EXACT))
    assert (network.dt, network.time_steps) == (0.5, 7)
    assert network.population("lif").reset is FloatReset.SUBTRACT
    assert network.population("lif").membrane_keep[0] == np.exp(-0.5 / 4)
    assert any("dt 0.5 is the file's own, not 1.0" in note for note in network.notes)


def test_what_was_chosen_is_told() -> None:
    first, last = ends(2)
    network = import_graph(chain(input=first, lif=lif(2, tau=2000.0), output=last))
    assert "dt 0.0001; integrator euler; reset zero" in network.notes[0]
    assert any("another unit" in note for note in network.notes)
    assert network.output.kind is OutputKind.SPIKES


def test_another_time_step_is_advised_to_who_gave_none() -> None:
    first, last = ends(2)
    graph = chain(input=first, lif=lif(2, tau=2000.0), output=last)
    (note,) = [n for n in import_graph(graph, ImportOptions(dt=0.1)).notes if "forgets" in n]
    assert note == "lif: a membrane forgets 5.0e-05 a step"


def test_a_reset_for_one_node_alone() -> None:
    first, last = ends(2)
    graph = chain(input=first, a=lif(2), b=lif(2), output=last)
    network = import_graph(graph, ImportOptions(dt=1.0, resets={"b": FloatReset.SUBTRACT}))
    assert [p.reset for p in network.populations] == [FloatReset.ZERO, FloatReset.SUBTRACT]
    with pytest.raises(BadNetworkError, match="'c', which is no node"):
        import_graph(graph, ImportOptions(resets={"c": FloatReset.ZERO}))


def test_subgraphs_without_ends_and_with_names_only() -> None:
    """An edge to "input" or "output" that no node answers to is the subgraph's end."""
    first, last = ends(2)
    inner = nir.NIRGraph(
        nodes={"w": nir.Linear(weight=np.eye(2) * 3), "lif": lif(2)},
        edges=[("input", "w"), ("w", "lif"), ("lif", "output")],
        type_check=False,
    )
    network = import_graph(chain(input=first, cell=inner, output=last), ImportOptions(dt=1.0))
    assert [p.name for p in network.populations] == ["cell.lif"]
    assert network.connections[0].weights.tolist() == [[3, 0], [0, 3]]


def bad_graphs() -> list[tuple[str, nir.NIRGraph, str]]:
    first, last = ends(2)
    two = np.ones(2)
    loop = chain(input=first, a=nir.Scale(scale=two), b=nir.Scale(scale=two), output=last)
    loop.edges.append(("b", "a"))
    unfed = chain(input=first, lif=lif(2), output=last)
    unfed.nodes["w"] = nir.Linear(weight=np.eye(2))
    unfed.edges.append(("w", "lif"))
    twice = chain(input=first, lif=lif(2), output=last)
    twice.edges.append(("input", "lif"))
    outputs = chain(input=first, lif=lif(2), output=last)
    outputs.nodes["more"] = last
    outputs.edges.append(("lif", "more"))
    image = nir.Input(input_type={"input": np.array([2, 3, 4])})
    return [
        ("loop", loop, "loop without neurons through a, b"),
        ("unfed", unfed, "'w' leads to the output but the input does not reach it"),
        ("twice", twice, "'input' to 'lif' is listed twice"),
        ("outputs", outputs, "2 outputs \\(output, more\\)"),
        ("sizes", chain(input=first, lif=lif(3), output=last), "'lif'"),
        ("shape", chain(input=image, lif=nir.IF(np.ones((4, 3, 2)), np.ones((4, 3, 2)))), "'lif'"),
        ("nan", chain(input=first, lif=lif(2, v_threshold=np.nan), output=last), "is nan"),
        ("tau", chain(input=first, lif=lif(2, tau=-1.0), output=last), "above 0"),
        ("fast", chain(input=first, lif=lif(2, tau=0.5), output=last), "shorter than dt"),
        (
            "delay",
            chain(input=first, wait=nir.Delay(delay=two * 1.5), lif=lif(2), output=last),
            "1.5 steps of 1; must be whole steps; choose a --dt",
        ),
        (
            "negative delay",
            chain(input=first, wait=nir.Delay(delay=-two), lif=lif(2), output=last),
            "'wait': a delay of -1; must be at least 0, since nothing arrives before",
        ),
        (
            "weights",
            chain(input=first, w=nir.Linear(weight=np.full((2, 2), np.inf)), output=last),
            "weight is not finite",
        ),
        (
            "channels",
            chain(
                input=image,
                conv=nir.Conv2d(None, np.ones((1, 3, 2, 2)), 1, 0, 1, 1, np.zeros(1)),
                output=last,
            ),
            "takes 3 channels",
        ),
    ]


@pytest.mark.parametrize(
    ("graph", "text"), [case[1:] for case in bad_graphs()], ids=[case[0] for case in bad_graphs()]
)
def test_what_is_not_understood_is_refused_by_name(graph: nir.NIRGraph, text: str) -> None:
    with pytest.raises(BadNetworkError, match=text):
        import_graph(graph, ImportOptions(dt=1.0))


def test_contradictions_and_nonsense_are_refused() -> None:
    first, last = ends(2)
    graph = chain(input=first, lif=lif(2, v_reset=0.5), output=last)
    with pytest.raises(BadNetworkError, match="contradicts reset 'subtract'"):
        import_graph(graph, ImportOptions(dt=1.0, reset=FloatReset.SUBTRACT))
    with pytest.raises(BadRequestError, match="dt -1"):
        import_graph(graph, ImportOptions(dt=-1.0))
    with pytest.raises(BadNetworkError, match="no output 'x'"):
        import_graph(graph, ImportOptions(output="x"))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_a_sum_and_a_threshold_are_a_max_pool_of_spikes(
    kernel: int, stride: int, padding: int
) -> None:
    """NIR has no node for the maximum; of spikes these two are torch's, in the same step."""
    series = (np.random.default_rng(0).random((6, 3, 2, 7, 7)) < 0.15).astype(np.float64)
    wanted = torch.nn.functional.max_pool2d(
        torch.from_numpy(series).flatten(0, 1), kernel, stride, padding
    )
    both = np.array([1, 1])
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2, 7, 7])}),
        "sum": nir.SumPool2d(
            kernel_size=kernel * both, stride=stride * both, padding=padding * both
        ),
        "any": nir.Threshold(threshold=np.array([0.5])),
        "output": nir.Output(output_type={"output": np.array(wanted.shape[1:])}),
    }
    edges = [("input", "sum"), ("sum", "any"), ("any", "output")]
    network = import_graph(nir.NIRGraph(nodes=nodes, edges=edges, type_check=False))
    spikes = run_float(network, series).spikes["any"]
    assert 0 < spikes.mean() < 1
    assert np.array_equal(spikes, wanted.numpy().reshape(spikes.shape))

"""All that the importer takes for granted where a file is silent, as a list that a test holds."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

from mtspark.convert.nir.fields import KINDS
from mtspark.convert.nir.graph import IMPLICIT
from mtspark.convert.nir.neurons import DEFAULTS, ImportOptions, choose
from mtspark.convert.nir.reader import import_graph
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import OutputKind
from mtspark.core.float_network.simulator import run_float

ONES = np.ones(2)


def test_every_primitive_of_nir_has_its_fields_listed() -> None:
    primitives = set(vars(nir.ir)["__all_ir"]) - {"NIRGraph"}
    assert set(KINDS) == primitives
    for name, kind in KINDS.items():
        assert set(kind.known) - {"shape", "input_type"} <= set(
            getattr(nir, name).__dataclass_fields__
        ), name


def test_what_is_assumed_of_absent_fields() -> None:
    fields: dict[str, Any] = {"weight": np.ones((3, 2, 1, 1)), "kernel_size": 4}
    assumed = {
        name: {key: default(fields) for key, default in kind.assumed.items()}
        for name, kind in KINDS.items()
    }
    steps = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    for name in ("Conv1d", "Conv2d"):
        assert np.array_equal(assumed[name].pop("bias"), np.zeros(3))
        assert assumed.pop(name) == steps
    assert np.array_equal(assumed.pop("Affine")["bias"], np.zeros(3))
    for name in ("SumPool2d", "AvgPool2d"):
        assert assumed.pop(name) == {"stride": 4, "padding": 0}
    for name in ("CubaLI", "CubaLIF"):
        assert assumed.pop(name) == {"w_in": 1.0}
    assert not any(assumed.values())
    understood = {
        name: {key: default({}) for key, default in kind.understood.items()}
        for name, kind in KINDS.items()
        if kind.understood
    }
    assert understood == {
        "Input": {"shape": None},
        "Output": {"shape": None},
        "Conv1d": {"input_shape": None},
        "Conv2d": {"input_shape": None},
        "Flatten": {"input_type": None, "start_dim": 1, "end_dim": -1},
        "IF": {"v_reset": 0.0},
        "LIF": {"v_reset": 0.0},
        "CubaLIF": {"v_reset": 0.0},
    }


def test_what_is_assumed_of_time_and_resets() -> None:
    values = {key: getattr(value, "value", value) for key, value in vars(DEFAULTS).items()}
    assert values == {
        "dt": 1e-4,
        "integrator": "euler",
        "reset": "zero",
        "order": "current-first",
        "start": "zero",
        "if_gain_dt": None,
        "fires_at_threshold": False,
        "input_scale": 1.0,
        "input_signed": None,
        "time_steps": 0,
        "resets": {},
        "stateful": None,
    }
    assert choose(ImportOptions(), {}) == (DEFAULTS, [])
    # Every choice is an option, and every option but those of the graph's ends a choice.
    assert set(vars(ImportOptions())) == {*vars(DEFAULTS), "output", "input_shape"}
    assert {name: kind.__name__ for name, kind in IMPLICIT.items()} == {
        "input": "Input",
        "output": "Output",
    }


def neuron(size: int = 2) -> nir.LIF:
    ones = np.ones(size)
    return nir.LIF(tau=2 * ones, r=ones, v_leak=0 * ones, v_threshold=0.4 * ones, v_reset=0 * ones)


GROUPED = nir.Conv2d((3, 3), np.ones((2, 1, 2, 2)), 1, 0, 1, 2, np.zeros(2))
FIRST: list[tuple[Any, tuple[int, ...]]] = [
    (nir.Linear(np.ones((2, 3))), (3,)),
    (nir.Affine(np.ones((2, 3)), np.ones(2)), (3,)),
    (nir.Scale(ONES), (2,)),
    (nir.Conv1d(5, np.ones((2, 3, 2)), 1, 0, 1, 1, np.zeros(2)), (3, 5)),
    (nir.Conv1d(5, np.ones((4, 1, 2)), 1, 0, 1, 2, np.zeros(4)), (2, 5)),
    (nir.Conv2d((3, 4), np.ones((2, 3, 2, 2)), 1, 0, 1, 1, np.zeros(2)), (3, 3, 4)),
    (GROUPED, (2, 3, 3)),
    (nir.Flatten({"input": np.array([2, 3])}, 0, -1), (2, 3)),
    (nir.Delay(ONES), (2,)),
    (nir.Threshold(ONES), (2,)),
    (nir.I(r=ONES), (2,)),
    (nir.IF(r=ONES, v_threshold=ONES, v_reset=0 * ONES), (2,)),
    (neuron(), (2,)),
    (nir.LI(tau=ONES, r=ONES, v_leak=0 * ONES), (2,)),
]


@pytest.mark.parametrize(("node", "shape"), FIRST, ids=lambda value: type(value).__name__)
def test_the_input_assumed_before_a_first_node_has_the_shape_that_it_takes(
    node: Any, shape: tuple[int, ...]
) -> None:
    network = import_graph(nir.NIRGraph({"a": node}, [], type_check=False), ImportOptions(dt=1.0))
    assert network.input.shape == shape
    assert "no input node: the input is in front of 'a'" in network.notes
    assert "no output node: the output is behind 'a'" in network.notes


def test_the_output_assumed_behind_a_last_node_is_read_by_what_the_node_is() -> None:
    wanted = {
        "Threshold": OutputKind.SPIKES,
        "IF": OutputKind.SPIKES,
        "LIF": OutputKind.SPIKES,
        "I": OutputKind.MEMBRANE,
        "LI": OutputKind.MEMBRANE,
    }
    for node, _ in FIRST:
        graph = nir.NIRGraph({"a": node}, [], type_check=False)
        kind = import_graph(graph, ImportOptions(dt=1.0)).output.kind
        assert kind is wanted.get(type(node).__name__, OutputKind.MEAN)


def test_neurons_of_a_loop_are_the_ends_where_only_the_loop_is_at_the_end() -> None:
    """w -> n <-> r, nothing else: the output is behind n; n <-> r -> w: the input before n."""
    nodes = {"w": nir.Linear(np.eye(2)), "n": neuron(), "r": nir.Linear(-0.3 * np.eye(2))}
    behind = nir.NIRGraph(nodes, [("w", "n"), ("n", "r"), ("r", "n")], type_check=False)
    before = nir.NIRGraph(nodes, [("n", "r"), ("r", "n"), ("n", "w")], type_check=False)
    series = np.random.default_rng(0).integers(0, 2, (8, 1, 2)).astype(float)
    v, last, counts = np.zeros(2), np.zeros(2), np.zeros(2)
    for x in series[:, 0]:
        v = v + (x - 0.3 * last - v) / 2
        last = (v > 0.4).astype(float)
        v = np.where(v > 0.4, 0.0, v)
        counts += last
    assert counts.all()
    options = ImportOptions(dt=1.0)
    np.testing.assert_array_equal(
        run_float(import_graph(behind, options), series).values[0], counts
    )
    np.testing.assert_allclose(
        run_float(import_graph(before, options), series).values[0], counts / 8
    )


def test_two_neurons_in_the_loop_at_the_end_leave_the_output_open() -> None:
    nodes = {"w": nir.Linear(np.eye(2)), "a": neuron(), "b": neuron()}
    graph = nir.NIRGraph(nodes, [("w", "a"), ("a", "b"), ("b", "a")], type_check=False)
    with pytest.raises(BadNetworkError, match=r"2 outputs \(a, b\).*--output-node"):
        import_graph(graph)

"""Files as older versions of NIR wrote them, against plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mtspark.convert.nir import ImportOptions, import_nir
from mtspark.core.errors import BadFileError, BadNetworkError
from mtspark.core.float_network import run_float

TEXT = h5py.string_dtype()
GENERATOR = np.random.default_rng(5)
Fields = dict[str, Any]


def write(path: Path, nodes: dict[str, Fields], version: str = "0.2") -> Path:
    """A chain of nodes, field by field: nir's writer of those versions did no more."""
    edges = [[one, other] for one, other in zip(nodes, list(nodes)[1:], strict=False)]
    with h5py.File(path, "w") as file:
        file.create_dataset("version", data=version)
        root = file.create_group("node")
        root.create_dataset("type", data="NIRGraph", dtype=TEXT)
        root.create_dataset("edges", data=edges, dtype=TEXT)
        for name, fields in nodes.items():
            for key, value in fields.items():
                kind = TEXT if isinstance(value, str) else None
                root.create_dataset(f"nodes/{name}/{key}", data=value, dtype=kind)
    return path


def ends(inside: dict[str, Fields], shape: Any, output: Any) -> dict[str, Fields]:
    first = {"type": "Input", "shape": np.array(shape)}
    return {"input": first, **inside, "output": {"type": "Output", "shape": np.array(output)}}


def lif(currents: np.ndarray, tau: Any, gain: Any, threshold: Any) -> np.ndarray:
    """Forward Euler with dt 1, reset to zero; spikes of every step."""
    membrane, spikes = np.zeros(currents.shape[1:]), []
    for current in currents:
        membrane = membrane + (gain * current - membrane) / tau
        fired = membrane > threshold
        spikes.append(fired)
        membrane = np.where(fired, 0.0, membrane)
    return np.array(spikes)


def spikes_of(path: Path, series: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    network = import_nir(path, ImportOptions(dt=1.0, time_steps=len(series)))
    run = run_float(network, series[:, None])
    return run.spikes["n"][:, 0], network.notes


def test_one_number_holds_for_all_neurons(tmp_path: Path) -> None:
    """nir says "All parameters must have the same shape", of no node."""
    weight, series = GENERATOR.normal(0, 1, (4, 3)), GENERATOR.integers(0, 2, (40, 3)).astype(float)
    thresholds = np.array([0.2, 0.4, 0.6, 0.8])
    neurons = {"type": "LIF", "tau": 3.0, "r": 2.0, "v_leak": 0.0, "v_threshold": thresholds}
    nodes = ends({"w": {"type": "Linear", "weight": weight}, "n": neurons}, [3], [4])
    spikes, notes = spikes_of(write(tmp_path / "a.nir", nodes), series)
    wanted = lif(series @ weight.T, 3, 2, thresholds)
    assert wanted.any()
    np.testing.assert_array_equal(spikes, wanted)
    assert "n: r, tau, v_leak: one number, which holds for all 4 neurons" in notes


def test_thresholds_of_channels_hold_for_all_their_places(tmp_path: Path) -> None:
    series = GENERATOR.random((30, 2, 3, 3))
    thresholds, tau = np.array([0.3, 0.7]).reshape(2, 1, 1), np.full((2, 3, 3), 2.0)
    neurons = {"type": "LIF", "tau": tau, "r": 1.0, "v_leak": 0.0, "v_threshold": thresholds}
    spikes, _ = spikes_of(
        write(tmp_path / "a.nir", ends({"n": neurons}, [2, 3, 3], [2, 3, 3])), series
    )
    wanted = lif(series, 2, 1, thresholds)
    assert wanted.any()
    np.testing.assert_array_equal(spikes, wanted)


@pytest.mark.parametrize("inputs", [5, 3])
def test_input_weights_may_be_a_matrix(tmp_path: Path, inputs: int) -> None:
    """tau_syn dI/dt = -I + w_in S, with w_in as (neurons, inputs)."""
    w_in = GENERATOR.normal(0, 1.5, (3, inputs))
    series = GENERATOR.integers(0, 2, (50, inputs)).astype(float)
    three = np.ones(3)
    neurons = {
        "type": "CubaLIF", "tau_syn": 2 * three, "tau_mem": 4 * three, "r": three,
        "v_leak": 0 * three, "v_threshold": 0.2 * three, "w_in": w_in,
    }  # fmt: skip
    spikes, notes = spikes_of(
        write(tmp_path / "a.nir", ends({"n": neurons}, [inputs], [3])), series
    )
    current, membrane, wanted = np.zeros(3), np.zeros(3), []
    for arriving in series:
        current = current + (w_in @ arriving - current) / 2
        membrane = membrane + (current - membrane) / 4
        wanted.append(membrane > 0.2)
        membrane = np.where(wanted[-1], 0, membrane)
    assert np.any(wanted)
    np.testing.assert_array_equal(spikes, wanted)
    assert f"n: w_in is a matrix (3 x {inputs}), in front of its neurons" in notes


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("first", ["Input", "Linear"])
@pytest.mark.parametrize("axes", [0, 1])
def test_input_weights_of_one_input_or_one_neuron_are_a_matrix(
    tmp_path: Path, columns: int, first: str, axes: int
) -> None:
    """(n, 1) and (1, n) could be one number a neuron, too: what arrives and what follows tell."""
    rows = 4 - columns
    w_in = GENERATOR.uniform(0.3, 1.5, (rows, columns))
    series = GENERATOR.integers(0, 2, (50, columns)).astype(float)
    each = np.ones(rows if rows > 1 else (1,) * axes)
    neurons = {
        "type": "CubaLIF", "tau_syn": 2 * each, "tau_mem": 4 * each, "r": each,
        "v_leak": 0 * each, "v_threshold": 0.2 * each, "w_in": w_in,
    }  # fmt: skip
    weights = {"type": "Linear", "weight": np.eye(columns)}
    inside = {"n": neurons} if first == "Input" else {"l": weights, "n": neurons}
    path = write(tmp_path / "a.nir", ends(inside, [columns], [rows]))
    spikes, notes = spikes_of(path, series)
    current, membrane, wanted = np.zeros(rows), np.zeros(rows), []
    for arriving in series:
        current = current + (w_in @ arriving - current) / 2
        membrane = membrane + (current - membrane) / 4
        wanted.append(membrane > 0.2)
        membrane = np.where(wanted[-1], 0, membrane)
    assert np.any(wanted)
    np.testing.assert_array_equal(spikes, wanted)
    assert f"n: w_in is a matrix ({rows} x {columns}), in front of its neurons" in notes
    assert not any("holds for all" in note for note in notes)


def test_a_row_of_input_weights_stays_one_a_neuron_where_all_are_read(tmp_path: Path) -> None:
    neurons = {
        "type": "CubaLIF", "tau_syn": 2.0, "tau_mem": 4.0, "r": 1.0,
        "v_leak": 0.0, "v_threshold": 0.2, "w_in": np.array([[1.0, 2.0, 3.0]]),
    }  # fmt: skip
    path = write(tmp_path / "a.nir", ends({"n": neurons}, [3], [3]))
    network = import_nir(path, ImportOptions(dt=1.0))
    np.testing.assert_allclose(network.population("n").gain.ravel(), np.array([1, 2, 3]) / 8)


def test_input_weights_that_are_no_matrix_stay_one_a_neuron(tmp_path: Path) -> None:
    three = np.ones((3, 1))
    neurons = {
        "type": "CubaLIF", "tau_syn": 2 * three, "tau_mem": 4 * three, "r": three,
        "v_leak": 0 * three, "v_threshold": 0.2 * three, "w_in": np.array([1.0, 2.0, 3.0]),
    }  # fmt: skip
    path = write(tmp_path / "a.nir", ends({"n": neurons}, [3, 1], [3, 1]))
    network = import_nir(path, ImportOptions(dt=1.0))
    np.testing.assert_allclose(network.population("n").gain.ravel(), np.array([1, 2, 3]) / 8)


def test_a_convolution_without_the_fields_that_came_later(tmp_path: Path) -> None:
    """NIR 0.2 has no input_shape; other tools leave out what is torch's default."""
    kernel = GENERATOR.normal(0, 1, (2, 1, 3, 3))
    series = GENERATOR.integers(0, 2, (20, 1, 5, 6)).astype(float)
    conv = {"type": "Conv2d", "weight": kernel, "padding": 0, "dilation": 1, "groups": 1}
    neurons = {"type": "IF", "r": np.ones((2, 3, 4)), "v_threshold": np.ones((2, 3, 4))}
    path = write(tmp_path / "a.nir", ends({"c": conv, "n": neurons}, [1, 5, 6], [2, 3, 4]))
    spikes, notes = spikes_of(path, series)
    windows = np.lib.stride_tricks.sliding_window_view(series[:, 0], (3, 3), (1, 2))
    currents = np.einsum("tyxij,cij->tcyx", windows, kernel[:, 0])
    membrane, wanted = np.zeros((2, 3, 4)), []
    for current in currents:
        membrane = membrane + current
        wanted.append(membrane > 1)
        membrane = np.where(wanted[-1], 0, membrane)
    assert np.any(wanted)
    np.testing.assert_array_equal(spikes, wanted)
    assert "c: no stride in the file, taken as 1" in notes
    assert "c: no bias in the file, taken as 0" in notes


def test_an_affine_without_a_bias_adds_nothing(tmp_path: Path) -> None:
    affine = {"type": "Affine", "weight": np.eye(2)}
    neurons = {"type": "IF", "r": np.ones(2), "v_threshold": np.ones(2)}
    path = write(tmp_path / "a.nir", ends({"w": affine, "n": neurons}, [2], [2]))
    network = import_nir(path, ImportOptions(dt=1.0))
    assert not network.population("n").bias_current.any()
    assert "w: no bias in the file, taken as 0" in network.notes


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"type": "LIF", "tau": 1.0, "r": 1.0, "v_leak": 0.0}, "node 'n' (LIF) has no v_threshold"),
        ({"type": "Conv2d", "bias": np.ones(2)}, "node 'n' (Conv2d) has no weight"),
        ({"type": "Conv1d", "weight": np.ones((1, 1, 3, 3))}, "Conv1d weights have 3 dimensions"),
        ({"type": "AvgPool2d", "stride": 2}, "node 'n' (AvgPool2d) has no kernel_size"),
        ({"type": "Delay"}, "node 'n' (Delay) has no delay"),
        (
            {"type": "IF", "r": np.ones(3), "v_threshold": np.ones(4)},
            "node 'n' (IF): parameters of different shapes (r (3,), v_threshold (4,))",
        ),
        (
            {"type": "IF", "r": 1.0, "v_threshold": 1.0, "kind": "hard"},
            "node 'n' (IF) has a field 'kind', which NIR",
        ),
    ],
)
def test_what_does_not_follow_is_refused_by_node(tmp_path: Path, node: Fields, says: str) -> None:
    with pytest.raises(BadFileError) as caught:
        import_nir(write(tmp_path / "a.nir", ends({"n": node}, [3], [3])))
    assert says in str(caught.value)
    assert "argument" not in str(caught.value)


def test_neurons_that_never_forget_or_never_fire(tmp_path: Path) -> None:
    """tau = inf keeps the membrane for ever; v_threshold = inf never fires."""
    neurons = {
        "type": "LIF", "tau": np.array([2.0, np.inf, 2.0]), "r": np.ones(3),
        "v_leak": np.zeros(3), "v_threshold": np.array([0.4, 0.4, np.inf]),
    }  # fmt: skip
    series = np.ones((10, 3))
    spikes, _ = spikes_of(write(tmp_path / "a.nir", ends({"n": neurons}, [3], [3])), series)
    wanted = lif(series, neurons["tau"], 1, neurons["v_threshold"])
    assert wanted[:, 0].any()
    np.testing.assert_array_equal(spikes, wanted)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"type": "Linear", "weight": np.full((3, 3), np.nan)}, "node 'n': weight is not finite"),
        ({"type": "Scale", "scale": np.full(3, np.inf)}, "node 'n': scale is not finite"),
        ({"type": "Delay", "delay": np.full(3, np.inf)}, "node 'n': delay is not finite"),
        ({"type": "I", "r": np.full(3, np.nan)}, "node 'n': r is not finite"),
        ({"type": "IF", "r": np.ones(3), "v_threshold": np.full(3, np.nan)}, "node 'n': v_thr"),
        ({"type": "IF", "r": np.ones(3), "v_threshold": np.full(3, -np.inf)}, "node 'n': v_thr"),
        ({"type": "Threshold", "threshold": np.full(3, -np.inf)}, "node 'n': threshold"),
        (
            {"type": "LIF", "tau": np.inf, "r": np.inf, "v_leak": 0.0, "v_threshold": np.ones(3)},
            "does not leak is an IF node",
        ),
        (
            {"type": "AvgPool2d", "kernel_size": np.inf, "stride": 1, "padding": 0},
            "kernel_size is inf",
        ),
        ({"type": "Flatten", "start_dim": np.nan}, "node 'n' (Flatten): start_dim is nan"),
    ],
)
def test_numbers_that_nothing_holds_are_refused_by_node(
    tmp_path: Path, node: Fields, says: str
) -> None:
    lone = {"type": "IF", "r": np.ones(3), "v_threshold": np.ones(3)}
    inside = {"n": node} if node["type"] in ("IF", "LIF", "I") else {"n": node, "m": lone}
    with pytest.raises((BadFileError, BadNetworkError)) as caught:
        import_nir(write(tmp_path / "a.nir", ends(inside, [3], [3])), ImportOptions(dt=1.0))
    assert says in str(caught.value)


def test_padding_as_an_array_of_one_text(tmp_path: Path) -> None:
    kernel, series = GENERATOR.normal(0, 1, (2, 1, 3, 3)), GENERATOR.random((4, 1, 5, 5))
    fields = {"type": "Conv2d", "weight": kernel, "padding": np.array([b"same"])}
    neurons = {"type": "LIF", "tau": 2.0, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.2}
    nodes = ends({"c": fields, "n": neurons}, [1, 5, 5], [2, 5, 5])
    spikes, _ = spikes_of(write(tmp_path / "a.nir", nodes), series)
    padded = np.pad(series[:, 0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    wanted = lif(np.einsum("trcij,oij->torc", windows, kernel[:, 0]), 2, 1, 0.2)
    assert wanted.any()
    np.testing.assert_array_equal(spikes, wanted)


def test_an_input_without_a_shape_takes_what_its_weights_say(tmp_path: Path) -> None:
    weight, series = GENERATOR.normal(0, 1, (4, 3)), GENERATOR.integers(0, 2, (40, 3)).astype(float)
    neurons = {"type": "LIF", "tau": 3.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 0.4}
    nodes = {
        "input": {"type": "Input"},
        "w": {"type": "Linear", "weight": weight},
        "n": neurons,
        "output": {"type": "Output"},
    }
    spikes, _ = spikes_of(write(tmp_path / "a.nir", nodes), series)
    wanted = lif(series @ weight.T, 3, 2, 0.4)
    assert wanted.any()
    np.testing.assert_array_equal(spikes, wanted)

"""Several inputs, and ends that declare nothing, against plain NumPy."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest

from mtspark.convert.nir.neurons import ImportOptions
from mtspark.convert.nir.reader import import_graph
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import FloatKind
from mtspark.core.float_network.simulator import run_float

GENERATOR = np.random.default_rng(4)
STEPS = 30


def an_input(*shape: int) -> nir.Input:
    return nir.Input(input_type={"input": np.array(shape)})


def an_output(*shape: int) -> nir.Output:
    return nir.Output(output_type={"output": np.array(shape)})


def integrator(shape: tuple[int, ...], threshold: float = 1.0) -> nir.IF:
    return nir.IF(np.ones(shape), np.full(shape, threshold), np.zeros(shape))


def fired(currents: np.ndarray, threshold: float = 1.0) -> np.ndarray:
    membrane, spikes = np.zeros(currents.shape[1:]), []
    for current in currents:
        membrane = membrane + current
        spikes.append(membrane > threshold)
        membrane = np.where(spikes[-1], 0, membrane)
    return np.array(spikes)


def imported(nodes: dict[str, Any], edges: list[tuple[str, str]], **options: Any) -> Any:
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    return import_graph(graph, ImportOptions(dt=1.0, **options))


def spikes_of(network: Any, series: np.ndarray) -> np.ndarray:
    run = run_float(network, series.reshape(STEPS, 1, *network.input.shape))
    return run.spikes["n"][:, 0]


def test_two_inputs_are_joined_in_the_files_order() -> None:
    left, right = GENERATOR.normal(0, 1, (4, 3)), GENERATOR.normal(0, 1, (4, 2))
    nodes = {
        "b": an_input(2), "a": an_input(3), "wa": nir.Linear(left), "wb": nir.Linear(right),
        "n": integrator((4,)), "out": an_output(4),
    }  # fmt: skip
    edges = [("a", "wa"), ("b", "wb"), ("wa", "n"), ("wb", "n"), ("n", "out")]
    network = imported(nodes, edges)
    assert network.input.shape == (5,)
    assert "2 inputs are joined in one of shape (5,), in order: 'b' (2,), 'a' (3,)" in network.notes
    series = GENERATOR.integers(0, 2, (STEPS, 5)).astype(float)
    wanted = fired(series[:, :2] @ right.T + series[:, 2:] @ left.T)
    assert wanted.any()
    np.testing.assert_array_equal(spikes_of(network, series), wanted)


def test_images_are_joined_by_their_channels() -> None:
    """Convolutions stay convolutions."""
    kernel, other = GENERATOR.normal(0, 1, (3, 2, 2, 2)), GENERATOR.normal(0, 1, (3, 1, 2, 2))

    def conv(weight: np.ndarray) -> nir.Conv2d:
        return nir.Conv2d((4, 5), weight, 1, 0, 1, 1, np.zeros(3))

    nodes = {
        "x": an_input(2, 4, 5), "y": an_input(1, 4, 5), "cx": conv(kernel), "cy": conv(other),
        "n": integrator((3, 3, 4)), "out": an_output(3, 3, 4),
    }  # fmt: skip
    edges = [("x", "cx"), ("y", "cy"), ("cx", "n"), ("cy", "n"), ("n", "out")]
    network = imported(nodes, edges)
    assert network.input.shape == (3, 4, 5)
    assert {link.kind for link in network.connections} == {FloatKind.CONV}
    series = GENERATOR.integers(0, 2, (STEPS, 3, 4, 5)).astype(float)
    windows = np.lib.stride_tricks.sliding_window_view(series, (2, 2), (2, 3))
    both = np.concatenate([kernel, other], 1)
    wanted = fired(np.einsum("tcyxij,kcij->tkyx", windows, both))
    assert wanted.any()
    np.testing.assert_array_equal(spikes_of(network, series), wanted)


def test_an_image_and_a_vector_are_joined_flat() -> None:
    kernel, weight = GENERATOR.normal(0, 1, (1, 1, 2, 2)), GENERATOR.normal(0, 1, (4, 3))
    nodes = {
        "x": an_input(1, 3, 3), "c": nir.Conv2d((3, 3), kernel, 1, 0, 1, 1, np.zeros(1)),
        "f": nir.Flatten({"input": np.array([1, 2, 2])}, 0), "y": an_input(3),
        "w": nir.Linear(weight), "n": integrator((4,)), "out": an_output(4),
    }  # fmt: skip
    edges = [("x", "c"), ("c", "f"), ("f", "n"), ("y", "w"), ("w", "n"), ("n", "out")]
    network = imported(nodes, edges)
    series = GENERATOR.integers(0, 2, (STEPS, 12)).astype(float)
    images = series[:, :9].reshape(STEPS, 3, 3)
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (1, 2))
    currents = np.einsum("tyxij,ij->tyx", windows, kernel[0, 0]).reshape(STEPS, 4)
    wanted = fired(currents + series[:, 9:] @ weight.T)
    assert wanted.any()
    np.testing.assert_array_equal(spikes_of(network, series), wanted)


def test_an_input_that_leads_nowhere_is_left_out() -> None:
    nodes = {"a": an_input(3), "b": an_input(2), "n": integrator((3,)), "out": an_output(3)}
    network = imported(nodes, [("a", "n"), ("n", "out")])
    assert network.input.shape == (3,)
    assert "left out, as they do not lead to the output: b" in network.notes


def test_inputs_that_cannot_be_joined_say_why() -> None:
    nodes = {
        "a": nir.Input({"input": None}), "b": an_input(2), "n": integrator((2,)),
        "s": nir.SumPool2d(np.array(1), np.array(1), np.array(0)), "out": an_output(2),
    }  # fmt: skip
    edges = [("a", "s"), ("s", "n"), ("b", "n"), ("n", "out")]
    with pytest.raises(BadNetworkError, match=r"2 inputs \(a, b\) are joined.*the shape of 'a'"):
        imported(nodes, edges)
    large = {
        "a": an_input(6000), "b": an_input(6000), "n": integrator((6000,)), "out": an_output(6000)
    }  # fmt: skip
    with pytest.raises(BadNetworkError, match="too many to join"):
        imported(large, [("a", "n"), ("b", "n"), ("n", "out")])


@pytest.mark.parametrize("inside", [False, True])
def test_an_end_of_one_value_behind_neurons_of_one_number_says_nothing(inside: bool) -> None:
    """Exporters of neurons with one number for all declare an Output of shape (1,)."""
    weight = GENERATOR.normal(0, 1, (4, 3))
    one = np.ones(1)
    neurons = nir.LIF(2 * one, one, 0 * one, 0.3 * one, 0 * one)
    nodes = {"in": an_input(3), "w": nir.Linear(weight), "n": neurons, "out": an_output(1)}
    edges = [("in", "w"), ("w", "n"), ("n", "out")]
    if inside:
        cell = nir.NIRGraph(
            {"input": an_input(4), "n": neurons, "output": an_output(1)},
            [("input", "n"), ("n", "output")],
            type_check=False,
        )
        nodes |= {"n": cell}
    network = imported(nodes, edges)
    (name,) = [population.name for population in network.populations]
    assert network.population(name).shape == (4,)
    assert any("declares one value behind neurons of one number" in n for n in network.notes)
    series = GENERATOR.integers(0, 2, (STEPS, 3)).astype(float)
    membrane, wanted = np.zeros(4), []
    for current in series @ weight.T:
        membrane = membrane + (current - membrane) / 2
        wanted.append(membrane > 0.3)
        membrane = np.where(wanted[-1], 0, membrane)
    assert np.any(wanted)
    spikes = run_float(network, series[:, None]).spikes[name][:, 0]
    np.testing.assert_array_equal(spikes, wanted)


def test_an_end_of_another_size_still_contradicts() -> None:
    nodes = {"in": an_input(3), "n": integrator((3,)), "out": an_output(1)}
    with pytest.raises(BadNetworkError, match="'out' takes"):
        imported(nodes, [("in", "n"), ("n", "out")])

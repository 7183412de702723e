"""Traced modules written as NIR, read back, and run: the same spikes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from mtspark.convert.nir.agent import save_graph
from mtspark.convert.nir.file import read_nir
from mtspark.convert.nir.reader import import_graph, import_nir
from mtspark.convert.nir.writer import network_to_nir
from mtspark.convert.snntorch.trace import trace_module
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import (
    FloatConnection,
    FloatInput,
    FloatKind,
    FloatNetwork,
    FloatOutput,
    OutputKind,
    leaky_population,
)
from mtspark.core.float_network.simulator import run_float
from tests.convert.snntorch.test_trace import Branches, Packed
from tests.support.snntorch_modules import drive, positive


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=1, groups=2),
        snn.Leaky(torch.rand(4, 7, 4), init_hidden=True, threshold=0.3),
        nn.AvgPool2d(2),
        snn.Synaptic(0.6, 0.8, init_hidden=True, threshold=0.1),
        nn.Flatten(),
        nn.Linear(4 * 3 * 2, 5),
        snn.RLeaky(0.8, linear_features=5, init_hidden=True, threshold=0.2),
    )


def integrators() -> nn.Module:
    return nn.Sequential(
        positive(nn.Linear(6, 7)),
        snn.Leaky(1.0, init_hidden=True, threshold=4.0, reset_delay=False),
        nn.Linear(7, 3),
        snn.Leaky(0.9, init_hidden=True, output=True, reset_mechanism="none"),
    )


MODULES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "images": (images, (2, 7, 6)),
    "branches, loops, delays": (Branches, (6,)),
    "a head without neurons": (Packed, (6,)),
    "without leak, read as a membrane": (integrators, (6,)),
}


@pytest.mark.parametrize("name", MODULES)
def test_what_comes_back_does_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    make, shape = MODULES[name]
    network = trace_module(make(), name="net", input_shape=shape, time_steps=30).network
    path = tmp_path / "graph.nir"
    save_graph(network_to_nir(network), path)
    # nir's own type check gets the shapes of rectangular and grouped kernels wrong.
    back = import_graph(read_nir(path, type_check=False), name="net")
    assert back.time_steps == 30
    series = drive(shape)[:30].double().numpy()
    wanted, got = run_float(network, series), run_float(back, series)
    assert list(got.spikes) == list(wanted.spikes)
    for layer, spikes in wanted.spikes.items():
        assert spikes.any()
        assert np.array_equal(got.spikes[layer].reshape(spikes.shape), spikes)
        assert back.population(layer).reset is network.population(layer).reset
    assert back.output == network.output
    np.testing.assert_allclose(
        got.values.reshape(wanted.values.shape), wanted.values, rtol=1e-9, atol=1e-12
    )


def one(population: Any, link: Any, kind: OutputKind = OutputKind.SPIKES) -> FloatNetwork:
    return FloatNetwork(
        "one",
        FloatInput((2, 4, 4)),
        (population,),
        (link,),
        FloatOutput(population.name, kind),
        time_steps=5,
    )


def convolution() -> FloatConnection:
    return FloatConnection(
        "a", "input", "out", FloatKind.CONV, np.ones((3, 2, 3, 3)),
        input_shape=(2, 4, 4), output_shape=(3, 2, 2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"initial_membrane": 1.0}, "start at rest"),
        ({"membrane_offset": 1.0}, "offset"),
    ],
)
def test_what_nir_cannot_say_is_refused(changes: dict[str, Any], words: str) -> None:
    constants: dict[str, Any] = {"membrane_keep": 0.5, "thresholds": np.array([1.0]), **changes}
    population = leaky_population("out", (3, 2, 2), **constants)
    with pytest.raises(BadNetworkError, match=words):
        network_to_nir(one(population, convolution()))


def test_mean_of_a_membrane_is_a_linear_layer_before_the_output() -> None:
    population = leaky_population("out", (4,), membrane_keep=1.0, bias_current=np.full(4, 0.5))
    link = FloatConnection("a", "input", "out", FloatKind.DENSE, np.ones((4, 32)))
    network = one(population, link, OutputKind.MEAN)
    graph = network_to_nir(network)
    assert not any(isinstance(node, (nir.I, nir.LI)) for node in graph.nodes.values())
    series = np.random.default_rng(0).random((5, 2, 2, 4, 4))
    back = import_graph(graph)
    assert back.output.kind is OutputKind.MEAN
    np.testing.assert_allclose(run_float(back, series).values, run_float(network, series).values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"membrane_keep": 0.5}, "not of neurons with a memory of their own"),
        ({"current_keep": np.full(4, 0.5)}, "not of neurons with a memory of their own"),
        ({"gain": 2.0}, "not of neurons with a memory of their own"),
        ({"membrane_bias": np.full(4, 0.5)}, "not of neurons with a memory of their own"),
        ({"thresholds": np.array([1.0])}, "'out' fires and its membranes are read"),
    ],
)
def test_a_mean_of_anything_else_is_refused_not_written_as_one(
    changes: dict[str, Any], words: str
) -> None:
    population = leaky_population("out", (4,), **{"membrane_keep": 1.0, **changes})
    link = FloatConnection("a", "input", "out", FloatKind.DENSE, np.ones((4, 32)))
    with pytest.raises(BadNetworkError, match=words):
        network_to_nir(one(population, link, OutputKind.MEAN))


DIFFERENT: dict[str, dict[str, Any]] = {
    "some never forget": {"membrane_keep": np.linspace(0, 1, 12).reshape(3, 2, 2)},
    "some currents never forget": {
        "membrane_keep": np.linspace(1, 0.2, 12).reshape(3, 2, 2),
        "current_keep": np.linspace(0, 1, 12).reshape(3, 2, 2),
    },
    "none forgets, with a push": {"membrane_keep": 1.0, "membrane_bias": 0.3},
    "a bias of its own for each": {"bias_current": np.linspace(-1, 1, 12).reshape(3, 2, 2)},
    "both": {
        "membrane_keep": np.linspace(1, 0.5, 12).reshape(3, 2, 2),
        "bias_current": np.linspace(-1, 1, 12).reshape(3, 2, 2),
        "gain": 0.7,
    },
}


@pytest.mark.parametrize("name", ["out", "output", "a/b"])
@pytest.mark.parametrize("case", DIFFERENT)
def test_neurons_that_differ_have_a_graph(case: str, name: str, tmp_path: Path) -> None:
    """Against the equations in plain NumPy, from the file on."""
    constants: dict[str, Any] = {"membrane_keep": 0.5, "thresholds": np.array([20.0])}
    population = leaky_population(name, (3, 2, 2), **constants | DIFFERENT[case])
    link = replace(convolution(), target=name)
    path = tmp_path / "graph.nir"
    save_graph(network_to_nir(one(population, link)), path)
    series = np.random.default_rng(2).random((40, 1, 2, 4, 4))
    (spikes,) = run_float(import_nir(path), series).spikes.values()
    windows = np.lib.stride_tricks.sliding_window_view(series[:, 0], (3, 3), (2, 3))
    currents = np.repeat(windows.sum((1, 4, 5))[:, None], 3, 1)
    current, membrane, wanted = np.zeros((3, 2, 2)), np.zeros((3, 2, 2)), []
    for arriving in currents:
        current = population.current_keep * current + arriving + population.bias_current
        membrane = population.membrane_keep * membrane + population.gain * current
        membrane = membrane + population.membrane_bias
        wanted.append(membrane > 20)
        membrane = np.where(wanted[-1], 0, membrane)
    assert 0 < np.sum(wanted) < np.size(wanted)
    np.testing.assert_array_equal(spikes.reshape(np.shape(wanted)), wanted)


def test_betas_clamped_to_one_have_a_graph() -> None:
    """snntorch clamps learned betas; other tools step the graph with dt / tau in float32."""
    torch.manual_seed(0)
    beta = torch.tensor([0.5, 1.2, 1.0, -0.1])
    module = nn.Sequential(nn.Linear(3, 4), snn.Leaky(beta, threshold=0.4, init_hidden=True))
    network = trace_module(module, name="net", input_shape=(3,), time_steps=30).network
    node = network_to_nir(network).nodes["lif1"]
    assert isinstance(node, nir.LIF)
    ratio = (np.float32(network.dt) / node.tau.astype(np.float32)).astype(np.float32)
    np.testing.assert_allclose(1 - ratio, [0.5, 1, 1, 0], atol=1e-7)
    np.testing.assert_allclose(ratio * node.r.astype(np.float32), 1, rtol=1e-6)

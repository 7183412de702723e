"""Traced modules written as NIR, read back, and run: the same spikes."""

from __future__ import annotations

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
from mtspark.convert.nir.reader import import_graph
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
        ({"bias_current": np.arange(12.0).reshape(3, 2, 2)}, "bias of its own"),
        ({"initial_membrane": 1.0}, "start at rest"),
        ({"membrane_keep": np.linspace(0, 1, 12).reshape(3, 2, 2)}, "no decay beside"),
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

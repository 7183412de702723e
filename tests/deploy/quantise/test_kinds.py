"""What rounds to zero is no synapse where most of a layer or kernel does."""

from __future__ import annotations

import numpy as np
import pytest

from mtspark.core.chip_network.network import INPUT
from mtspark.core.float_network.network import (
    FloatConnection,
    FloatInput,
    FloatKind,
    FloatNetwork,
    FloatOutput,
    OutputKind,
    leaky_population,
)
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions


@pytest.mark.parametrize(
    ("bits", "kinds"), [(4, ["sparse_conv", "sparse"]), (8, ["conv", "dense"])]
)
def test_a_kind_follows_the_integers(bits: int, kinds: list[str]) -> None:
    """Most weights are a hundredth of the largest, a step of 8 bits and nothing in 4."""
    kernel, rows = np.full((2, 1, 2, 3), 0.01), np.full((3, 2 * 3 * 2), 0.01)
    kernel[:, 0, 0, 0] = rows[:, 0] = 1.0
    convolved = FloatConnection(
        "a", INPUT, "c", FloatKind.CONV, kernel, input_shape=(1, 4, 4), output_shape=(2, 3, 2)
    )
    net = FloatNetwork(
        "net",
        FloatInput((1, 4, 4)),
        tuple(
            leaky_population(name, shape, membrane_keep=0.5, thresholds=np.array([1.0]))
            for name, shape in (("c", (2, 3, 2)), ("o", (3,)))
        ),
        (convolved, FloatConnection("b", "c", "o", FloatKind.DENSE, rows)),
        FloatOutput("o", OutputKind.SPIKES),
        time_steps=4,
    )
    links = quantise(net, options=QuantiseOptions(weight_bits=bits)).connections
    assert [link.kind.value for link in links] == kinds
    kept = [int(np.count_nonzero(link.weights)) for link in links]
    assert [link.stored_weights for link in links] == (kept if bits == 4 else [12, 36])

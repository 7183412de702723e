from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtspark.core.arithmetic import MEMBRANE_LIMIT, THRESHOLD_LIMIT
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.quantise.fidelity import layer_fidelity, warnings_of
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip
from tests.deploy.quantise.test_calibration import chain

GENERATOR = np.random.default_rng(3)
SERIES = (GENERATOR.random((10, 4, 12)) < 0.4).astype(np.float64)


def report(network: Any, chip: Any, series: np.ndarray = SERIES) -> Any:
    trace = ReferenceChip(chip).decide(series.swapaxes(0, 1).astype(np.uint8), 0, trace=True).trace
    assert trace is not None
    return layer_fidelity(network, chip, run_float(network, series), trace)


def exact() -> Any:
    """Weights that are multiples of a common unit, decays of 1/2: integers lose nothing."""
    weights = [GENERATOR.integers(-126, 128, (8, 12)), GENERATOR.integers(-126, 128, (5, 8))]
    for weight in weights:
        weight[:, 0] = 127
    return chain([weight / 64.0 for weight in weights], keep=0.0, threshold=0.5078125)


def test_an_exact_network_has_no_distance() -> None:
    network = exact()
    layers = report(network, quantise(network))
    assert [layer.layer for layer in layers] == ["layer1", "layer2"]
    for layer in layers:
        assert layer.float_rate == layer.chip_rate > 0.1
        assert layer.spike_distance == layer.count_distance == layer.rate_error == 0
        assert layer.dead == layer.woken == layer.capped == layer.saturated == 0
        assert 0 < layer.membrane_used < layer.worst_membrane < 1
    assert warnings_of(layers) == []


def test_every_figure_by_hand() -> None:
    network = chain(
        [GENERATOR.normal(0.1, 0.4, (8, 12)), GENERATOR.normal(0.1, 0.4, (5, 8))], keep=0.7
    )
    chip = quantise(network, options=QuantiseOptions(weight_bits=2))
    trace = ReferenceChip(chip).decide(SERIES.swapaxes(0, 1).astype(np.uint8), 0, trace=True).trace
    assert trace is not None
    run = run_float(network, SERIES)
    layers = layer_fidelity(network, chip, run, trace)
    for depth, layer in enumerate(layers, start=1):
        fires = fired = differs = by_count = dead = woken = 0
        rates = 0.0
        for neuron in range(layer.neurons):
            own = other = 0
            for sample in range(4):
                balance = 0
                for step in range(10):
                    a = int(run.spikes[layer.layer][step, sample, neuron])
                    b = int(trace.spikes[layer.layer][step + depth, sample, neuron])
                    own, other, differs = own + a, other + b, differs + (a != b)
                    balance += a - b
                by_count += abs(balance)
            fires, fired = fires + own, fired + other
            rates += abs(own - other) / 40
            dead += own > 0 and other == 0
            woken += own == 0 and other > 0
        cells = layer.neurons * 40
        assert layer.moments == 40
        assert layer.float_rate == pytest.approx(fires / cells)
        assert layer.chip_rate == pytest.approx(fired / cells)
        assert layer.spike_distance == pytest.approx(differs / cells)
        assert layer.count_distance == pytest.approx(by_count / layer.neurons / 4)
        assert layer.rate_error == pytest.approx(rates / layer.neurons / (fires / cells))
        assert (layer.dead, layer.woken) == (dead, woken)
        assert differs > 0


def test_a_layer_that_falls_silent_is_named() -> None:
    network = exact()
    chip = quantise(network)
    first, second = chip.populations
    deaf = replace(second, thresholds=np.full_like(second.thresholds, THRESHOLD_LIMIT))
    layers = report(network, replace(chip, populations=(first, deaf)))
    assert [layer.silent for layer in layers] == [False, True]
    assert layers[1].capped == layers[1].dead == 5
    (warning,) = warnings_of(layers)
    assert warning.startswith("layer 'layer2' has gone silent")
    assert layers[1].to_json()["silent"] is True


def test_saturated_membranes_are_counted() -> None:
    network = exact()
    chip = quantise(network)
    first, second = chip.populations
    hard = replace(second, bias_mantissa=np.full(5, -4095), bias_exponent=7, membrane_decay=0)
    many = np.concatenate([SERIES] * 4)
    longer = replace(chip, populations=(first, hard), time_steps=40)
    layers = report(network, longer, many)
    trace = ReferenceChip(longer).decide(many.swapaxes(0, 1).astype(np.uint8), 0, trace=True).trace
    assert trace is not None
    ends = np.abs(trace.membranes["layer2"][2:]).max((0, 1)) == MEMBRANE_LIMIT
    assert layers[1].saturated == ends.sum() > 0
    assert layers[1].membrane_used == pytest.approx(MEMBRANE_LIMIT / (THRESHOLD_LIMIT * 64))
    assert any("end of their range" in warning for warning in warnings_of(layers))


def test_inputs_that_drive_nothing_are_said() -> None:
    network = exact()
    layers = report(network, quantise(network), np.zeros_like(SERIES))
    assert "fires in neither network" in warnings_of(layers)[0]
    short = np.zeros((2, 10, 12), np.uint8)
    trace = ReferenceChip(quantise(network)).decide(short, 0, trace=True).trace
    assert trace is not None
    with pytest.raises(BadRequestError, match="steps and samples"):
        layer_fidelity(network, quantise(network), run_float(network, SERIES), trace)

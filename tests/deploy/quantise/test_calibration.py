from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtspark.core.arithmetic import WEIGHT_EXPONENTS
from mtspark.core.chip_network.network import INPUT
from mtspark.core.errors import BadRequestError
from mtspark.core.float_network.network import (
    FloatConnection,
    FloatInput,
    FloatKind,
    FloatNetwork,
    FloatOutput,
    FloatReset,
    OutputKind,
    leaky_population,
)
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.quantise.calibration import Calibration, calibrate
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip


def chain(
    weights: list[np.ndarray], *, keep: float = 0.5, threshold: float = 1.0, steps: int = 10
) -> FloatNetwork:
    """Dense layers of spiking neurons."""
    populations, links = [], []
    source = INPUT
    for index, weight in enumerate(weights):
        name = f"layer{index + 1}"
        populations.append(
            leaky_population(
                name,
                (len(weight),),
                membrane_keep=keep,
                thresholds=np.array([threshold]),
                reset=FloatReset.SUBTRACT,
            )
        )
        links.append(FloatConnection(f"{source}->{name}", source, name, FloatKind.DENSE, weight))
        source = name
    return FloatNetwork(
        "chain",
        FloatInput((weights[0].shape[1],)),
        tuple(populations),
        tuple(links),
        FloatOutput(source, OutputKind.SPIKES),
        time_steps=steps,
    )


def outlier() -> tuple[FloatNetwork, np.ndarray]:
    """One weight of each row is 8 times larger than the rest, and its input never fires."""
    generator = np.random.default_rng(0)
    weights = generator.uniform(-0.5, 0.5, (6, 20))
    weights[:, 0] = 4.0
    series = (generator.random((10, 5, 20)) < 0.4).astype(np.float64)
    series[:, :, 0] = 0
    return chain([weights]), series


@pytest.mark.parametrize("per_channel", [True, False])
def test_clipping_a_weight_that_nothing_uses_pays(per_channel: bool) -> None:
    network, series = outlier()
    plain = QuantiseOptions(weight_bits=4, keep_sums=False, per_channel=per_channel)
    options, (report,) = calibrate(network, series, plain, method=Calibration.MSE)
    assert report.error < 0.5 * report.error_unclipped
    assert report.clipped == pytest.approx(1 / 20)
    # The report tells what the integers of the chip network really do.
    weights = network.connections[0].weights
    messages = series.reshape(-1, 20)
    for chosen, told in ((options, report.error), (plain, report.error_unclipped)):
        integers = quantise(network, options=chosen).connections[0].weights
        limit = chosen.weight_limits.get("input->layer1", np.abs(weights).max(1))
        back = integers * (np.asarray(limit)[:, None] / (7 * 32))
        error = messages @ (back - weights).T
        signal = messages @ weights.T
        assert told == pytest.approx(np.sqrt((error**2).sum() / (signal**2).sum()), rel=1e-9)


def test_a_percentile_of_the_weights() -> None:
    network, series = outlier()
    options, (report,) = calibrate(
        network, series, QuantiseOptions(4), method=Calibration.PERCENTILE, percentile=90
    )
    weights = np.abs(network.connections[0].weights)
    np.testing.assert_allclose(
        options.weight_limits["input->layer1"], np.percentile(weights, 90, axis=1)
    )
    assert report.clipped == pytest.approx(2 / 20)
    with pytest.raises(BadRequestError, match="percentile 20"):
        calibrate(network, series, QuantiseOptions(), method=Calibration.PERCENTILE, percentile=20)


def test_the_largest_clips_nothing() -> None:
    network, series = outlier()
    options, (report,) = calibrate(network, series, QuantiseOptions(), method=Calibration.LARGEST)
    assert options == QuantiseOptions()
    assert (report.clipped, report.error) == (0.0, report.error_unclipped)


def test_convolutions_never_get_worse_on_what_was_recorded() -> None:
    generator = np.random.default_rng(1)
    conv = leaky_population("conv", (3, 3, 2), membrane_keep=0.5, thresholds=np.array([1.0]))
    out = leaky_population("out", (4,), membrane_keep=0.5, thresholds=np.array([1.0]))
    network = FloatNetwork(
        "images",
        FloatInput((2, 7, 6)),
        (conv, out),
        (
            FloatConnection(
                "a",
                INPUT,
                "conv",
                FloatKind.CONV,
                generator.standard_t(2, (3, 2, 3, 3)),
                input_shape=(2, 7, 6),
                output_shape=(3, 3, 2),
                stride=(2, 2),
            ),
            FloatConnection("b", "conv", "out", FloatKind.DENSE, generator.standard_t(2, (4, 18))),
        ),
        FloatOutput("out", OutputKind.SPIKES),
        time_steps=8,
    )
    series = (generator.random((8, 4, 2, 7, 6)) < 0.5).astype(np.float64)
    for bits in (2, 3, 6):
        options, reports = calibrate(network, series, QuantiseOptions(bits))
        assert [report.connection for report in reports] == ["a", "b"]
        assert all(report.error <= report.error_unclipped for report in reports)
        assert any(report.error < report.error_unclipped for report in reports)
        quantise(network, options=options)


def deep() -> tuple[FloatNetwork, np.ndarray]:
    """Five layers without leak, 300 inputs each, for 200 steps: the worst case is hopeless."""
    generator = np.random.default_rng(2)
    weights = [generator.normal(0.004, 0.04, (300, 300)) for _ in range(5)]
    network = chain(weights, keep=1.0, threshold=0.5, steps=200)
    series = (generator.random((200, 2, 300)) < 0.1).astype(np.float64)
    return network, series


def distances(network: FloatNetwork, chip: Any, series: np.ndarray) -> list[float]:
    wanted = run_float(network, series).spikes
    frames = series.swapaxes(0, 1).astype(np.uint8)
    trace = ReferenceChip(chip).decide(frames, 0, trace=True).trace
    assert trace is not None
    return [
        float((trace.spikes[name][chip.window(name)] != (spikes > 0)).mean())
        for name, spikes in wanted.items()
    ]


def test_recorded_currents_give_deep_networks_without_leak_their_bits_back() -> None:
    network, series = deep()
    plain = quantise(network, options=QuantiseOptions())
    options, _ = calibrate(
        network, series, QuantiseOptions(), method=Calibration.LARGEST, bound_currents=True
    )
    bounded = quantise(network, options=options)
    exponents = [[link.exponent for link in chip.connections] for chip in (plain, bounded)]
    assert all(one < two for one, two in zip(*exponents, strict=True))
    assert {*exponents[0], *exponents[1]} <= set(WEIGHT_EXPONENTS)
    before, after = distances(network, plain, series), distances(network, bounded, series)
    assert after[-1] < before[-1]
    assert "saturate" in bounded.provenance["notes"]

"""All effects on is the chip, bit for bit; none is the float network; each alone does its thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtspark.core.arithmetic import MEMBRANE_LIMIT
from mtspark.core.chip_network.network import INPUT, ReadoutKind
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
from mtspark.deploy.quantise.codebook import with_palette
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.explain import CHIP_EFFECTS, Effect, EffectChip, ExplainedNetwork


def random_network(seed: int, reset: FloatReset, current_keep: float = 0.0) -> FloatNetwork:
    """An image layer with a loop, a dense layer with another, a readout; two tasks."""
    generator = np.random.default_rng(seed)
    first = leaky_population(
        "first",
        (3, 3, 2),
        membrane_keep=generator.uniform(0.3, 0.95),
        current_keep=current_keep,
        thresholds=generator.uniform(0.3, 1.5, (2, 3, 3, 2)),
        reset=reset,
        gain=np.full((3, 3, 2), 0.7),
        bias_current=generator.normal(0, 0.05, (3, 3, 2)),
    )
    second = leaky_population(
        "second",
        (9,),
        membrane_keep=generator.uniform(0.3, 0.95, 9),
        thresholds=generator.uniform(0.3, 1.5, (2, 9)),
        reset=reset,
        bias_current=generator.normal(0.1, 0.05, 9),
    )
    out = leaky_population("out", (4,), membrane_keep=1.0, bias_current=np.full(4, 0.03))
    links = (
        FloatConnection(
            "a",
            INPUT,
            "first",
            FloatKind.CONV,
            generator.normal(0.3, 0.8, (3, 2, 3, 3)),
            input_shape=(2, 7, 6),
            output_shape=(3, 3, 2),
            stride=(2, 2),
        ),
        FloatConnection("b", "first", "second", FloatKind.DENSE, generator.normal(0.1, 1, (9, 18))),
        FloatConnection(
            "c", "second", "second", FloatKind.DENSE, generator.normal(0, 0.3, (9, 9)), delay=1
        ),
        FloatConnection("d", "second", "out", FloatKind.DENSE, generator.normal(0, 1, (4, 9))),
        FloatConnection(
            "e", "first", "out", FloatKind.DENSE, generator.normal(0, 0.2, (4, 18)), delay=2
        ),
    )
    return FloatNetwork(
        "random",
        FloatInput((2, 7, 6), scale=1 / 255),
        (first, second, out),
        links,
        FloatOutput("out", OutputKind.MEAN),
        tasks=("one", "two"),
        time_steps=6,
    )


def frames(seed: int, batch: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (batch, 2, 7, 6)).astype(np.uint8)


CASES = [
    (FloatReset.ZERO, 0.0),
    (FloatReset.SUBTRACT, 0.0),
    (FloatReset.SUBTRACT_LATE, 0.6),
    (FloatReset.SUBTRACT_GUARDED, 0.0),
    (FloatReset.NONE, 0.6),
]


@pytest.mark.parametrize(("reset", "current_keep"), CASES)
@pytest.mark.parametrize("bits", [8, 4])
def test_all_effects_are_the_chip(reset: FloatReset, current_keep: float, bits: int) -> None:
    network = random_network(1, reset, current_keep)
    options = QuantiseOptions(weight_bits=bits, keep_sums=bits == 8)
    chip = quantise(network, options=options, payload_bits=8, held=True)
    explained = ExplainedNetwork(network, chip, options)
    reference = ReferenceChip(chip)
    for task in (0, 1):
        wanted = reference.decide(frames(task), task, trace=True)
        got = EffectChip(explained, CHIP_EFFECTS).decide(frames(task), task, trace=True)
        assert wanted.trace is not None
        assert got.trace is not None
        for name in ("first", "second", "out"):
            window = chip.window(name)
            spikes = wanted.trace.spikes[name][window]
            assert np.array_equal(got.trace.spikes[name], spikes)
            assert np.array_equal(got.trace.membranes[name], wanted.trace.membranes[name][window])
            assert np.array_equal(got.activity.window[name], spikes.sum(0))
        assert np.array_equal(got.values, wanted.values)
        assert wanted.trace.spikes["second"].any()


@pytest.mark.parametrize(("reset", "current_keep"), CASES)
def test_no_effects_are_the_float_network(reset: FloatReset, current_keep: float) -> None:
    network = random_network(2, reset, current_keep)
    options = QuantiseOptions(weight_bits=3)
    chip = quantise(network, options=options, payload_bits=8, held=True)
    plain = EffectChip(ExplainedNetwork(network, chip, options))
    pixels = frames(5)
    series = np.broadcast_to(pixels / 255.0, (6, *pixels.shape))
    for task in (0, 1):
        wanted = run_float(network, series, task)
        got = plain.decide(pixels, task, trace=True)
        assert got.trace is not None
        for name in ("first", "second"):
            assert np.array_equal(got.trace.spikes[name], wanted.spikes[name] > 0)
        np.testing.assert_allclose(got.values, wanted.values, rtol=1e-9, atol=1e-12)


def membranes(case: EffectChip) -> np.ndarray:
    trace = case.decide(frames(7, 20), 0, trace=True).trace
    assert trace is not None
    return np.concatenate([values.ravel() for values in trace.membranes.values()])


@pytest.mark.slow
def test_each_effect_alone_does_what_it_says() -> None:
    """Every effect moves some membrane, but for those that this network cannot have."""
    network = random_network(3, FloatReset.SUBTRACT, 0.6)
    options = QuantiseOptions(weight_bits=4)
    chip = quantise(network, options=options, payload_bits=8, held=True)
    painted, _ = with_palette(chip, 4)
    explained = ExplainedNetwork(network, painted, options)
    still = membranes(EffectChip(explained))
    changed = {
        effect for effect in Effect if (membranes(EffectChip(explained, {effect})) != still).any()
    }
    # Proven to stay in range, so nothing can saturate.
    assert changed == set(Effect) - {Effect.SATURATION}
    assert any(link.exponent < 0 for link in chip.connections)
    plain = EffectChip(explained).decide(frames(7, 20), 0).values
    reference = ReferenceChip(painted).decide(frames(7), 0)
    together = EffectChip(explained, CHIP_EFFECTS).decide(frames(7), 0)
    assert np.array_equal(reference.values, together.values)
    only = EffectChip(explained, {Effect.WEIGHTS}, {"out"}).decide(frames(7, 20), 0)
    plain_counts = EffectChip(explained).decide(frames(7, 20), 0).activity.window
    assert np.array_equal(only.activity.window["second"], plain_counts["second"])
    assert not np.allclose(only.values, plain, rtol=1e-12)


def test_another_network_is_refused() -> None:
    network = random_network(3, FloatReset.ZERO)
    chip = quantise(network, options=QuantiseOptions(), payload_bits=8, held=True)
    with pytest.raises(BadRequestError, match="export it again"):
        ExplainedNetwork(network, chip, QuantiseOptions(weight_bits=4))


def test_saturation_and_wrapping_are_seen_where_they_happen() -> None:
    """The same neurons under thresholds and biases far out of range, beside the reference."""
    network = random_network(3, FloatReset.NONE, 0.9)
    chip = quantise(network, payload_bits=8, held=True)
    explained = ExplainedNetwork(network, chip, QuantiseOptions())
    loud = tuple(
        replace(
            population,
            bias_mantissa=np.full(population.shape, -4095),
            bias_exponent=7,
            membrane_decay=0,
            current_decay=0,
        )
        for population in chip.populations
    )
    links = tuple(replace(link, exponent=7) for link in chip.connections)
    noisy = replace(chip, populations=loud, connections=links, time_steps=30)
    explained.chip = noisy
    explained.layers = [
        replace(
            layer,
            chip=noisy.population(layer.chip.name),
            links=tuple(replace(link, factor=2.0**7) for link in layer.links),
        )
        for layer in explained.layers
    ]
    wanted = ReferenceChip(noisy).decide(frames(1), 0, trace=True).trace
    assert wanted is not None
    same, free = (
        EffectChip(explained, effects).decide(frames(1), 0, trace=True).trace
        for effects in (CHIP_EFFECTS, set(CHIP_EFFECTS) - {Effect.SATURATION})
    )
    assert same is not None
    assert free is not None
    assert np.abs(wanted.membranes["first"]).max() == MEMBRANE_LIMIT
    for layer in explained.layers:
        name = layer.chip.name
        assert np.array_equal(same.membranes[name], wanted.membranes[name][noisy.window(name)])
    assert np.abs(free.membranes["first"]).max() > MEMBRANE_LIMIT


def test_series_and_spike_counts() -> None:
    network = replace(
        random_network(4, FloatReset.SUBTRACT), output=FloatOutput("second", OutputKind.SPIKES)
    )
    network = replace(network, input=FloatInput((2, 7, 6)))
    options = QuantiseOptions()
    chip = quantise(network, options=options)
    assert chip.readout.kind is ReadoutKind.SPIKES
    explained = ExplainedNetwork(network, chip, options)
    series = np.random.default_rng(0).integers(0, 2, (4, 6, 2, 7, 6)).astype(np.uint8)
    wanted: Any = ReferenceChip(chip).decide(series, 1)
    got = EffectChip(explained, CHIP_EFFECTS).decide(series, 1)
    assert np.array_equal(got.values, wanted.values)
    assert wanted.values.any()
    with pytest.raises(BadRequestError, match="frames are"):
        EffectChip(explained).decide(series[:, 0], 1)

"""Signs of parameters survive from a NIR file to the chip's integers."""

from __future__ import annotations

import itertools
from pathlib import Path

import nir
import numpy as np
import pytest

import mtspark
from mtspark.convert.nir.neurons import ImportOptions, Start
from mtspark.convert.nir.reader import import_graph
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip


@pytest.mark.parametrize("seed", range(8))
def test_a_negative_r_turns_weights_and_bias_alike(seed: int, tmp_path: Path) -> None:
    """IF by its equation in plain NumPy: v += r (W x + b), a spike above 1, reset to 0."""
    draw = np.random.default_rng(seed)
    neurons, steps = 7, 24
    r = draw.choice([-1.0, 1.0], neurons)
    weights = draw.integers(-4, 5, (neurons, 3)) / 8
    bias = draw.integers(-5, 6, neurons) / 16
    frames = draw.integers(0, 2, (steps, 3))
    if seed < 2:
        # A silent input, so that only the bias acts; the first neuron is that of a bug report.
        frames[:] = 0
        r[0], weights[0], bias[0] = -1.0, [-1.0, 0.0, 0.0], -0.3
    # Sums are multiples of 1/16, but for the bug report's: none meets the threshold.
    threshold = 31 / 32
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "w": nir.Affine(weights, bias),
        "n": nir.IF(r=r, v_threshold=np.full(neurons, threshold), v_reset=np.zeros(neurons)),
        "output": nir.Output({"output": np.array([neurons])}),
    }
    nir.write(tmp_path / "signs.nir", nir.NIRGraph(nodes, list(itertools.pairwise(nodes))))
    membrane, wanted = np.zeros(neurons), np.zeros((steps, neurons), dtype=bool)
    for step in range(steps):
        membrane = membrane + r * (weights @ frames[step] + bias)
        wanted[step] = membrane > threshold
        membrane = np.where(wanted[step], 0.0, membrane)
    chip = mtspark.export(tmp_path / "signs.nir", if_gain_dt=False, time_steps=steps)
    result = chip.run(frames[None].astype(np.uint8), record=True)
    assert wanted.any(), "a case that never fires proves nothing"
    np.testing.assert_array_equal(result.spikes["n"][:, 0], wanted)
    if seed < 2:
        assert np.flatnonzero(wanted[:, 0]).tolist() == [3, 7, 11, 15, 19, 23]


@pytest.mark.parametrize("start", list(Start))
def test_a_negative_r_turns_neither_the_leak_nor_the_start(start: Start) -> None:
    """LIF by its equation: v += (v_leak - v + r (W x + b)) / 2, halves of whole numbers."""
    draw = np.random.default_rng(0)
    neurons, steps = 9, 6
    ones = np.ones(neurons)
    r, leak = 2 * draw.choice([-1.0, 1.0], neurons), draw.integers(-4, 5, neurons) * 1.0
    weights, bias = draw.integers(-4, 5, (neurons, 3)) * 1.0, draw.integers(-3, 4, neurons) * 1.0
    frames = draw.integers(0, 2, (steps, 3))
    frames[0], threshold = 0, 3 + 1 / 128
    nodes = {
        "input": nir.Input({"input": np.array([3])}),
        "w": nir.Affine(weights, bias),
        "n": nir.LIF(
            tau=2 * ones, r=r, v_leak=leak, v_reset=0 * ones, v_threshold=threshold * ones
        ),
        "output": nir.Output({"output": np.array([neurons])}),
    }
    membrane, wanted = leak * (start is Start.REST), np.zeros((steps, neurons), dtype=bool)
    for step in range(steps):
        membrane = membrane + (leak - membrane + r * (weights @ frames[step] + bias)) / 2
        wanted[step] = membrane > threshold
        membrane = np.where(wanted[step], 0.0, membrane)
    assert wanted[:, r < 0].any()
    options = ImportOptions(dt=1.0, time_steps=steps, start=start)
    network = import_graph(nir.NIRGraph(nodes, list(itertools.pairwise(nodes))), options)
    chip = quantise(network, payload_bits=0, held=False, options=QuantiseOptions(may_saturate=True))
    trace = ReferenceChip(chip).decide(frames[None].astype(np.uint8), 0, trace=True).trace
    assert trace is not None
    np.testing.assert_array_equal(trace.spikes["n"][chip.window("n")][:, 0], wanted)

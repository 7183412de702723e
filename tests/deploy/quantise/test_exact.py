"""Neurons whose numbers are whole multiples of a step come out exact, ties with it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.convert.nir.neurons import ImportOptions
from mtspark.convert.nir.reader import import_graph
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import FloatReset
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.quantise.exact import ExactNeurons, Wanted, common_steps, refinements
from mtspark.deploy.quantise.network import quantise, quantise_exactly
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip

STEPS = 12


def chain(shape: tuple[int, ...], *nodes: Any) -> nir.NIRGraph:
    """Input, the nodes in this order, output."""
    named = {"input": nir.Input({"input": np.array(shape)})}
    named |= {f"n{number}": node for number, node in enumerate(nodes)}
    named["output"] = nir.Output({"output": None})
    names = list(named)
    edges = list(itertools.pairwise(names))
    return nir.NIRGraph(nodes=named, edges=edges, type_check=False)


def neurons(shape: tuple[int, ...], threshold: Any) -> nir.IF:
    ones = np.ones(shape)
    return nir.IF(r=ones, v_threshold=threshold * ones, v_reset=0 * ones)


def both(
    graph: nir.NIRGraph, spikes: np.ndarray, **choices: Any
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Spikes of the last neurons, (T, neurons), float and chip, and how many were exact."""
    network = import_graph(graph, ImportOptions(dt=1.0, time_steps=len(spikes), **choices))
    name = network.output.population
    ours = run_float(network, spikes[:, None].astype(float)).spikes[name][:, 0]
    chip, exactness = quantise_exactly(
        network, payload_bits=0, held=False, options=QuantiseOptions(may_saturate=True)
    )
    trace = ReferenceChip(chip).decide(spikes[None].astype(np.uint8), 0, trace=True).trace
    assert trace is not None
    fired = trace.spikes[name][chip.window(name)][:, 0]
    exact = [int(layer.neurons.sum()) for layer in exactness if layer.population == name]
    return ours.reshape(len(spikes), -1), fired.reshape(len(spikes), -1), exact


def integrate(
    currents: np.ndarray, threshold: np.ndarray, reset: str, at: bool, keep: float = 1.0
) -> tuple[np.ndarray, int]:
    """v <- keep v + I; a spike where v > threshold (or =); (T, n) spikes, and ties met.

    Whole numbers in float64: no sum here rounds.
    """
    v, fired, before = np.zeros(currents.shape[1]), np.zeros(currents.shape[1], bool), None
    spikes, ties = [], 0
    for current in currents:
        above = v >= threshold if at else v > threshold
        v = keep * v + current
        if reset == "subtract_late" and before is not None:
            v = v - threshold * before
        limit = threshold + (threshold * above if reset == "subtract_guarded" else 0)
        ties += int((v == limit).sum())
        fired = v >= limit if at else v > limit
        if reset == "zero":
            v = np.where(fired, 0, v)
        elif reset in ("subtract", "subtract_guarded"):
            v = np.where(fired, v - threshold, v)
        spikes.append(fired)
        before = fired
    return np.array(spikes), ties


def test_a_pool_whose_sums_meet_the_threshold_fires_at_it() -> None:
    spikes = np.random.default_rng(0).random((STEPS, 2, 6, 6)) < 0.4
    pooled = spikes.reshape(STEPS, 2, 3, 2, 3, 2).sum((3, 5)).reshape(STEPS, -1)
    wanted, ties = integrate(pooled, np.full(18, 2), "zero", at=True)
    pool = nir.AvgPool2d(kernel_size=2, stride=2, padding=0)
    graph = chain((2, 6, 6), pool, neurons((2, 3, 3), 0.5))
    ours, chip, exact = both(graph, spikes, fires_at_threshold=True)
    assert ties > 20
    assert np.array_equal(ours, wanted)
    assert np.array_equal(chip, wanted)
    assert exact == [18]


def test_weights_that_are_multiples_of_a_half_meet_the_threshold_of_one() -> None:
    generator = np.random.default_rng(1)
    weights = generator.choice([-0.5, 0.5, 1.0], (36, 10))
    spikes = generator.random((STEPS, 10)) < 0.4
    wanted, ties = integrate(spikes @ (2 * weights).T, np.full(36, 2), "zero", at=False)
    graph = chain((10,), nir.Linear(weights), neurons((36,), 1.0))
    ours, chip, exact = both(graph, spikes)
    assert ties > 20
    assert wanted.size == 432
    assert np.array_equal(ours, wanted)
    assert np.array_equal(chip, wanted)
    assert exact == [36]


@given(
    seed=st.integers(0, 10_000),
    reset=st.sampled_from(list(FloatReset)),
    at=st.booleans(),
    keep=st.sampled_from([0.0, 1.0, 1.0]),
    share=st.sampled_from([1.0, 0.5, 0.25, 1 / 3, 0.1, np.float32(0.1)]),
    bits=st.sampled_from([8, 8, 5]),
    per_channel=st.booleans(),
    for_netx=st.booleans(),
)
def test_whole_multiples_equal_sums_of_whole_numbers(
    seed: int,
    reset: FloatReset,
    at: bool,
    keep: float,
    share: float,
    bits: int,
    per_channel: bool,
    for_netx: bool,
) -> None:
    """Random signs, biases and thresholds, in units of `share`; every reset, at and above."""
    if reset is FloatReset.ZERO_LATE:
        return
    generator = np.random.default_rng(seed)
    weights = generator.integers(-5, 8, (6, 8))
    bias = generator.integers(-2, 3, 6) * generator.integers(0, 2)
    threshold = generator.integers(1, 12, 6)
    spikes = generator.random((STEPS, 8)) < 0.5
    wanted, _ = integrate(spikes @ weights.T + bias, threshold, reset.value, at, keep)
    ones = np.ones(6)
    kind: Any = neurons((6,), share * threshold)
    if keep == 0.0:
        rest = {"v_leak": 0 * ones, "v_reset": 0 * ones, "v_threshold": share * threshold}
        kind = nir.LIF(tau=ones, r=ones, **rest)
    graph = chain((8,), nir.Affine(share * weights, share * bias), kind)
    choices = ImportOptions(dt=1.0, time_steps=STEPS, reset=reset, fires_at_threshold=at)
    chip, exactness = quantise_exactly(
        import_graph(graph, choices),
        payload_bits=0,
        held=False,
        options=QuantiseOptions(
            bits, per_channel=per_channel, may_saturate=True, for_netx=for_netx
        ),
    )
    trace = ReferenceChip(chip).decide(spikes[None].astype(np.uint8), 0, trace=True).trace
    assert trace is not None
    name = chip.readout.population
    fired = trace.spikes[name][chip.window(name)][:, 0]
    assert np.array_equal(fired, wanted)
    assert exactness[-1].neurons.all()


@pytest.mark.parametrize("threshold", [-0.75, 0.0])
@pytest.mark.parametrize("at", [False, True])
def test_a_threshold_node_holds_a_threshold_that_silence_passes(threshold: float, at: bool) -> None:
    """z = [x > theta], theta 0 or below: without memory a bias lifts both."""
    generator = np.random.default_rng(2)
    weights = generator.choice([-0.75, 0.75, 1.5], (8, 4))
    spikes = generator.random((STEPS, 4)) < 0.5
    sums = spikes @ weights.T
    wanted = sums >= threshold if at else sums > threshold
    assert np.any(sums == threshold)
    graph = chain((4,), nir.Linear(weights), nir.Threshold(np.full(8, threshold)))
    ours, chip, exact = both(graph, spikes, fires_at_threshold=at)
    assert np.array_equal(ours, wanted)
    assert np.array_equal(chip, wanted)
    assert exact == [8]


def test_a_trained_layer_is_quantised_as_before_and_none_of_it_is_exact() -> None:
    generator = np.random.default_rng(3)
    weights = generator.normal(0, 1, (5, 40))
    graph = chain((40,), nir.Linear(weights), neurons((5,), 1.0))
    network = import_graph(graph, ImportOptions(time_steps=STEPS))
    chip, (exactness,) = quantise_exactly(network, payload_bits=0, held=False)
    assert not exactness.neurons.any()
    assert exactness.counted() == ExactNeurons("n1", 5, 0)
    # Its largest weight is the end of the grid.
    assert (np.abs(chip.connections[0].weights).max(1) >= 254).all()
    assert quantise(network, payload_bits=0, held=False).provenance == chip.provenance


def test_the_largest_common_step() -> None:
    rows = np.array(
        [
            [0.5, -1.0, 0.0],
            [0.3, 0.2, 0.1],
            [7.0, 3.0, 127.0],
            [-128.0, 1.0, 0.0],
            [128.0, 1.0, 0.0],
            [np.pi, np.e, 1.0],
        ]
    )
    np.testing.assert_allclose(common_steps(rows, 127), [0.5, 0.1, 1.0, 1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("inputs", "bias", "remedy"), [(3, 1e6, "use smaller biases"), (4000, 0.0, "use fewer inputs")]
)
def test_advice_on_sums_that_do_not_fit_names_what_makes_them_large(
    inputs: int, bias: float, remedy: str
) -> None:
    weights = np.random.default_rng(0).normal(1, 0.1, (2, inputs))
    graph = chain((inputs,), nir.Affine(weights, np.full(2, bias)), neurons((2,), 1.0))
    network = import_graph(graph, ImportOptions(dt=1.0, time_steps=STEPS))
    with pytest.raises(BadNetworkError, match=f"within 24 bits.*{remedy}$"):
        quantise(network, payload_bits=8, held=False)


@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_leaky_neurons_fire_at_their_threshold(reset: str) -> None:
    """v <- v / 2 + W x / 2, a spike where v >= 1/2: SpikingJelly's LIF of tau 2."""
    generator = np.random.default_rng(4)
    weights = generator.integers(-4, 6, (40, 6))
    spikes = generator.random((STEPS, 6)) < 0.4
    # In units of an eighth.
    wanted, ties = integrate(spikes @ weights.T, np.full(40, 4), reset, at=True, keep=0.5)
    ones = np.ones(40)
    node = nir.LIF(tau=2 * ones, r=ones, v_leak=0 * ones, v_threshold=ones / 2, v_reset=0 * ones)
    graph = chain((6,), nir.Linear(weights / 4), node)
    ours, chip, _ = both(graph, spikes, fires_at_threshold=True, reset=FloatReset(reset))
    assert ties > 5
    assert np.array_equal(ours, wanted)
    assert np.array_equal(chip, wanted)
    options = ImportOptions(dt=1.0, time_steps=STEPS, reset=FloatReset(reset))
    for at, for_netx in itertools.product((True, False), repeat=2):
        network = import_graph(graph, replace(options, fires_at_threshold=at))
        chosen = QuantiseOptions(for_netx=for_netx, may_saturate=True)
        chip_network = quantise(network, payload_bits=0, held=False, options=chosen)
        told = "40 neurons fire at their threshold and decay" in chip_network.provenance["notes"]
        # A netx file holds neurons that fire above their threshold.
        assert told == (at and reset != "subtract" and for_netx)
        flag = chip_network.populations[-1].fires_at_threshold
        assert flag == (at and (reset == "subtract" or not for_netx))


RESETS = ["zero", "none", "subtract", "subtract_late", "subtract_guarded"]


def hair(seed: int, reset: str, at: bool, keep: float, current_keep: float) -> Any:
    """Neurons whose membranes meet their threshold, or lie a hair below it.

    One weight of 127, which no spike meets, leaves two mantissas for a weight of 1; halved
    membranes lie between them, and so do biases of a quarter.

    Returns:
        Float graph, chip network, its spikes, those of the equation, ties, and membranes that lie
        within a mantissa below the threshold.
    """
    steps, size = 6, 200
    generator = np.random.default_rng(seed)
    weights = generator.integers(-4, 7, (size, 6))
    weights[:, -1] = 127
    bias = np.zeros(size) if keep == 0.5 else generator.integers(-1, 3, size) / 4
    threshold = generator.integers(2, 7, size)
    spikes = generator.random((steps, 6)) < 0.5
    spikes[:, -1] = False
    arriving = spikes @ weights.T + bias
    for step in range(1, steps):
        arriving[step] += current_keep * arriving[step - 1]
    wanted, ties = integrate(arriving, threshold, reset, at, keep)
    ones = np.ones(size)
    rest = {"v_leak": 0 * ones, "v_reset": 0 * ones, "v_threshold": threshold * ones}
    tau = ones / (1 - keep) if keep < 1 else None
    if current_keep:
        node: Any = nir.CubaLIF(
            tau_syn=ones / (1 - current_keep), tau_mem=tau, r=ones / (1 - keep),
            w_in=ones / (1 - current_keep), **rest
        )  # fmt: skip
    else:
        node = neurons((size,), threshold) if tau is None else nir.LIF(tau=tau, r=tau, **rest)
    graph = chain((6,), nir.Affine(weights.astype(float), bias), node)
    choices = ImportOptions(
        dt=1.0, time_steps=steps, reset=FloatReset(reset), fires_at_threshold=at
    )
    network = import_graph(graph, choices)
    chip, exactness = quantise_exactly(
        network, payload_bits=0, held=False, options=QuantiseOptions(may_saturate=True)
    )
    return network, chip, spikes, wanted, ties, exactness[-1].neurons


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize(("keep", "current_keep"), [(0.5, 0.0), (1.0, 0.0), (0.5, 0.5)])
@pytest.mark.parametrize("at", [True, False])
def test_membranes_a_hair_below_their_threshold_stay_silent(
    reset: str, keep: float, current_keep: float, at: bool
) -> None:
    for seed in range(3):
        network, chip, spikes, wanted, ties, exact = hair(seed, reset, at, keep, current_keep)
        name = network.output.population
        ours = run_float(network, spikes[:, None].astype(float)).spikes[name][:, 0]
        trace = ReferenceChip(chip).decide(spikes[None].astype(np.uint8), 0, trace=True).trace
        assert trace is not None
        fired = trace.spikes[name][chip.window(name)][:, 0]
        assert ties > 5
        assert exact.all()
        assert np.array_equal(ours, wanted)
        assert np.array_equal(fired, wanted)


def test_a_threshold_below_half_a_mantissa_needs_an_input() -> None:
    """Compared with equality, a threshold that rounds to 0 would fire at rest."""
    weights = np.array([[1.0, 0.3], [1.0, 0.3]])
    ones = np.ones(2)
    node = nir.LIF(
        tau=2 * ones, r=2 * ones, v_leak=0 * ones, v_reset=0 * ones,
        v_threshold=np.array([1e-4, 0.5]),
    )  # fmt: skip
    graph = chain((2,), nir.Linear(weights), node)
    for reset in ("zero", "subtract"):
        ours, chip, _ = both(
            graph, np.zeros((STEPS, 2)), fires_at_threshold=True, reset=FloatReset(reset)
        )
        assert not ours.any()
        assert not chip.any()


@pytest.mark.parametrize("share", [1.0, 1 / 3, np.float32(0.7)])
def test_connections_of_very_different_weights_are_exact_together(share: float) -> None:
    """One connection's weights are 30 times the other's; both are multiples of one step."""
    generator = np.random.default_rng(5)
    weights, skip = generator.integers(-100, 101, (6, 240)), generator.integers(-3, 4, (6, 240))
    spikes = generator.random((STEPS, 240)) < 0.4
    wanted, _ = integrate(spikes @ (weights + skip).T, np.full(6, 7), "zero", at=False)
    relay = neurons((240,), 0.5)
    graph = chain((240,), relay, nir.Linear(share * weights), neurons((6,), 7 * share))
    graph.nodes["skip"] = nir.Linear(share * skip)
    graph.edges += [("input", "skip"), ("skip", "n2")]
    _, chip, exact = both(graph, spikes)
    assert np.array_equal(chip, wanted)
    assert exact == [6]


@pytest.mark.parametrize("at", [False, True])
@pytest.mark.parametrize("share", [1.0, 1 / 3])
@pytest.mark.parametrize("payload_bits", [0, 8])
def test_a_bias_of_parts_of_the_weights_step_keeps_ties(
    at: bool, share: float, payload_bits: int
) -> None:
    """Weights are multiples of 4, biases and thresholds are not."""
    generator = np.random.default_rng(6)
    weights, bias = 4 * generator.integers(-2, 4, (30, 3)), generator.integers(-3, 4, 30)
    threshold = generator.integers(1, 60, 30)
    values = generator.integers(0, 4 if payload_bits else 2, (STEPS, 3))
    wanted, ties = integrate(values @ weights.T + bias, threshold, "zero", at)
    assert ties > 5
    graph = chain(
        (3,), nir.Affine(share * weights, share * bias), neurons((30,), share * threshold)
    )
    options = ImportOptions(dt=1.0, time_steps=STEPS, fires_at_threshold=at)
    chip, exactness = quantise_exactly(
        import_graph(graph, options),
        payload_bits=payload_bits,
        held=False,
        options=QuantiseOptions(may_saturate=True),
    )
    trace = ReferenceChip(chip).decide(values[None].astype(np.uint8), 0, trace=True).trace
    assert trace is not None
    fired = trace.spikes["n1"][chip.window("n1")][:, 0]
    assert exactness[-1].neurons.all()
    assert np.array_equal(fired, wanted)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_bias_of_a_third_of_the_weights_step_is_exact(reset: str) -> None:
    """The finest step of weights and thresholds alone is no multiple of the biases' step."""
    generator = np.random.default_rng(7)
    weights, threshold = 3 * generator.integers(-4, 6, (20, 5)), 3 * generator.integers(1, 8, 20)
    weights[:, 0], bias = 15, generator.integers(-2, 3, 20)
    spikes = generator.random((STEPS, 5)) < 0.4
    wanted, ties = integrate(spikes @ weights.T + bias, threshold, reset, at=False)
    assert ties > 2
    graph = chain((5,), nir.Affine(0.1 * weights, 0.1 * bias), neurons((20,), 0.1 * threshold))
    _, chip, exact = both(graph, spikes, reset=FloatReset(reset))
    assert np.array_equal(chip, wanted)
    assert exact == [20]


@pytest.mark.parametrize("at", [False, True])
def test_a_threshold_a_hair_from_a_sum_is_told_from_it(at: bool) -> None:
    """Nearer to the sum than half a unit of the chip, the threshold must not become the sum."""
    generator = np.random.default_rng(8)
    weights = generator.integers(-2, 4, (40, 6))
    hair = np.where(np.arange(40) % 2, 1e-3, -1e-3)
    threshold = generator.integers(1, 6, 40) + hair
    spikes = generator.random((STEPS, 6)) < 0.4
    wanted, _ = integrate(spikes @ weights.T, threshold, "zero", at)
    _, ties = integrate(spikes @ weights.T, np.round(threshold), "zero", at)
    assert ties > 20
    graph = chain((6,), nir.Linear(weights.astype(float)), neurons((40,), threshold))
    ours, chip, _ = both(graph, spikes, fires_at_threshold=at)
    assert np.array_equal(ours, wanted)
    assert np.array_equal(chip, wanted)


def test_where_biases_cannot_be_whole_thresholds_are() -> None:
    """Weights up to 30 may be refined 4-fold; thresholds of 1/6 are whole under 3, on a grid of 2.

    Membranes of biases of 1/16 lie between mantissas: only a comparison with equality keeps ties.
    """
    wanted = Wanted(
        np.array([30.0]), np.array([[1 / 6]]), np.array([[1 / 16]]), compared=True, lowered=True
    )
    given: dict[str, Any] = {
        "levels": 127,
        "grid": 2,
        "exponent": 0,
        "lost_bits": 0,
        "bias_exponents": [0],
    }
    assert refinements(wanted, **given).tolist() == [3]
    assert refinements(replace(wanted, only_lowered=True), **given).tolist() == [4]
    # Biases that can be whole come first: thresholds one lower need no program.
    whole = replace(wanted, biases=np.array([[1 / 4]]))
    assert refinements(whole, **given).tolist() == [4]


def test_a_threshold_that_rounds_to_nothing_is_not_met_by_silence() -> None:
    """v <- v / 2 + W x / 2, a spike where v >= 1e-4: far below a step of the weights."""
    one = np.ones(1)
    node = nir.LIF(tau=2 * one, r=one, v_leak=0 * one, v_threshold=1e-4 * one, v_reset=0 * one)
    graph = chain((1,), nir.Linear(np.array([[1e3 * np.pi]])), node)
    spikes = np.zeros((STEPS, 1))
    spikes[3] = 1
    ours, chip, _ = both(graph, spikes, fires_at_threshold=True)
    assert np.flatnonzero(ours).tolist() == [3]
    assert np.array_equal(chip, ours)


def test_sums_a_hair_below_a_threshold_by_their_biases_do_not_meet_it() -> None:
    """Biases are 1/4096 of a weight's step, less than a mantissa: it must not be given away."""
    generator = np.random.default_rng(9)
    weights = generator.integers(-2, 4, (40, 6))
    weights[:, 0] = 100
    bias, threshold = generator.integers(-1, 2, 40) / 4096, generator.integers(1, 6, 40)
    spikes = generator.random((STEPS, 6)) < 0.4
    spikes[:, 0] = 0
    wanted, ties = integrate(spikes @ weights.T + bias, threshold, "zero", at=True)
    assert ties > 5
    graph = chain((6,), nir.Affine(weights.astype(float), bias), neurons((40,), threshold))
    ours, chip, exact = both(graph, spikes, fires_at_threshold=True)
    assert np.array_equal(ours, wanted)
    assert np.array_equal(chip, wanted)
    assert exact == [40]


def test_a_threshold_a_hair_above_a_sum_beside_a_neuron_that_needs_equality() -> None:
    generator = np.random.default_rng(8)
    weights = generator.integers(-2, 4, (40, 6))
    threshold = generator.integers(1, 6, 40) + 1e-3
    bias = np.zeros(40)
    bias[0] = np.pi / 10
    spikes = generator.random((STEPS, 6)) < 0.4
    wanted, _ = integrate(spikes @ weights.T, threshold, "zero", at=True)
    graph = chain((6,), nir.Affine(weights.astype(float), bias), neurons((40,), threshold))
    _, chip, _ = both(graph, spikes, fires_at_threshold=True)
    assert np.array_equal(chip[:, 1:], wanted[:, 1:])


@pytest.mark.parametrize(("tau", "exact"), [(2.0, 3), (4.0, 3), (3.0, 0)])
def test_neurons_whose_decay_is_rounded_are_not_counted_as_exact(tau: float, exact: int) -> None:
    """Of 4096 parts, a half and three quarters are whole, two thirds are not."""
    ones = np.ones(3)
    node = nir.LIF(
        tau=tau * ones, r=tau * ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones
    )
    graph = chain((2,), nir.Linear(np.ones((3, 2))), node)
    assert both(graph, np.ones((STEPS, 2)))[2] == [exact]

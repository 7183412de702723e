from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import mtspark
from mtspark.convert.nir.reader import import_graph, import_tasks
from mtspark.core.chip_network.network import INPUT, ChipNetwork
from mtspark.core.environments.protocol import GameProtocol
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
from mtspark.deploy.quantise.bounds import headroom
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.deploy.quantise.rounding import (
    fit_bias,
    natural_unit,
    round_keeping_sums,
    round_weights,
)
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import BREAKOUT, PONG

DT = 1e-4


def lif(shape: tuple[int, ...], threshold: np.ndarray | float, beta: float = 0.5) -> nir.LIF:
    like = np.ones(shape)
    return nir.LIF(
        tau=like * DT / (1 - beta),
        r=like / (1 - beta),
        v_leak=0 * like,
        v_threshold=like * threshold,
        v_reset=0 * like,
    )


def small_graph(seed: int, gain: np.ndarray, beta: float = 0.5, bias: float = 0.1) -> nir.NIRGraph:
    """conv (asymmetric kernel, stride 2 by 1), dense with gains in its thresholds, readout."""
    generator = np.random.default_rng(seed)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([2, 7, 6])}),
        "conv": nir.Conv2d(
            input_shape=(7, 6),
            weight=generator.normal(0, 0.5, (3, 2, 3, 2)),
            stride=(2, 1),
            padding=(1, 0),
            dilation=(1, 1),
            groups=1,
            bias=np.full(3, bias),
        ),
        "conv_lif": lif((3, 4, 5), 1.0, beta),
        "flatten": nir.Flatten(input_type={"input": np.array([3, 4, 5])}, start_dim=0, end_dim=-1),
        "hidden": nir.Affine(weight=generator.normal(0, 0.3, (8, 60)), bias=np.full(8, bias)),
        "hidden_lif": lif((8,), 1.0 / gain, beta),
        "head": nir.Affine(weight=generator.normal(0, 0.2, (18, 8)), bias=np.full(18, 0.01)),
        "output": nir.Output(output_type={"output": np.array([18])}),
    }
    names = list(nodes)
    return nir.NIRGraph(
        nodes=nodes,
        edges=list(itertools.pairwise(names)),
        metadata={"mtspark": {"dt": DT, "time_steps": 4, "input_scale": 1 / 255, "task": "pong"}},
        # nir's own shape inference is wrong for rectangular kernels.
        type_check=False,
    )


def deploy(graph: nir.NIRGraph, **options: object) -> ChipNetwork:
    return quantise(
        import_tasks({"pong": graph}),
        (PONG,),
        GameProtocol(),
        name="small",
        options=QuantiseOptions(**options),  # type: ignore[arg-type]
    )


@given(
    seed=st.integers(0, 10_000),
    bits=st.integers(2, 8),
    per_channel=st.booleans(),
    keep_sums=st.booleans(),
)
@settings(deadline=None)
def test_rounding_stays_within_its_step_and_on_the_grid(
    seed: int, bits: int, per_channel: bool, keep_sums: bool
) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.normal(0, generator.uniform(0.01, 3), (3, 2, 3, 2))
    weight[1] *= 0.01
    largest = np.abs(weight).reshape(3, -1).max(1)
    unit = natural_unit(largest if per_channel else np.full(3, largest.max()), bits)
    integers = round_weights(weight, unit, bits, keep_sums)
    step = 2 ** (9 - bits)
    assert np.all(integers % step == 0)
    assert integers.min() >= -256
    assert integers.max() <= 254
    error = np.abs(weight - integers * unit.reshape(-1, 1, 1, 1)) / (step * unit).reshape(
        -1, 1, 1, 1
    )
    assert error.max() <= (1 if keep_sums else 0.5) + 1e-9
    assert (len(set(unit)) == 1) or per_channel


@given(seed=st.integers(0, 10_000))
def test_every_kernel_keeps_its_sum(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 20, (4, 3, 5, 2))
    rounded = round_keeping_sums(values)
    assert np.abs(rounded.sum((2, 3)) - values.sum((2, 3))).max() <= 0.5 + 1e-9
    assert np.abs(rounded - values).max() < 1
    rows = np.random.default_rng(seed).normal(0, 20, (4, 9))
    assert np.abs(round_keeping_sums(rows).sum(1) - rows.sum(1)).max() <= 0.5 + 1e-9


def test_a_channel_without_weights_stays_silent() -> None:
    weight = np.zeros((2, 3))
    weight[0] = [1.0, -0.5, 0.25]
    unit = natural_unit(np.abs(weight).max(1), 8)
    integers = round_weights(weight, unit, 8, True)
    assert integers[1].tolist() == [0, 0, 0]
    assert unit[0] == pytest.approx(1 / 254)
    assert np.isfinite(unit).all()


def test_biases_take_the_finest_exponent_that_holds_them() -> None:
    mantissa, exponent = fit_bias(np.array([4095.4, -3.0])) or (None, None)
    assert (list(mantissa), exponent) == ([4095, -3], 0)  # type: ignore[arg-type]
    mantissa, exponent = fit_bias(np.array([4096.0, -6.0])) or (None, None)
    assert (list(mantissa), exponent) == ([2048, -3], 1)  # type: ignore[arg-type]
    assert fit_bias(np.array([4096.0 * 128])) is None


@pytest.mark.parametrize("beta", [0.5, 0.25, 0.0])
def test_the_integers_do_what_the_graph_does(beta: float) -> None:
    """Spikes of a fine quantisation differ in few places, and the values are close."""
    gain = np.linspace(0.3, 1.0, 8)
    different, total, errors = 0, 0, []
    for seed in range(12):
        graph = small_graph(seed, gain, beta)
        net = deploy(graph)
        frames = np.random.default_rng(seed).integers(0, 256, (2, 2, 7, 6)).astype(np.uint8)
        decision = ReferenceChip(net).decide(frames, 0, trace=True)
        assert decision.trace is not None
        floats = run_float(import_graph(graph), np.broadcast_to(frames / 255, (4, *frames.shape)))
        for name in ("conv", "hidden"):
            spikes = decision.trace.spikes[name][net.window(name)]
            different += int((spikes != floats.spikes[name].astype(bool)).sum())
            total += spikes.size
        errors.append(np.abs(decision.values - floats.values).mean())
    assert different / total < 0.02
    assert np.median(errors) < 0.01


def test_thresholds_carry_scale_and_gain() -> None:
    gain = np.array([1.0, 0.5, 0.25, 1, 1, 1, 1, 1])
    graphs = {"pong": small_graph(1, gain), "breakout": small_graph(1, np.ones(8))}
    net = quantise(import_tasks(graphs), (PONG, BREAKOUT), GameProtocol(), name="two")
    hidden = net.population("hidden")
    assert hidden.thresholds.shape == (2, 8)
    ratio = hidden.thresholds[0] / hidden.thresholds[1]
    assert np.allclose(ratio, 1 / gain, rtol=1e-3)
    assert np.array_equal(hidden.thresholds[0, 3:], hidden.thresholds[1, 3:])


@pytest.mark.parametrize("smallest", [1e-5, 1e-9, 1e-30])
def test_a_gain_near_zero_means_off(smallest: float) -> None:
    gain = np.array([smallest, 1, 1, 1, 1, 1, 1, 1])
    net = deploy(small_graph(1, gain))
    assert net.population("hidden").thresholds[0, 0] == 131071
    full = np.full((1, 2, 7, 6), 255, np.uint8)
    decision = ReferenceChip(net).decide(full, 0)
    assert decision.activity.window["hidden"][0, 0] == 0


@given(seed=st.integers(0, 200), bias=st.floats(-2, 2))
@settings(deadline=None, max_examples=20)
def test_no_input_can_overflow_what_is_proven(seed: int, bias: float) -> None:
    """The inputs that drive each neuron hardest stay within the stated worst case."""
    net = deploy(small_graph(seed, np.ones(8), bias=bias))
    room = {entry.population: entry for entry in headroom(net)}
    assert all(entry.proven for entry in room.values())
    generator = np.random.default_rng(seed)
    frames = (generator.random((6, 2, 7, 6)) < 0.5).astype(np.uint8) * 255
    frames[0], frames[1] = 0, 255
    trace = ReferenceChip(net).decide(frames, 0, trace=True).trace
    assert trace is not None
    for name, membranes in trace.membranes.items():
        assert np.abs(membranes).max() <= room[name].membrane * (2**23 - 1) + 1


def test_exponents_are_as_large_as_the_proof_allows() -> None:
    """With one bit more, biases and readout scaled alike, some sum of the layer can overflow."""
    net = deploy(small_graph(0, np.ones(8)))
    for index, link in enumerate(net.connections):
        target = net.population(link.target)
        populations = [
            replace(p, bias_exponent=p.bias_exponent + 1) if p is target else p
            for p in net.populations
        ]
        links = list(net.connections)
        links[index] = replace(link, exponent=link.exponent + 1)
        louder = replace(net, populations=tuple(populations), connections=tuple(links))
        (room,) = [room for room in headroom(louder) if room.population == link.target]
        assert not room.proven


def test_resistance_is_a_gain_of_the_current() -> None:
    """Twice the resistance and half the weights and biases: the same neurons."""
    graph, other = small_graph(3, np.ones(8)), small_graph(3, np.ones(8))
    other.nodes["hidden"].weight = graph.nodes["hidden"].weight / 2
    other.nodes["hidden"].bias = graph.nodes["hidden"].bias / 2
    other.nodes["hidden_lif"].r = graph.nodes["hidden_lif"].r * 2
    one, two = deploy(graph).population("hidden"), deploy(other).population("hidden")
    assert np.array_equal(one.thresholds, two.thresholds)
    assert np.array_equal(one.bias_mantissa, two.bias_mantissa)


@pytest.mark.parametrize("huge", [1e17, 1e30, 1e300])
def test_biases_beyond_all_integers_are_refused(huge: float) -> None:
    graph = small_graph(0, np.ones(8))
    graph.nodes["hidden"].bias[0] = huge
    with pytest.raises(BadNetworkError, match="'hidden'"):
        deploy(graph)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"r": 1e-307}, "hear nothing"),
        ({"tau": DT / 2}, "shorter than dt"),
        ({"v_threshold": -1.0}, "threshold -1 is below the reset value"),
        ({"v_threshold": np.nan}, "v_threshold is nan; must be a number"),
    ],
)
def test_neurons_that_the_chip_does_not_have_are_refused(
    change: dict[str, float], text: str
) -> None:
    graph = small_graph(0, np.ones(8))
    for key, value in change.items():
        setattr(graph.nodes["hidden_lif"], key, np.full(8, value))
    with pytest.raises(BadNetworkError, match=text):
        deploy(graph)


def test_shapes_that_meet_must_agree() -> None:
    graph = small_graph(0, np.ones(8))
    graph.edges.append(("conv_lif", "output"))
    with pytest.raises(BadNetworkError, match="'output' takes"):
        deploy(graph)


def test_sums_that_fit_no_exponent_are_refused_by_name() -> None:
    graph = small_graph(0, np.ones(8))
    graph.nodes["hidden"].bias = np.full(8, 1e9)
    with pytest.raises(BadNetworkError, match="'hidden'"):
        deploy(graph)


def test_recurrent_weights_beside_those_of_many_pixels_find_exponents() -> None:
    """Sums of 784 pixels have a small exponent, which leaves the others none that is proven."""

    class Loop(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc1 = torch.nn.Linear(784, 32)
            self.lif1 = snn.RLeaky(beta=0.8, linear_features=32)
            self.fc2 = torch.nn.Linear(32, 10)
            self.lif2 = snn.Leaky(beta=0.9)
            with torch.no_grad():
                self.fc1.weight *= 2.5
                self.lif1.recurrent.weight *= 12.5

        def forward(self, x: Any) -> Any:
            spk1, mem1 = self.lif1.init_rleaky()
            mem2, spikes = self.lif2.init_leaky(), []
            for _ in range(8):
                spk1, mem1 = self.lif1(self.fc1(x), spk1, mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                spikes.append(spk2)
            return torch.stack(spikes)

    x = (np.random.default_rng(0).integers(0, 256, (20, 784)) / 255).astype(np.float32)
    chip = mtspark.export(Loop(), sample=x)
    into, back = chip.network.connections[:2]
    assert (into.source, back.recurrent) == ("input", True)
    assert "exponents less far apart" in chip.network.provenance["notes"]
    with torch.no_grad():
        wanted = np.asarray(Loop()(torch.from_numpy(x)).sum(0).argmax(1))
    engine, reference = (
        chip.run(x, backend=backend, record=True) for backend in ("engine", "reference")
    )
    assert (engine.classes == wanted).mean() >= 0.8
    for name, spikes in reference.spikes.items():
        assert (engine.spikes[name] == spikes).all()
        assert (engine.membranes[name] == reference.membranes[name]).all()


@given(seed=st.integers(0, 500), decimals=st.integers(-3, 3), keep=st.sampled_from([0.0, 0.5, 1.0]))
@settings(deadline=None, max_examples=30, phases=[Phase.generate])
def test_neurons_that_biases_alone_drive_fire_as_their_thresholds_of_each_task_say(
    seed: int, decimals: int, keep: float
) -> None:
    """Also where they are off in another task, or their gain is nearly 0 or very large there."""
    generator = np.random.default_rng(seed)
    size, steps = 12, 6
    # One of the neurons has a synapse, to an input that is silent.
    weights = np.zeros((size, 2))
    weights[0, 0] = 10.0**decimals
    biases = generator.uniform(0.1, 2, size) * generator.choice([-1, 1, 1], size) * 10.0**decimals
    far = generator.choice([1.0, 1e12, 1e6, 300.0, 1e-3, 1e-9], (3, size))
    thresholds = generator.uniform(0.2, 3, (3, size)) * 10.0**decimals * far
    net = FloatNetwork(
        "net",
        FloatInput((2,)),
        (leaky_population("n", (size,), membrane_keep=keep, thresholds=thresholds),),
        (FloatConnection("a", INPUT, "n", FloatKind.DENSE, weights),),
        FloatOutput("n", OutputKind.SPIKES),
        time_steps=steps,
        tasks=("one", "two", "three"),
    )
    population = replace(net.populations[0], membrane_bias=biases)
    chip = quantise(replace(net, populations=(population,)))
    for row in range(3):
        trace = ReferenceChip(chip).decide(np.zeros((1, steps, 2), np.uint8), row, trace=True).trace
        assert trace is not None
        # The layer is one step behind the input.
        first, membrane, clear = 1, np.zeros(size), np.ones(size, bool)
        for step in range(steps):
            membrane = keep * membrane + biases
            # A threshold that a membrane nearly meets is rounded to either side of it.
            clear &= np.abs(membrane - thresholds[row]) > 0.03 * np.abs(biases)
            fires = membrane > thresholds[row]
            np.testing.assert_array_equal(trace.spikes["n"][first + step, 0][clear], fires[clear])
            membrane = np.where(fires, 0, membrane)

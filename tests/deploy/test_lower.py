"""Chip time: networks whose numbers the chip holds exactly do what the float network does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtspark.deploy.lower as lower_module
from mtspark.convert.nir.neurons import ImportOptions, Start
from mtspark.convert.nir.reader import import_graph
from mtspark.core.chip_network.network import ChipNetwork, Reset
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import FloatNetwork, FloatReset
from mtspark.core.float_network.simulator import FloatRun, run_float
from mtspark.deploy.quantise.network import quantise
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.random_graphs import random_graph

STEPS = 5
OPTIONS = QuantiseOptions(per_channel=False, keep_sums=False, may_saturate=True)
RESETS = [FloatReset.ZERO, FloatReset.SUBTRACT, FloatReset.SUBTRACT_LATE]


def both(
    network: FloatNetwork, series: np.ndarray, options: QuantiseOptions = OPTIONS
) -> tuple[ChipNetwork, FloatRun, Any]:
    """Float and chip on (T, batch, *shape); a decision before it leaves its traces behind."""
    chip = quantise(replace(network, time_steps=len(series)), options=options)
    reference = ReferenceChip(chip)
    frames = series.swapaxes(0, 1).astype(np.uint8).reshape(series.shape[1], len(series), -1)
    frames = frames.reshape(*frames.shape[:2], *chip.input.shape)
    reference.decide(1 - frames, 0)
    decision = reference.decide(frames, 0, trace=True)
    return chip, run_float(network, series), decision


def check(seed: int, reset: FloatReset) -> int:
    made = random_graph(seed, exact=True, subtract=reset is not FloatReset.ZERO)
    series = (np.random.default_rng(seed).random((STEPS, 2, *made.shape)) < 0.4).astype(float)
    network = import_graph(made.graph, ImportOptions(dt=1.0, reset=reset))
    chip, run, decision = both(network, series)
    for name in made.neurons:
        found = decision.trace.spikes[name][chip.window(name)]
        wanted = run.spikes[name]
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted.astype(bool), name)
    np.testing.assert_allclose(decision.values.ravel(), run.values.ravel(), rtol=1e-12)
    return int(sum(spikes.sum() for spikes in run.spikes.values()))


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("seed", [13, 15, 16])
def test_some_networks_of_exact_numbers(seed: int, reset: FloatReset) -> None:
    """Small ones that hold square kernels and biases of currents with memory."""
    check(seed, reset)


@given(seed=st.integers(0, 10_000), reset=st.sampled_from(RESETS))
@settings(max_examples=25)
@pytest.mark.slow
def test_exact_numbers_give_the_float_networks_every_spike(seed: int, reset: FloatReset) -> None:
    """Branches, loops, delays, biases of currents with memory, in a used chip."""
    check(seed, reset)


@pytest.mark.parametrize("name", ["delay", "recurrent"])
@pytest.mark.slow
def test_a_mistake_in_time_does_not_go_unseen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seeds = range(6)
    assert sum(check(seed, FloatReset.ZERO) for seed in seeds) > 100
    original = lower_module._in_chip_time

    def mutated(link: Any, depths: dict[str, int], whole: int) -> Any:
        made = original(link, depths, whole)
        if name == "delay":
            return replace(made, delay=made.delay + 1) if made.recurrent else made
        return replace(made, weights=made.weights * 0) if made.recurrent else made

    monkeypatch.setattr(lower_module, "_in_chip_time", mutated)
    with pytest.raises(AssertionError):
        sum(check(seed, FloatReset.ZERO) for seed in seeds)


def graph_of(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> nir.NIRGraph:
    ends = {
        "input": nir.Input(input_type={"input": np.array([2])}),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    return nir.NIRGraph(nodes={**ends, **nodes}, edges=edges, type_check=False)


def neurons(kind: Any = nir.IF, **changes: float) -> Any:
    fields = {"r": 1.0, "v_threshold": 254.0, "v_reset": 0.0}
    if kind is nir.LIF:
        fields |= {"tau": 2.0, "r": 2.0, "v_leak": 0.0}
    return kind(**{key: np.full(2, value) for key, value in {**fields, **changes}.items()})


WEIGHTS = nir.Linear(weight=np.array([[254.0, 20.0], [-40.0, 120.0]]))


def test_branches_of_unequal_depth_get_a_delay() -> None:
    graph = graph_of(
        {"a": neurons(), "b": neurons(), "w": WEIGHTS, "v": WEIGHTS, "u": WEIGHTS},
        [
            ("input", "w"),
            ("w", "a"),
            ("a", "v"),
            ("v", "b"),
            ("input", "u"),
            ("u", "b"),
            ("b", "output"),
        ],
    )
    chip = quantise(import_graph(graph, ImportOptions(dt=1.0)), options=OPTIONS)
    assert chip.depths == {"input": 0, "a": 1, "b": 2}
    delays = {link.name: (link.delay, link.recurrent) for link in chip.connections}
    assert delays == {"input->a": (0, False), "a->b": (0, False), "input->b": (1, False)}


@pytest.mark.parametrize(("delay", "fits"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_loop_needs_as_many_steps_as_synapses(delay: int, fits: bool) -> None:
    """Two synapses around: without a Delay node the importer gives one step, one too few."""
    nodes = {"a": neurons(), "b": neurons(), "w": WEIGHTS, "v": WEIGHTS, "u": WEIGHTS}
    edges = [("input", "w"), ("w", "a"), ("a", "v"), ("v", "b"), ("b", "u"), ("b", "output")]
    if delay:
        nodes["wait"] = nir.Delay(delay=np.full(2, float(delay)))
        edges += [("u", "wait"), ("wait", "a")]
    else:
        edges.append(("u", "a"))
    network = import_graph(graph_of(nodes, edges), ImportOptions(dt=1.0))
    if not fits:
        with pytest.raises(BadNetworkError, match=r"tighter than its synapses.*put 1 more step"):
            quantise(network, options=OPTIONS)
        return
    series = (np.random.default_rng(0).random((12, 3, 2)) < 0.5).astype(float)
    chip, run, decision = both(network, series)
    for name in ("a", "b"):
        found = decision.trace.spikes[name][chip.window(name)]
        np.testing.assert_array_equal(found, run.spikes[name].astype(bool))
    assert run.spikes["b"].sum() > 5


def test_potentials_other_than_zero_are_done_exactly() -> None:
    """Reset to 16, leak to 32, start at 0: a bias, a shift and a helper that fires once."""
    lif = neurons(nir.LIF, v_leak=32.0, v_reset=16.0)
    graph = graph_of({"w": WEIGHTS, "a": lif}, [("input", "w"), ("w", "a"), ("a", "output")])
    network = import_graph(graph, ImportOptions(dt=1.0))
    series = (np.random.default_rng(1).random((6, 3, 2)) < 0.5).astype(float)
    options = replace(OPTIONS, weight_limits={})
    chip, run, decision = both(network, series, options)
    assert [p.name for p in chip.populations] == ["constant", "onset", "a"]
    found = decision.trace.spikes["a"][chip.window("a")]
    np.testing.assert_array_equal(found, run.spikes["a"].astype(bool))
    assert run.spikes["a"].any()
    onset = decision.trace.spikes["onset"][chip.window("onset")][:, 0, 0]
    assert onset.tolist() == [True] + [False] * 5


@pytest.mark.parametrize("delay", [0, 2])
def test_a_leak_towards_a_potential_above_the_threshold_fires_alone(delay: int) -> None:
    """A bias of the membrane, whatever comes in and however late it comes."""
    lif = neurons(nir.LIF, v_leak=128.0, v_threshold=100.0)
    wait = nir.Delay(delay=np.full(2, float(delay)))
    graph = graph_of(
        {"w": WEIGHTS, "wait": wait, "a": lif},
        [("input", "w"), ("w", "wait"), ("wait", "a"), ("a", "output")],
    )
    series = np.zeros((8, 1, 2))
    chip, run, decision = both(import_graph(graph, ImportOptions(dt=1.0)), series)
    found = decision.trace.spikes["a"][chip.window("a")]
    np.testing.assert_array_equal(found, run.spikes["a"].astype(bool))
    # 64, 96, 112: above 100 in the third step, and so again from 0.
    assert run.spikes["a"][:, 0, 0].tolist() == [0, 0, 1, 0, 0, 1, 0, 0]


def test_a_delay_alone_keeps_the_length_of_the_window() -> None:
    """After two steps of silence, four of the six slices count."""
    nodes = {"w": WEIGHTS, "wait": nir.Delay(delay=np.full(2, 2.0)), "a": neurons()}
    edges = [("input", "w"), ("w", "wait"), ("wait", "a"), ("a", "output")]
    network = import_graph(graph_of(nodes, edges), ImportOptions(dt=1.0))
    series = np.ones((6, 1, 2))
    chip, run, decision = both(network, series)
    assert not run.spikes["a"][:2].any()
    assert run.spikes["a"][2:].any()
    np.testing.assert_array_equal(
        decision.trace.spikes["a"][chip.window("a")], run.spikes["a"].astype(bool)
    )


@pytest.mark.parametrize(
    ("float_reset", "reset"),
    [
        (FloatReset.ZERO, Reset.ZERO),
        (FloatReset.SUBTRACT, Reset.SUBTRACT),
        (FloatReset.SUBTRACT_LATE, Reset.SUBTRACT_LATE),
        (FloatReset.SUBTRACT_GUARDED, Reset.SUBTRACT_GUARDED),
    ],
)
def test_every_reset_has_its_counterpart(float_reset: FloatReset, reset: Reset) -> None:
    graph = graph_of(
        {"w": WEIGHTS, "a": neurons(v_threshold=60.0)},
        [("input", "w"), ("w", "a"), ("a", "output")],
    )
    network = import_graph(graph, ImportOptions(dt=1.0, reset=float_reset))
    series = (np.random.default_rng(2).random((20, 4, 2)) < 0.4).astype(float)
    chip, run, decision = both(network, series)
    assert chip.population("a").reset is reset
    found = decision.trace.spikes["a"][chip.window("a")]
    np.testing.assert_array_equal(found, run.spikes["a"].astype(bool))


@pytest.mark.parametrize(
    ("nodes", "edges", "reset", "text"),
    [
        (
            {"li": nir.LI(np.full(2, 2.0), np.ones(2), np.zeros(2)), "w": WEIGHTS, "a": neurons()},
            [("input", "li"), ("li", "w"), ("w", "a"), ("a", "output")],
            FloatReset.ZERO,
            "'li' does not fire and feeds 'a'",
        ),
        (
            {"a": neurons()},
            [("input", "a"), ("a", "output")],
            FloatReset.ZERO_LATE,
            "train with reset_delay=False",
        ),
        (
            {"a": neurons(), "wait": nir.Delay(delay=np.full(2, 70.0))},
            [("input", "wait"), ("wait", "a"), ("a", "output")],
            FloatReset.ZERO,
            "62 is the limit",
        ),
    ],
)
def test_what_the_chip_lacks_is_refused_with_what_to_do(
    nodes: dict[str, Any], edges: list[tuple[str, str]], reset: FloatReset, text: str
) -> None:
    network = import_graph(graph_of(nodes, edges), ImportOptions(dt=1.0, reset=reset))
    with pytest.raises(BadNetworkError, match=text):
        quantise(network, options=OPTIONS)


def test_a_population_without_neurons_is_named() -> None:
    none = np.zeros(0)
    nodes = {
        "w": nir.Linear(np.zeros((0, 2))),
        "a": nir.LIF(none, none, none, none, none),
        "v": nir.Linear(np.zeros((2, 0))),
        "b": neurons(),
    }
    edges = [("input", "w"), ("w", "a"), ("a", "v"), ("v", "b"), ("b", "output")]
    with pytest.raises(BadNetworkError, match=r"'a': has no neurons \(shape \(0,\)\)"):
        quantise(import_graph(graph_of(nodes, edges), ImportOptions(dt=1.0)), options=OPTIONS)


@pytest.mark.parametrize(
    ("leak", "reset", "start", "remedy"),
    [
        (0.1, 0.1, Start.ZERO, Start.REST),
        (0.1, 0.0, Start.REST, Start.ZERO),
        (0.1, 0.2, Start.ZERO, None),
        (0.1, 0.2, Start.REST, None),
    ],
)
def test_another_start_is_advised_only_where_it_is_accepted(
    leak: float, reset: float, start: Start, remedy: Start | None
) -> None:
    one = np.ones(1)
    node = nir.CubaLIF(
        tau_syn=2 * one, tau_mem=2 * one, r=one, w_in=one,
        v_leak=leak * one, v_reset=reset * one, v_threshold=one,
    )  # fmt: skip
    nodes = {"input": nir.Input({"input": np.array([1])}), "w": nir.Linear(one[None]), "n": node}
    nodes["output"] = nir.Output({"output": np.array([1])})
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    with pytest.raises(BadNetworkError) as refused:
        lower_module.lower(import_graph(graph, ImportOptions(dt=1.0, start=start)))
    if remedy is None:
        assert str(refused.value).endswith("(v_leak and v_reset are not both 0)")
        return
    assert str(refused.value).endswith(f"; use --start {remedy.value}")
    lower_module.lower(import_graph(graph, ImportOptions(dt=1.0, start=remedy)))


@pytest.mark.parametrize("delay", [0, 1, 2, 5])
def test_membranes_behind_a_delay_are_read_at_the_end_of_their_own_window(delay: int) -> None:
    """Three layers, and a readout that hears the last of them some steps late, in plain NumPy."""
    one = np.ones(1)
    fires = {"r": one, "v_threshold": one / 2, "v_reset": 0 * one}
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([1])})}
    for layer in range(3):
        nodes |= {f"w{layer}": nir.Linear(one[None]), f"n{layer}": nir.IF(**fires)}
    nodes |= {
        "w": nir.Affine(2 * one[None], one),
        "delay": nir.Delay(delay * one),
        "out": nir.I(r=one),
        "output": nir.Output({"output": np.array([1])}),
    }
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(names)), type_check=False)
    series = np.random.default_rng(delay).integers(0, 2, (8, 1, 1)).astype(float)
    wanted = sum(2 * float(x) + 1 for x in series[: 8 - delay].ravel())
    network = import_graph(graph, ImportOptions(dt=1.0, time_steps=8))
    assert run_float(network, series).values[0] == wanted
    chip = quantise(network, payload_bits=0, held=False)
    values = ReferenceChip(chip).decide(series.swapaxes(0, 1).astype(np.uint8), 0).values
    np.testing.assert_allclose(values[0], wanted, rtol=1e-12)

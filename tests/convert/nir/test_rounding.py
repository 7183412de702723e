"""No change of variables decides a comparison that the equation leaves equal."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtspark.convert.nir.neurons import ImportOptions, Integrator, Start
from mtspark.convert.nir.reader import import_graph
from mtspark.core.float_network.network import FloatNetwork
from mtspark.core.float_network.simulator import run_float
from mtspark.deploy.quantise.network import quantise, quantise_exactly
from mtspark.sim.backends.reference import ReferenceChip

STEPS = 40
LEVELS = st.floats(0.01, 3.0)


def one_neuron(node: Any, **options: Any) -> FloatNetwork:
    nodes = {
        "input": nir.Input({"input": np.array([1])}),
        "w": nir.Linear(np.ones((1, 1))),
        "n": node,
        "output": nir.Output({"output": np.array([1])}),
    }
    edges = [("input", "w"), ("w", "n"), ("n", "output")]
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    return import_graph(graph, ImportOptions(time_steps=STEPS, **options))


def array(value: float) -> np.ndarray:
    return np.array([value])


@given(
    level=LEVELS,
    ratio=st.floats(1.5, 200.0),
    dt=st.sampled_from([1e-4, 1e-3, 1.0]),
    integrator=st.sampled_from([Integrator.EULER, Integrator.EXPONENTIAL]),
    cuba=st.booleans(),
)
def test_silence_never_lifts_a_membrane_over_the_threshold_it_leaks_to(
    level: float, ratio: float, dt: float, integrator: Integrator, cuba: bool
) -> None:
    """tau dv/dt = v_leak - v with v_leak = v_reset = v_threshold: v gets there, never above."""
    same = {key: array(level) for key in ("v_leak", "v_reset", "v_threshold")}
    if cuba:
        synapse = {"tau_syn": array(5 * dt), "w_in": array(1.0)}
        node: Any = nir.CubaLIF(tau_mem=array(ratio * dt), r=array(1.0), **synapse, **same)
    else:
        node = nir.LIF(tau=array(ratio * dt), r=array(1.0), **same)
    for start in Start:
        network = one_neuron(node, dt=dt, integrator=integrator, start=start)
        run = run_float(network, np.zeros((STEPS, 1, 1)))
        assert not run.spikes["n"].any()


@given(level=LEVELS, ratio=st.floats(1.01, 200.0), sign=st.sampled_from([-1, 1]))
@example(level=0.99999, ratio=1.5, sign=-1)
def test_a_membrane_at_rest_stays_there_and_never_beyond(
    level: float, ratio: float, sign: int
) -> None:
    node = nir.LIF(
        tau=array(ratio),
        r=array(1.0),
        v_leak=array(sign * level),
        v_reset=array(0.0),
        v_threshold=array(level),
    )
    network = one_neuron(node, dt=1.0, start=Start.REST)
    run = run_float(network, np.zeros((STEPS, 1, 1)))
    sizes = sign * run.membranes["n"]
    # In the few cases in which no drive keeps every bit, it is below by the last ones.
    assert (sizes <= level).all()
    assert (sizes >= level - 4 * np.spacing(level)).all()
    assert not run.spikes["n"].any()


@given(beta=st.floats(0.01, 0.999), dt=st.sampled_from([1e-4, 1e-3, 1.0]))
def test_tau_and_r_that_cancel_leave_an_input_of_one_equal_to_a_threshold_of_one(
    beta: float, dt: float
) -> None:
    """tau = dt / (1 - beta) and r = 1 / (1 - beta) stand for v <- beta v + input."""
    node = nir.LIF(
        tau=array(dt / (1 - beta)),
        r=array(1 / (1 - beta)),
        v_leak=array(0.0),
        v_reset=array(0.0),
        v_threshold=array(1.0),
    )
    network = one_neuron(node, dt=dt)
    series = np.zeros((STEPS, 1, 1))
    series[0] = 1.0
    assert not run_float(network, series).spikes["n"].any()
    chip = quantise(network, payload_bits=0, held=False)
    messages = series[:, 0].astype(np.uint8)[None]
    assert not ReferenceChip(chip).decide(messages, 0).activity.window["n"].any()


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 3e-4])
@pytest.mark.parametrize("steps", [2, 4, 8])
@pytest.mark.parametrize("cuba", [False, True])
def test_time_constants_in_float32_are_the_steps_that_they_stand_for(
    dt: float, steps: int, cuba: bool
) -> None:
    """No float32 is 2e-4; files of tools that store it mean v <- v / 2 + input all the same."""
    single = {
        "r": np.array([steps], np.float32),
        "v_leak": np.zeros(1, np.float32),
        "v_reset": np.zeros(1, np.float32),
        "v_threshold": np.array([1.5], np.float32),
    }
    tau = np.array([steps * dt], np.float32)
    if cuba:
        synapse = {"tau_syn": np.array([dt], np.float32), "w_in": np.ones(1, np.float32)}
        node: Any = nir.CubaLIF(tau_mem=tau, **synapse, **single)
    else:
        node = nir.LIF(tau=tau, **single)
    network = one_neuron(node, dt=dt)
    series = (np.random.default_rng(0).random((STEPS, 1, 1)) < 0.5).astype(float)
    membrane, wanted = 0.0, []
    for value in series.ravel():
        # Exact in float64: halves, quarters and eighths of whole numbers.
        membrane = (1 - 1 / steps) * membrane + value
        wanted.append(membrane)
        membrane = 0.0 if membrane > 1.5 else membrane
    run = run_float(network, series)
    np.testing.assert_array_equal(run.membranes["n"].ravel(), wanted)
    np.testing.assert_array_equal(run.spikes["n"].ravel(), np.array(wanted) > 1.5)
    _, exactness = quantise_exactly(network, payload_bits=0, held=False)
    assert exactness[0].neurons.all()


@pytest.mark.parametrize("steps", [3, 5, 7, 11, 49])
@pytest.mark.parametrize("dt", [1e-4, 1e-3])
def test_tau_and_r_in_float32_that_cancel_leave_ties(dt: float, steps: int) -> None:
    """tau = n dt and r = n: a step counts its whole input, so that 1 equals a threshold of 1."""
    node = nir.LIF(
        tau=np.array([steps * dt], np.float32),
        r=np.array([steps], np.float32),
        v_leak=np.zeros(1, np.float32),
        v_reset=np.zeros(1, np.float32),
        v_threshold=np.ones(1, np.float32),
    )
    series = np.zeros((STEPS, 1, 1))
    series[0] = 1.0
    for at in (False, True):
        run = run_float(one_neuron(node, dt=dt, fires_at_threshold=at), series)
        assert run.membranes["n"][0] == 1
        assert bool(run.spikes["n"][0]) == at

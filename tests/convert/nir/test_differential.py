"""Random NIR graphs against an interpreter of the primitives' equations.

Every primitive, sign, reset and start, ties with thresholds, and missing ends. Where all numbers
are whole (or halves of whole ones) the interpreter runs them without any rounding, and the float
network and the chip must give every spike; the graph that is imported holds the same numbers in
another unit of weights and of time. Elsewhere membranes agree within 1e-9, and a spike may differ
where its membrane is that near its threshold.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtspark.convert.nir.neurons import ImportOptions, Integrator, Order, Start
from mtspark.convert.nir.reader import import_graph
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import FloatNetwork, FloatReset, OutputKind
from mtspark.core.float_network.simulator import FloatRun, run_float
from mtspark.deploy.quantise.network import quantise_exactly
from mtspark.deploy.quantise.options import QuantiseOptions
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.nir_interpreter import Interpreter, Record, Rules
from tests.support.scalar_chip import ScalarChip

NEAR = 1e-9
STEPS = 5
WHOLE, HALVES, FREE = "whole", "halves", "free"

seen: Counter[str] = Counter()
"""What was compared; a test looks whether nothing was compared for want of cases."""


@dataclass(frozen=True)
class Part:
    """A node before its unit is chosen.

    Attributes:
        kind: constructor.
        fields: in units of 1.
        scaled: fields that the unit of its layer's weights multiplies.
        timed: fields that the time step multiplies.
    """

    kind: Any
    fields: dict[str, Any]
    scaled: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()

    def node(self, unit: float, dt: float, per_dt: bool) -> nir.NIRNode:
        fields = dict(self.fields)
        for key in self.scaled:
            fields[key] = fields[key] * unit
        for key in self.timed:
            fields[key] = fields[key] * dt
        if per_dt and self.kind in (nir.IF, nir.I):
            fields["r"] = fields["r"] / dt
        return self.kind(**fields)


@dataclass
class Plan:
    """A graph under construction, and how it is to be run."""

    rng: np.random.Generator
    mode: str
    rules: Rules
    parts: dict[str, Part] = field(default_factory=dict)
    layer_of: dict[str, int] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    late: set[tuple[str, str]] = field(default_factory=set)
    layer: int = 0

    def add(self, part: Part, after: str | None) -> str:
        name = f"n{len(self.parts)}"
        self.parts[name], self.layer_of[name] = part, self.layer
        if after is not None:
            self.edges.append((after, name))
        return name

    def values(self, *shape: int, low: int = -3, high: int = 4) -> np.ndarray:
        if self.mode == FREE:
            return self.rng.normal(0, 1, shape)
        return self.rng.integers(low, high, shape).astype(float)

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def yes(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def neuron(self, shape: tuple[int, ...], fires: bool) -> Part:
        """Any neuron; `shape` is that of its parameters."""
        rng, free = self.rng, self.mode == FREE
        ones = np.ones(shape)
        positive = self.rules.reset.startswith("subtract")
        threshold = self.values(*shape, low=1 if positive or self.yes(0.8) else 0, high=5)
        threshold = np.abs(threshold) + (0.05 if free else 0)
        if self.yes(0.1):
            threshold.flat[0] = np.inf
        if fires and self.yes(0.15):
            sign = -1.0 if self.yes(0.3) and np.isfinite(threshold).all() else 1.0
            return Part(nir.Threshold, {"threshold": sign * threshold}, ("threshold",))
        fields: dict[str, Any] = {}
        scaled: list[str] = []
        if fires:
            reset = np.zeros(shape)
            if self.rules.reset == "zero" and self.yes(0.4):
                reset = self.values(*shape, low=-1, high=2)
                threshold = np.maximum(threshold, reset + (0 if free else 1))
            fields |= {"v_threshold": threshold, "v_reset": reset}
            scaled += ["v_threshold", "v_reset"]
        channels = np.ones((shape[0], *[1] * (len(shape) - 1)))
        r = ones * (rng.choice([-1.0, 1.0, 2.0], channels.shape) if self.yes() else 1.0)
        if free:
            r = r * rng.uniform(0.3, 2)
        kind = self.pick("IF", "LIF", "CubaLIF")
        if kind == "IF":
            return Part(nir.IF if fires else nir.I, {"r": r, **fields}, tuple(scaled))
        tau = ones.copy()
        if free:
            tau = rng.uniform(1.0, 9.0, shape)
        elif self.mode == HALVES:
            tau = ones * self.pick(1.0, 2.0, 4.0, 2.0)
            r = r * tau[(0,) * tau.ndim]
        leak = np.zeros(shape)
        if self.yes(0.4):
            leak = self.values(*shape, low=-1, high=2)
            if fires and self.yes():
                # A membrane that leaks to its threshold never reaches beyond it.
                leak = np.where(np.isfinite(threshold), threshold, 0.0)
        fields |= {"r": r, "v_leak": leak}
        scaled.append("v_leak")
        if kind == "LIF":
            fields["tau"] = tau
            return Part(nir.LIF if fires else nir.LI, fields, tuple(scaled), ("tau",))
        w_in = self.values(*shape) if free else ones * self.pick(-1.0, 1.0)
        synapse = rng.uniform(1.2, 6, shape) if free else ones * (self.pick(1.0, 2.0))
        if self.mode == WHOLE:
            synapse = ones
        fields |= {"tau_mem": tau, "tau_syn": synapse, "w_in": w_in * (1 if free else synapse)}
        return Part(
            nir.CubaLIF if fires else nir.CubaLI, fields, tuple(scaled), ("tau_mem", "tau_syn")
        )

    def image_layer(self, shape: tuple[int, ...], after: str | None) -> tuple[str, tuple[int, ...]]:
        """A convolution, often pooled, of (channels, rows, columns) or (channels, length)."""
        channels, *sides = shape
        groups = self.pick(1, channels)
        out = groups * self.pick(1, 2)
        kernel = [int(self.rng.integers(1, min(3, side) + 1)) for side in sides]
        dilation = [
            self.pick(1, 2) if (k - 1) * 2 < s else 1 for k, s in zip(kernel, sides, strict=True)
        ]
        stride = [self.pick(1, 2) for _ in sides]
        padding = [self.pick(0, 1) for _ in sides]
        given: Any = tuple(padding)
        if len(sides) == 2 and self.yes(0.3):
            given, stride = self.pick("same", "valid"), [1, 1] if given else stride
            stride = [1, 1] if given == "same" else stride
            padding = [0, 0]
        made = [
            s if given == "same" else (s + 2 * p - d * (k - 1) - 1) // t + 1
            for s, p, d, k, t in zip(sides, padding, dilation, kernel, stride, strict=True)
        ]
        weight = self.values(out, channels // groups, *kernel)
        bias = self.values(out, low=-1, high=2) * self.pick(0, 1)
        common = {"weight": weight, "bias": bias, "groups": groups}
        if len(sides) == 1:
            fields = {
                "input_shape": sides[0], "stride": stride[0], "padding": padding[0],
                "dilation": dilation[0], **common,
            }  # fmt: skip
            part = Part(nir.Conv1d, fields, ("weight", "bias"))
        else:
            fields = {
                "input_shape": tuple(sides), "stride": tuple(stride), "padding": given,
                "dilation": tuple(dilation), **common,
            }  # fmt: skip
            part = Part(nir.Conv2d, fields, ("weight", "bias"))
        last = self.add(part, after)
        shape = (out, *made)
        if len(sides) == 2 and min(made) >= 2 and self.yes(0.4):
            last, shape = self.pool(shape, last)
        return last, shape

    def pool(self, shape: tuple[int, ...], after: str | None) -> tuple[str, tuple[int, ...]]:
        size, stride, pad = self.pick((2, 2), (2, 1)), self.pick((2, 2), (1, 2)), self.pick(0, 1)
        kind = self.pick(nir.SumPool2d, nir.AvgPool2d)
        fields = {
            "kernel_size": np.array(size),
            "stride": np.array(stride),
            "padding": np.array([pad, pad]),
        }
        last = self.add(Part(kind, fields), after)
        made = [(s + 2 * pad - k) // t + 1 for s, k, t in zip(shape[1:], size, stride, strict=True)]
        return last, (shape[0], *made)

    def between(self, shape: tuple[int, ...], last: str) -> str:
        """Perhaps a Scale and a Delay."""
        if self.yes(0.2):
            scale = (
                self.values(*shape)
                if self.mode == FREE
                else self.rng.choice([-1.0, 1.0, 2.0], shape)
            )
            last = self.add(Part(nir.Scale, {"scale": scale}), last)
        if self.yes(0.2):
            delay = self.rng.integers(0, 3, shape).astype(float)
            last = self.add(Part(nir.Delay, {"delay": delay}, timed=("delay",)), last)
        return last


@dataclass(frozen=True)
class Case:
    """A graph to import, the same one in units of 1, and what both are given."""

    graph: nir.NIRGraph
    truth: nir.NIRGraph
    rules: Rules
    late: frozenset[tuple[str, str]]
    first: str
    last: str
    series: np.ndarray
    options: ImportOptions
    mode: str
    dyadic: bool
    units: dict[str, float]


def build(seed: int, mode: str, rules: Rules) -> Case:
    """One to three layers of neurons, and an end."""
    plan = Plan(np.random.default_rng(seed), mode, rules)
    shape: tuple[int, ...] = plan.pick((2, 4, 5), (1, 6, 3), (2, 7), (4,))
    input_shape = shape
    with_input = plan.yes(0.7)
    last = (
        plan.add(Part(nir.Input, {"input_type": {"input": np.array(shape)}}), None)
        if with_input
        else None
    )
    layers = int(plan.rng.integers(1, 4))
    for number in range(layers):
        plan.layer = number + 1
        before = last
        if len(shape) > 1 and plan.yes(0.7):
            last, shape = plan.image_layer(shape, last)
        elif len(shape) == 3 and min(shape[1:]) > 1 and last is not None and plan.yes(0.3):
            last, shape = plan.pool(shape, last)
        elif last is not None and plan.yes(0.1):
            pass
        else:
            size = int(np.prod(shape))
            if len(shape) > 1:
                flatten = {
                    "input_type": {"input": np.array(shape)}, "start_dim": 0, "end_dim": -1
                }  # fmt: skip
                last = plan.add(Part(nir.Flatten, flatten), last)
            before, shape = last, (int(plan.rng.integers(1, 5)),)
            weight = plan.values(*shape, size)
            if plan.yes():
                bias = plan.values(*shape, low=-1, high=2)
                last = plan.add(
                    Part(nir.Affine, {"weight": weight, "bias": bias}, ("weight", "bias")), last
                )
            else:
                last = plan.add(Part(nir.Linear, {"weight": weight}, ("weight",)), last)
            branch = None
            if before is not None and plan.yes(0.2):
                branch = plan.add(
                    Part(nir.Linear, {"weight": plan.values(*shape, size)}, ("weight",)), before
                )
            last = plan.between(shape, last)
        fires = number < layers - 1 or plan.yes(0.7)
        sum_of = [last] if last is not None else []
        if len(shape) == 1 and number >= 0 and "branch" in locals() and branch is not None:
            sum_of.append(branch)
        branch = None
        neuron = plan.add(plan.neuron(shape, fires), None)
        plan.edges += [(source, neuron) for source in sum_of if source is not None]
        if (
            fires
            and len(shape) == 1
            and plan.parts[neuron].kind is not nir.Threshold
            and plan.yes(0.3)
        ):
            loop = plan.add(
                Part(nir.Linear, {"weight": plan.values(*shape, *shape)}, ("weight",)), neuron
            )
            plan.edges.append((loop, neuron))
            plan.late.add((neuron, loop))
        last = neuron
        if not fires:
            break
    assert last is not None
    if fires and plan.yes(0.3):
        plan.layer += 1
        size = int(np.prod(shape))
        if len(shape) > 1:
            flatten = {"input_type": {"input": np.array(shape)}, "start_dim": 0, "end_dim": -1}
            last = plan.add(Part(nir.Flatten, flatten), last)
        last = plan.add(Part(nir.Linear, {"weight": plan.values(2, size)}, ("weight",)), last)
    if plan.yes(0.7):
        last = plan.add(Part(nir.Output, {"output_type": {"output": None}}), last)
    return _case(plan, input_shape, last)


def _case(plan: Plan, shape: tuple[int, ...], last: str) -> Case:
    mode, rules = plan.mode, plan.rules
    share = 1.0 if mode == FREE else plan.pick(1.0, 0.5, 0.25, 8.0, 0.1, 1 / 3, 0.7)
    dyadic = share in (1.0, 0.5, 0.25, 8.0)
    dt = 1.0 if mode == FREE else plan.pick(1.0, 1e-3, 1e-4)
    per_dt = plan.yes(0.3)
    units, scale = {}, {}
    for layer in range(plan.layer + 1):
        scale[layer] = share if layer else 1.0
    # A layer without weights keeps the unit of what arrives: 1.
    loops = {target for _, target in plan.late}
    weighted = {
        plan.layer_of[name]
        for name, part in plan.parts.items()
        if "weight" in part.scaled and name not in loops
    }
    for name in plan.parts:
        layer = plan.layer_of[name]
        units[name] = scale[layer] if layer in weighted else 1.0
    graphs = [
        nir.NIRGraph(
            nodes={n: p.node(*unit(n)) for n, p in plan.parts.items()},
            edges=list(plan.edges),
            type_check=False,
        )
        for unit in (lambda n: (units[n], dt, per_dt), lambda n: (1.0, 1.0, False))
    ]
    rules = replace(rules, if_counts_dt=per_dt and mode == FREE)
    options = ImportOptions(
        dt=dt,
        integrator=Integrator(rules.integrator),
        reset=FloatReset(rules.reset),
        order=Order.MEMBRANE_FIRST if rules.membrane_first else Order.CURRENT_FIRST,
        start=Start.REST if rules.start_at_rest else Start.ZERO,
        if_gain_dt=per_dt,
        fires_at_threshold=rules.at_threshold,
        time_steps=STEPS,
    )
    series = (plan.rng.random((STEPS, *shape)) < 0.5).astype(float)
    return Case(
        graphs[0], graphs[1], rules, frozenset(plan.late), next(iter(plan.parts)), last, series,
        options, mode, dyadic, units,
    )  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    mode = draw(st.sampled_from([WHOLE, WHOLE, HALVES, FREE]))
    integrator = (
        draw(st.sampled_from([i.value for i in Integrator][:3])) if mode == FREE else "euler"
    )
    resets = [reset.value for reset in FloatReset if reset is not FloatReset.ZERO_LATE]
    rules = Rules(
        integrator=integrator,
        # That of most tools, and the only one with a v_reset.
        reset=draw(st.sampled_from([*resets, "zero", "zero"])),
        membrane_first=draw(st.booleans()),
        start_at_rest=draw(st.booleans()),
        at_threshold=draw(st.booleans()),
    )
    return build(draw(st.integers(0, 2**32 - 1)), mode, rules)


def check(case: Case) -> None:
    """Compare the float network, and where all its numbers are exact the chip."""
    record = Interpreter(case.truth, case.rules, case.first, case.late).run(case.series)
    network = import_graph(case.graph, case.options)
    run = run_float(network, case.series[:, None])
    seen["graphs"] += 1
    if _check_float(case, network, run, record):
        _check_values(case, network, run.values[0].ravel(), record)
    if case.mode != FREE:
        _check_chip(case, network, record)


def _check_float(case: Case, network: FloatNetwork, run: FloatRun, record: Record) -> bool:
    """Whether every spike is the interpreter's; False where a tie went the other way."""
    for name, membranes in record.membranes.items():
        population = network.population(name)
        wanted = np.array(membranes).reshape(STEPS, -1)
        unit = case.units[name]
        ours = (run.membranes[name][:, 0] + population.membrane_offset).reshape(STEPS, -1) / unit
        if name not in record.bounds:
            np.testing.assert_allclose(ours, wanted, rtol=NEAR, atol=NEAR, err_msg=name)
            continue
        bounds = np.array(record.bounds[name]).reshape(STEPS, -1)
        fired = np.array(record.given[name]).reshape(STEPS, -1)
        got = run.spikes[name][:, 0].reshape(STEPS, -1)
        differ = np.argwhere(got != fired)
        until = int(differ[:, 0].min()) + 1 if len(differ) else STEPS
        np.testing.assert_allclose(ours[:until], wanted[:until], rtol=NEAR, atol=NEAR, err_msg=name)
        seen["ties met"] += int((wanted == bounds).sum())
        if len(differ):
            step, neuron = differ[0]
            distance = abs(wanted[step, neuron] - bounds[step, neuron])
            if name in record.guards:
                distance = min(distance, record.guards[name][step].ravel()[neuron])
            assert np.isfinite(bounds[step, neuron]), name
            assert distance <= NEAR * max(1.0, abs(bounds[step, neuron])), name
            assert case.mode == FREE or not case.dyadic, f"{name}: no number here rounds"
            seen["ties that rounding decided"] += 1
            return False
    return True


def _check_values(case: Case, network: FloatNetwork, values: np.ndarray, record: Record) -> None:
    given = np.array(record.given[case.last]).reshape(STEPS, -1)
    unit = case.units[case.last]
    if network.output.kind is OutputKind.SPIKES:
        wanted = given.sum(0)
    else:
        if isinstance(case.truth.nodes[case.last], nir.Output):
            (before,) = [source for source, target in case.truth.edges if target == case.last]
            unit = case.units[before]
        wanted = given[-1] if network.output.kind is OutputKind.MEMBRANE else given.mean(0)
        wanted = wanted * unit
    np.testing.assert_allclose(values, wanted, rtol=NEAR, atol=NEAR)


def _check_chip(case: Case, network: FloatNetwork, record: Record) -> None:
    try:
        chip, exactness = quantise_exactly(
            network, payload_bits=0, held=False, options=QuantiseOptions(may_saturate=True)
        )
    except BadNetworkError:
        seen["refused on the chip"] += 1
        return
    exact = all(layer.neurons.all() for layer in exactness)
    if "saturate" in chip.provenance["notes"]:
        seen["may saturate on the chip"] += 1
        return
    # What halves in every step may come to have more digits than the chip's states.
    if not exact or (case.mode == HALVES and _rounds(chip, case.series)):
        seen["not exact on the chip"] += 1
        return
    seen["exact on the chip"] += 1
    frames = case.series[None].astype(np.uint8).reshape(1, STEPS, *chip.input.shape)
    decision = ReferenceChip(chip).decide(frames, 0, trace=True)
    assert decision.trace is not None
    for name in record.bounds:
        window = decision.trace.spikes[name][chip.window(name)][:, 0]
        fired = np.array(record.given[name]).reshape(STEPS, -1)
        np.testing.assert_array_equal(window.reshape(STEPS, -1), fired, err_msg=f"chip: {name}")
    _check_values(case, network, decision.values[0].ravel(), record)


def _rounds(chip: ChipNetwork, series: np.ndarray) -> bool:
    """Whether a decay or a shift leaves a remainder somewhere."""
    oracle = ScalarChip(chip)
    oracle.decide(series.reshape(-1, *chip.input.shape).astype(int), 0)
    return oracle.rounded > 0


def check_all(examples: int) -> None:
    """Check so many graphs, and that enough of them had what is to be compared."""
    seen.clear()

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(cases())
    def each(case: Case) -> None:
        check(case)

    each()
    # Usually two thirds, and a twentieth each of the others.
    assert seen["graphs"] >= 0.9 * examples
    assert seen["exact on the chip"] > 0.25 * seen["graphs"]
    assert seen["refused on the chip"] < 0.25 * seen["graphs"]
    assert seen["not exact on the chip"] < 0.25 * seen["graphs"]
    assert seen["ties met"] > seen["graphs"]
    assert seen["ties that rounding decided"] < 0.25 * seen["graphs"]


def test_random_graphs_equal_the_equations() -> None:
    check_all(100)


@pytest.mark.slow
def test_many_random_graphs_equal_the_equations() -> None:
    check_all(500)

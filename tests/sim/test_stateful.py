"""State across decisions: N decisions of a stateful network are one of an ordinary one, T = N."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Encoder,
    ReadoutKind,
    Reset,
    network_from_json,
    network_to_json,
    unrolled,
    violations,
)
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.files import save_onnx
from mtspark.core.float_network import (
    FloatConnection,
    FloatInput,
    FloatKind,
    FloatNetwork,
    FloatOutput,
    FloatPopulation,
    OutputKind,
    leaky_population,
    run_float,
)
from mtspark.deploy.formats import in_chip_units, integer_model
from mtspark.deploy.formats.netx import netx_layers
from mtspark.deploy.lava import check_fits_lava, installed_lava
from mtspark.deploy.prune import prune_network
from mtspark.deploy.quantise import headroom, quantise
from mtspark.sim.backends import LavaBackend, OnnxChip, ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.hil.faults import FaultKind, Faults, FaultyChip
from tests.support.engine_checks import assert_same
from tests.support.networks import (
    dense,
    frames_for,
    network,
    population,
    random_networks,
    random_weights,
    varied,
)
from tests.support.scalar_chip import own, synapses, toward_zero

DECISIONS = 5


def reach(net: ChipNetwork, source: str, target: str, lag: int) -> int:
    """The delay of a loop that brings what its source sent `lag` decisions ago."""
    return lag * (net.depth + 1) + net.depths[target] - net.depths[source] - 1


@st.composite
def stateful_networks(draw: st.DrawFn) -> ChipNetwork:
    """With every reset, decay, delay and encoder, and loops over one or two decisions."""
    net = draw(varied(random_networks()))
    given_input = replace(net.input, held=True)
    if given_input.payload_bits:
        given_input = replace(given_input, encoder=draw(st.sampled_from(list(Encoder))))
    loops = []
    for source, target, shape in (("second", "second", (5, 5)), ("last", "second", (5, 3))):
        if draw(st.booleans()):
            lag = draw(st.integers(1, 2))
            weights = draw(random_weights(shape))
            loops.append(
                dense(
                    source,
                    target,
                    **weights,
                    recurrent=True,
                    delay=reach(net, source, target, lag),
                )
            )
    net = replace(
        net,
        input=given_input,
        time_steps=1,
        connections=(*net.connections, *loops),
        stateful=True,
    )
    # Sums of the hardest weights do not fit a kept frame; that rule has tests of its own.
    assume(not [text for text in violations(net) if "a frame's sum" in text])
    return net


def lag_of(net: ChipNetwork, link: Any) -> int:
    return (1 + link.delay - net.depths[link.target] + net.depths[link.source]) // (net.depth + 1)


class LayerByLayer:
    """All populations one after another, once a decision, in plain integers.

    Knows nothing of chip time: a loop brings the spikes of `lag` decisions ago, and every other
    connection those of this one.
    """

    def __init__(self, net: ChipNetwork) -> None:
        self.net = net
        self.spikes: list[dict[Any, int]] = []
        self.u: dict[Any, int] = {}
        self.v: dict[Any, int] = {}

    def decide(self, frame: Any, task: int) -> tuple[dict[Any, int], dict[Any, int]]:
        net, sent = self.net, {}
        for index in np.ndindex(net.input.shape):
            value = int(frame[index])
            sent[INPUT, index] = value if net.input.payload_bits else int(value != 0)
        before = self.spikes[-1] if self.spikes else {}
        for part in net.populations:
            arriving = dict.fromkeys(np.ndindex(part.shape), 0)
            for link in net.connections:
                if link.target != part.name:
                    continue
                from_then = sent
                if link.recurrent:
                    lag = lag_of(net, link)
                    from_then = self.spikes[-lag] if len(self.spikes) >= lag else {}
                totals = dict.fromkeys(arriving, 0)
                shapes = net.shape_of(link.source), part.shape
                for origin, to, weight in synapses(link, *shapes):
                    totals[to] += weight * from_then.get((link.source, origin), 0)
                for to, total in totals.items():
                    shifted = (
                        total << link.exponent if link.exponent >= 0 else total >> -link.exponent
                    )
                    arriving[to] += shifted
            for index, total in arriving.items():
                key = (part.name, index)
                u, v = self.u.get(key, 0), self.v.get(key, 0)
                u = toward_zero(u, own(part.current_decay, index) + 1) + total * 64
                u -= 2**24 if u > 2**23 else 0
                u += 2**24 if u <= -(2**23) else 0
                theta = int(part.thresholds[(task, *index)]) * 64
                lower = 1 if part.fires_at_threshold else 0
                guard = theta if part.reset is Reset.SUBTRACT_GUARDED and v > theta - lower else 0
                v = toward_zero(v, own(part.membrane_decay, index)) + u
                v += int(part.bias_mantissa[index]) << part.bias_exponent
                if part.reset is Reset.SUBTRACT_LATE and before.get(key):
                    v -= theta
                v = max(-(2**23 - 1), min(2**23 - 1, v))
                fired = v - guard > theta - lower
                if fired and part.reset is Reset.ZERO:
                    v = 0
                elif fired and part.reset in (Reset.SUBTRACT, Reset.SUBTRACT_GUARDED):
                    v -= theta
                self.u[key], self.v[key], sent[key] = u, v, int(fired)
        self.spikes.append(sent)
        return sent, dict(self.v)


@pytest.mark.slow
@given(net=stateful_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_every_spike_and_membrane_equals_plain_integers_layer_by_layer(
    net: ChipNetwork, seed: int
) -> None:
    chip, plain = ReferenceChip(net), LayerByLayer(net)
    for number in range(DECISIONS):
        row = number % len(net.tasks)
        frame = frames_for(net, 1, seed + number)
        found = chip.decide(frame, row, trace=True)
        spikes, membranes = plain.decide(frame[0], row)
        assert found.trace is not None
        for part in net.populations:
            step = net.depths[part.name]
            for index in np.ndindex(part.shape):
                key = (part.name, index)
                assert found.trace.membranes[part.name][(step, 0, *index)] == membranes[key]
                assert found.trace.spikes[part.name][(step, 0, *index)] == spikes[key]
            # It holds and is silent until the decision ends.
            assert not found.trace.spikes[part.name][step + 1 :].any()
            assert (
                found.trace.membranes[part.name][step:] == found.trace.membranes[part.name][step]
            ).all()
            assert not found.activity.drain[part.name].any()


@pytest.mark.slow
@given(net=stateful_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_decisions_are_one_of_an_ordinary_network_whose_series_they_are(
    net: ChipNetwork, seed: int
) -> None:
    try:
        whole = unrolled(net, DECISIONS)
    except BadNetworkError:
        assume(False)
    frames = [frames_for(net, 2, seed + number) for number in range(DECISIONS)]
    expected = ReferenceChip(whole).decide(np.stack(frames, 1), 0, trace=True)
    assert expected.trace is not None
    chip, counted = ReferenceChip(net), 0
    for number, frame in enumerate(frames):
        found = chip.decide(frame, 0, trace=True)
        assert found.trace is not None
        for name, start in net.depths.items():
            if name == INPUT:
                continue
            then = whole.window(name).start + number
            pairs = (
                (found.trace.membranes[name], expected.trace.membranes[name]),
                (found.trace.spikes[name], expected.trace.spikes[name]),
            )
            for mine, theirs in pairs:
                assert np.array_equal(mine[start], theirs[then]), (number, name)
        counted = counted + found.activity.window[net.readout.population]
    read = net.readout
    if read.kind is ReadoutKind.SPIKES:
        assert np.array_equal(counted * read.scale, expected.values)


@pytest.mark.slow
@given(
    net=stateful_networks(),
    seed=st.integers(0, 1000),
    path=st.sampled_from(["automatic", "events", "windows", "product"]),
)
@settings(deadline=None, max_examples=40)
def test_engine_equals_reference_over_decisions_and_where_games_end(
    net: ChipNetwork, seed: int, path: str
) -> None:
    reference, engine = ReferenceChip(net), EngineChip(net, path=path)
    for episode in range(2):
        batch, kept = 3, np.array([2, 0])
        for chip in (reference, engine):
            chip.start(batch)
        for number in range(2 * DECISIONS):
            row = (number // 3) % len(net.tasks)
            frames = frames_for(net, batch, seed + number + 100 * episode)
            expected = reference.decide(frames, row, trace=True)
            assert_same(engine.decide(frames, row, trace=True), expected)
            if number == DECISIONS:
                state = engine.state()
            if number == DECISIONS + 1 and net.input.encoder is not Encoder.CHANGES:
                other = EngineChip(net)
                other.restore(state)
                assert_same(other.decide(frames, row, trace=True), expected)
            if number == DECISIONS + 2:
                batch = len(kept)
                reference.keep(kept)
                engine.keep(kept)


def remembering() -> ChipNetwork:
    """One input and one neuron of threshold 100 that hears 60 of it and keeps half a membrane."""
    net = network(
        (1,),
        [
            population("hidden", [[100]], membrane_decay=2048),
            population("out", [[131071]], membrane_decay=4096),
        ],
        [dense(INPUT, "hidden", [[60]]), dense("hidden", "out", [[2]])],
        time_steps=1,
    )
    return replace(net, stateful=True)


@pytest.mark.parametrize("kind", [ReferenceChip, EngineChip])
def test_by_hand_and_at_rest_where_an_episode_begins(kind: Any) -> None:
    chip, frame = kind(remembering()), np.ones((1, 1), np.uint8)
    for _ in range(2):
        chip.start(1)
        membranes, values = [], []
        for _ in range(4):
            decision = chip.decide(frame, 0, trace=True)
            membranes.append(int(decision.trace.membranes["hidden"][-1, 0, 0]) // 64)
            values.append(float(decision.values[0, 0]) / 64)
        # 60, 90, 105 > 100 fires, 60.
        assert membranes == [60, 90, 0, 60]
        assert values == [0, 0, 2, 0]


@pytest.mark.parametrize("kind", [ReferenceChip, EngineChip])
def test_a_batch_of_another_size_is_refused(kind: Any) -> None:
    chip = kind(remembering())
    chip.decide(np.ones((2, 1), np.uint8), 0)
    with pytest.raises(BadRequestError, match=r"3 frames, and 2 chips hold .* start\(batch\)"):
        chip.decide(np.ones((3, 1), np.uint8), 0)
    chip.start(3)
    chip.decide(np.ones((3, 1), np.uint8), 0)


def test_it_is_written_only_where_it_is_so() -> None:
    net = remembering()
    data, arrays = network_to_json(net)
    assert data["stateful"] is True
    assert network_from_json(data, arrays, "here").stateful
    plain, _ = network_to_json(replace(net, stateful=False))
    assert "stateful" not in plain


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda net: replace(net, time_steps=2), "2 time steps a decision, a stateful network"),
        (
            lambda net: replace(net, input=replace(net.input, held=False)),
            "series of slices, a stateful network takes one frame",
        ),
        (
            lambda net: with_loop(net, INPUT, 1, 3),
            "brings frames of earlier decisions",
        ),
        # A decision takes three steps.
        (lambda net: with_loop(net, "hidden", 1, 1), r"give it a delay of 2 or a multiple of 3"),
        (lambda net: with_loop(net, "out", 1, 0), r"give it a delay of 1 or a multiple of 3"),
    ],
)
def test_what_a_stateful_network_must_be(change: Any, text: str) -> None:
    net = change(remembering())
    with pytest.raises(BadNetworkError, match=text):
        ReferenceChip(net)


def with_loop(net: ChipNetwork, source: str, size: int, delay: int) -> ChipNetwork:
    loop = dense(source, "hidden", np.full((1, size), 2), recurrent=True, delay=delay)
    return replace(net, connections=(*net.connections, replace(loop, name="loop")))


def test_a_loop_brings_what_was_sent_in_the_decision_before() -> None:
    """out fires in every decision, and hidden hears it one decision later."""
    net = with_loop(remembering(), "out", 1, 1)
    ready = population("out", [[0]], membrane_decay=4096, bias_mantissa=np.array([64]))
    hidden = population("hidden", [[131071]], membrane_decay=4096)
    net = replace(net, populations=(hidden, ready))
    net = replace(net, readout=replace(net.readout, kind=ReadoutKind.SPIKES))
    chip = ReferenceChip(net)
    heard = []
    for _ in range(3):
        trace = chip.decide(np.zeros((1, 1), np.uint8), 0, trace=True).trace
        assert trace is not None
        heard.append(int(trace.membranes["hidden"][-1, 0, 0]) // 64)
    assert heard == [0, 2, 2]


@pytest.mark.slow
@given(net=stateful_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=8)
def test_onnx_equals_reference(net: ChipNetwork, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chip.onnx"
        try:
            save_onnx(integer_model(net), path)
        except BadNetworkError as error:
            assume("exact in" not in str(error))
            raise
        chip, reference = OnnxChip(path, trust=True), ReferenceChip(net)
    chip.start(2)
    for number in range(4):
        frames = frames_for(net, 2, seed + number)
        assert_same(chip.decide(frames, 0, trace=True), reference.decide(frames, 0, trace=True))
    with pytest.raises(BadRequestError, match="3 frames, and 2 chips"):
        chip.decide(frames_for(net, 3, seed), 0)


@pytest.mark.third_party
@pytest.mark.skipif(
    installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
)
@pytest.mark.slow
@given(net=stateful_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=6, derandomize=True, phases=[Phase.generate])
def test_our_lava_processes_equal_reference(net: ChipNetwork, seed: int) -> None:
    try:
        backend = LavaBackend(net, trace=True)
    except BadNetworkError as error:
        assume("32 bits" not in str(error))
        raise
    reference = ReferenceChip(net)
    with backend as chip:
        for _ in range(2):
            chip.start(1)
            reference.start(1)
            for number in range(4):
                frames, row = frames_for(net, 1, seed + number), number % len(net.tasks)
                assert_same(
                    chip.decide(frames, row, trace=True), reference.decide(frames, row, trace=True)
                )


def test_what_does_not_hold_state_is_refused_in_one_line() -> None:
    net = remembering()
    for refused in (
        lambda: check_fits_lava(net, stock=True),
        lambda: netx_layers(net),
        lambda: in_chip_units(net),
        lambda: prune_network(net),
    ):
        with pytest.raises(BadRequestError, match=r"^test: its state survives decisions, ") as it:
            refused()
        assert "\n" not in str(it.value)
    check_fits_lava(net)


@pytest.mark.slow
@given(net=stateful_networks(), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_no_episode_passes_the_bounds(net: ChipNetwork, seed: int) -> None:
    """Frames that push one way, for as long as it takes, against the fixed points."""
    rooms = {room.population: room for room in headroom(net)}
    chip = ReferenceChip(net)
    chip.start(1)
    proven = {name for name, room in rooms.items() if room.proven}
    frame = frames_for(net, 1, seed)
    for _ in range(40):
        trace = chip.decide(frame, 0, trace=True).trace
        assert trace is not None
        for name in proven:
            reached = int(np.abs(trace.membranes[name]).max())
            assert reached <= rooms[name].membrane * (131071 << 6) + 1


def test_a_leak_bounds_by_its_fixed_point_and_no_leak_by_nothing() -> None:
    """Half of a membrane stays: 60 << 6 a decision make at most 2 * (60 << 6)."""
    net = remembering()
    hidden, out = headroom(net)
    assert hidden.membrane == pytest.approx(2 * (60 << 6) / (131071 << 6))
    assert out.membrane == pytest.approx((2 << 6) / (131071 << 6))
    kept = replace(net.populations[0], membrane_decay=0)
    never = headroom(replace(net, populations=(kept, net.populations[1])))[0]
    assert not never.proven


@pytest.mark.parametrize("lags", [(1, 1), (2, 1), (1, 2)])
def test_float_networks_become_the_chip_s_with_loops_as_tight_as_a_decision(
    lags: tuple[int, int],
) -> None:
    """Ternary weights and halved membranes are exact: every spike is the float simulator's."""
    generator = np.random.default_rng(sum(lags))

    def layer(name: str, size: int, thresholds: float | None) -> FloatPopulation:
        wanted = None if thresholds is None else np.full((1, size), thresholds)
        return leaky_population(name, (size,), membrane_keep=0.5, thresholds=wanted)

    def link(source: str, target: str, shape: tuple[int, int], delay: int = 0) -> FloatConnection:
        weights = generator.integers(-1, 2, shape).astype(float)
        name = f"{source}->{target}"
        return FloatConnection(name, source, target, FloatKind.DENSE, weights, delay=delay)

    floats = FloatNetwork(
        name="loops",
        input=FloatInput((5,)),
        populations=(layer("one", 8, 0.75), layer("two", 8, 0.75), layer("out", 3, None)),
        connections=(
            link(INPUT, "one", (8, 5)),
            link("one", "two", (8, 8)),
            link("two", "one", (8, 8), lags[0]),
            link("two", "two", (8, 8), lags[1]),
            link("two", "out", (3, 8)),
        ),
        output=FloatOutput("out", OutputKind.MEMBRANE),
        time_steps=1,
        stateful=True,
    )
    network = quantise(floats)
    whole = network.depth + 1
    delays = {one.name: one.delay for one in network.connections if one.recurrent}
    assert delays == {
        "two->one": lags[0] * whole - 2,
        "two->two": lags[1] * whole - 1,
    }
    frames = (generator.random((6, 4, 5)) < 0.5).astype(np.uint8)
    run = run_float(floats, frames.astype(float))
    chip, fired = ReferenceChip(network), 0
    for number, frame in enumerate(frames):
        decision = chip.decide(frame, 0, trace=True)
        assert decision.trace is not None
        for name in ("one", "two"):
            spikes = decision.trace.spikes[name][network.depths[name]]
            assert np.array_equal(spikes, run.spikes[name][number] > 0), (number, name)
            fired += int(spikes.sum())
        assert np.allclose(decision.values, run.membranes["out"][number], atol=1e-9)
    assert fired > 20


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"membrane_keep": 1.0}, "layer 'hidden': membranes keep 1 of .* give them a leak"),
        ({"initial_membrane": 0.5}, "a state that does not begin at 0"),
    ],
)
def test_float_networks_that_no_episode_bears_are_refused(
    change: dict[str, float], text: str
) -> None:
    fields: dict[str, Any] = {"membrane_keep": 0.5, "thresholds": np.ones((1, 2)), **change}
    weights = np.ones((2, 2))
    floats = FloatNetwork(
        name="refused",
        input=FloatInput((2,)),
        populations=(
            leaky_population("hidden", (2,), **fields),
            leaky_population("out", (2,), membrane_keep=0.5),
        ),
        connections=(
            FloatConnection("in", INPUT, "hidden", FloatKind.DENSE, weights),
            FloatConnection("up", "hidden", "out", FloatKind.DENSE, weights),
        ),
        output=FloatOutput("out", OutputKind.MEMBRANE),
        time_steps=1,
        stateful=True,
    )
    with pytest.raises(BadNetworkError, match=text):
        quantise(floats)
    averaged = replace(floats, output=FloatOutput("out", OutputKind.MEAN))
    with pytest.raises(BadNetworkError, match="output 'out' is the mean of several steps"):
        quantise(averaged)


def test_a_stuck_neuron_fires_in_its_window_alone() -> None:
    """Both neurons are stuck at firing: once a decision, however many steps that takes."""
    chip = FaultyChip(remembering(), Faults({FaultKind.STUCK_1: 1.0}), 0)
    chip.start(1)
    for number in range(3):
        chip.begin(number)
        activity = chip.decide(np.zeros((1, 1), np.uint8), 0).activity
        for name in ("hidden", "out"):
            assert activity.window[name].tolist() == [[1]]
            assert activity.drain[name].tolist() == [[0]]

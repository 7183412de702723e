"""Lava as a backend: equal to the reference, stock and ours, for every spike and membrane."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from mtspark.core.arithmetic import MEMBRANE_LIMIT, STATE_SHIFT, THRESHOLD_LIMIT
from mtspark.core.backend import Decision
from mtspark.core.chip_network import Encoder
from mtspark.core.chip_network.network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    FrameInput,
    Population,
    Readout,
    ReadoutKind,
    Reset,
    SignMode,
)
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.core.errors import BackendMissingError, BadNetworkError, BadRequestError
from mtspark.deploy.lava.shim import installed_lava
from mtspark.deploy.prune import prune_network
from mtspark.sim.backends.lava import backend as lava_runner
from mtspark.sim.backends.lava.backend import LavaBackend
from mtspark.sim.backends.reference import ReferenceChip
from tests.support.networks import frames_for, thinned, varied_networks

pytestmark = [
    pytest.mark.third_party,
    pytest.mark.skipif(
        installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
    ),
]

TASKS = (Task("pong", "pong", (0, 1)), Task("breakout", "breakout", (0, 1)))


def weights(rng: np.random.Generator, mode: SignMode, bits: int, *shape: int) -> np.ndarray:
    """Extremes included: one weight in ten is the lowest or highest one."""
    low, high = {"mixed": (-256, 254), "excitatory": (0, 255), "inhibitory": (-255, 0)}[mode.value]
    drawn = rng.integers(low, high + 1, shape)
    extreme = rng.random(shape)
    drawn = np.where(extreme < 0.05, low, np.where(extreme > 0.95, high, drawn))
    step = 2 ** (8 - bits + (mode is SignMode.MIXED))
    return np.sign(drawn) * (np.abs(drawn) // step * step)


def population(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Population:
    return Population(
        name,
        shape,
        int(rng.choice([4095, 4095, 3000, 17])),
        int(rng.choice([4096, 0, 1024, 37])),
        rng.integers(0, rng.choice([300, 5000, THRESHOLD_LIMIT]), (2, *shape)),
        rng.integers(-4095, 4096, shape) // int(rng.choice([1, 60])),
        int(rng.integers(0, 8)),
    )


def random_network(seed: int) -> ChipNetwork:
    """Conv, then conv and dense into one population, then a dense readout."""
    rng = np.random.default_rng(seed)
    bits = int(rng.choice([0, 8]))

    def link(name, source, target, kind, shape, exponents, **geometry):
        mode = SignMode(rng.choice(["mixed", "mixed", "excitatory", "inhibitory"]))
        weight_bits = int(rng.choice([8, 8, 5]))
        made = weights(rng, mode, weight_bits, *shape)
        exponent = int(rng.integers(*exponents))
        return Connection(name, source, target, kind, made, mode, exponent, weight_bits, **geometry)

    conv, dense = ConnectionKind.CONV, ConnectionKind.DENSE
    links = (
        link(
            "conv1",
            INPUT,
            "a",
            conv,
            (4, 2, 3, 2),
            (-8, 2) if bits else (-3, 8),
            stride=(2, 1),
            padding=(1, 0),
            dilation=(1, 2),
            groups=2,
        ),
        link("conv2", "a", "b", conv, (3, 4, 2, 3), (-3, 6), stride=(1, 2), padding=(0, 1)),
        link("side", "a", "b", dense, (3 * 4 * 4, 4 * 5 * 7), (-4, 2)),
        link("head", "b", "out", dense, (5, 3 * 4 * 4), (-2, 3)),
    )
    populations = (population(rng, "a", (4, 5, 7)), population(rng, "b", (3, 4, 4)))
    readout = replace(
        population(rng, "out", (5,)), thresholds=np.full((2, 5), THRESHOLD_LIMIT, np.int64)
    )
    return ChipNetwork(
        f"random-{seed}",
        FrameInput((4, 9, 9), bits),
        (*populations, readout),
        links,
        Readout("out", rng.random(5)),
        TASKS,
        int(rng.integers(1, 5)),
        GameProtocol(),
    )


def frames_of(network: ChipNetwork, count: int, seed: int) -> np.ndarray:
    """Random frames; the second is empty, the third full, the fourth sparse."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, 1, *network.input.shape), dtype=np.uint8)
    frames[1] = 0
    frames[2] = 255
    frames[3] *= rng.random(frames[3].shape) < 0.1
    return frames


def decisions(chip, frames: np.ndarray, tasks: list[int]) -> list[Decision]:
    try:
        return [
            chip.decide(frame, task, trace=True) for frame, task in zip(frames, tasks, strict=True)
        ]
    finally:
        chip.close()


def assert_equal(got: list[Decision], wanted: list[Decision]) -> None:
    for mine, other in zip(got, wanted, strict=True):
        assert np.array_equal(mine.values, other.values)
        pairs = [
            (mine.trace.spikes, other.trace.spikes),
            (mine.trace.membranes, other.trace.membranes),
            (mine.activity.window, other.activity.window),
            (mine.activity.drain, other.activity.drain),
        ]
        for left, right in pairs:
            assert left.keys() == right.keys()
            for name in left:
                assert left[name].dtype == right[name].dtype
                assert np.array_equal(left[name], right[name]), name


@pytest.mark.parametrize("seed", range(8))
def test_ours_equals_the_reference_and_switches_tasks(seed):
    network = random_network(seed)
    frames, tasks = frames_of(network, 6, seed), [0, 0, 1, 1, 0, 1]
    got = decisions(LavaBackend(network, trace=True), frames, tasks)
    assert_equal(got, decisions(ReferenceChip(network), frames, tasks))


@pytest.mark.parametrize("seed", range(8))
def test_stock_equals_the_reference(seed):
    network, task = random_network(seed), seed % 2
    frames, tasks = frames_of(network, 5, seed), [task] * 5
    got = decisions(LavaBackend(network, stock=True, task=task, trace=True), frames, tasks)
    assert_equal(got, decisions(ReferenceChip(network), frames, tasks))


@given(net=varied_networks(), seed=st.integers(0, 1000))
@settings(
    deadline=None,
    max_examples=15,
    derandomize=True,
    # Each example starts Lava: no shrinking.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
def test_ours_equals_the_reference_with_resets_loops_delays_and_series(net, seed):
    try:
        chip = LavaBackend(net, trace=True)
    except BadNetworkError as error:
        assume("32 bits" not in str(error))
        raise
    frames = np.stack([frames_for(net, 1, seed + number) for number in range(3)])
    tasks = [0, len(net.tasks) - 1, 0]
    assert_equal(decisions(chip, frames, tasks), decisions(ReferenceChip(net), frames, tasks))


@given(net=varied_networks(), seed=st.integers(0, 1000))
@settings(
    deadline=None,
    max_examples=8,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
def test_a_pruned_network_equals_the_reference_of_the_whole_one(net, seed):
    net = thinned(net, seed)
    pruned = prune_network(net)
    try:
        chip = LavaBackend(pruned.network, trace=True)
    except BadNetworkError as error:
        assume("32 bits" not in str(error))
        raise
    frames = np.stack([frames_for(net, 1, seed + number) for number in range(3)])
    tasks = [0, len(net.tasks) - 1, 0]
    got = decisions(chip, frames, tasks)
    assert_equal_where_kept(got, decisions(ReferenceChip(net), frames, tasks), pruned.kept)


def test_stock_runs_layers_of_which_nothing_is_left():
    """A branch that nobody hears goes, and with it all synapses on its way."""
    hidden, out = (one_layer(exponent=0, bias=0, decay=0, threshold=9).populations[0],) * 2
    heads = replace(out, name="head", thresholds=np.full((1, 2), THRESHOLD_LIMIT))
    branch = replace(hidden, name="branch")
    dense, mixed = ConnectionKind.DENSE, SignMode.MIXED
    weights = np.array([[2, 4, -2, 0], [6, -4, 8, 2]])
    net = replace(
        one_layer(exponent=0, bias=0, decay=0, threshold=9),
        populations=(replace(hidden, name="hidden"), branch, heads),
        connections=(
            Connection("a", INPUT, "hidden", dense, weights, mixed),
            Connection("b", INPUT, "branch", dense, weights, mixed),
            Connection("c", "hidden", "head", dense, weights[:, :2], mixed),
            Connection("d", "branch", "head", dense, np.zeros((2, 2), np.int64), mixed),
        ),
        readout=Readout("head", np.ones(2)),
    )
    pruned = prune_network(net)
    assert not pruned.kept["branch"].any()
    assert not any(link.weights.any() for link in pruned.network.connections[1::2])
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 4), dtype=np.uint8)
    wanted = decisions(ReferenceChip(net), frames, [0, 0])
    assert wanted[0].trace.spikes["hidden"].any()
    for stock in (False, True):
        chip = LavaBackend(pruned.network, stock=stock, task=0, trace=True)
        assert_equal_where_kept(decisions(chip, frames, [0, 0]), wanted, pruned.kept)


def assert_equal_where_kept(got: list[Decision], wanted: list[Decision], kept) -> None:
    for mine, whole in zip(got, wanted, strict=True):
        assert np.array_equal(mine.values, whole.values)
        pairs = [
            (mine.trace.spikes, whole.trace.spikes),
            (mine.trace.membranes, whole.trace.membranes),
        ]
        for small, before in pairs:
            for name, flags in kept.items():
                flat = before[name].reshape(*before[name].shape[:2], -1)[:, :, flags]
                if flags.any():
                    assert np.array_equal(small[name].reshape(flat.shape), flat), name
                else:
                    assert not small[name].any()


def series_of(net):
    return replace(net, input=replace(net.input, held=False))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda net: with_population(net, reset=Reset.SUBTRACT), "reset 'subtract', Lava's own"),
        (
            lambda net: with_population(net, membrane_decay=np.full((2,), 5)),
            "a decay for each neuron",
        ),
        (lambda net: with_link(net, delay=2), "delay 2, Lava's own Dense"),
        (
            lambda net: replace(
                net,
                connections=(
                    *net.connections,
                    replace(
                        net.connections[0],
                        name="loop",
                        source="out",
                        weights=np.zeros((2, 2), np.int64),
                        recurrent=True,
                    ),
                ),
            ),
            "connection 'loop': recurrent",
        ),
    ],
)
def test_stock_refuses_what_lavas_own_parts_do_not_have(change, text):
    network = change(one_layer(exponent=-2, bias=0, decay=0, threshold=9))
    with pytest.raises(BadNetworkError, match=f"{text}.*use the backend lava"):
        LavaBackend(network, stock=True)
    LavaBackend(network).close()


def with_population(network, **changes):
    return replace(network, populations=(replace(network.populations[0], **changes),))


def with_link(network, **changes):
    return replace(network, connections=(replace(network.connections[0], **changes),))


def test_stock_takes_series_and_reads_spikes():
    network = series_of(one_layer(exponent=-2, bias=100, decay=0, threshold=20_000))
    network = replace(network, readout=replace(network.readout, kind=ReadoutKind.SPIKES))
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 6, 4), dtype=np.uint8)
    wanted = decisions(ReferenceChip(network), frames, [0, 0])
    assert any(decision.values.any() for decision in wanted)
    assert_equal(decisions(LavaBackend(network, stock=True, trace=True), frames, [0, 0]), wanted)


def one_layer(exponent: int, bias: int, decay: int, threshold: int) -> ChipNetwork:
    layer = Population(
        "out",
        (2,),
        4095,
        decay,
        np.full((1, 2), threshold, np.int64),
        np.array([bias, -bias]),
        7,
    )
    made = np.array([[254] * 4, [-256] * 4])
    link = Connection("in", INPUT, "out", ConnectionKind.DENSE, made, SignMode.MIXED, exponent)
    return ChipNetwork(
        "one-layer",
        FrameInput((4,), 8),
        (layer,),
        (link,),
        Readout("out", np.ones(2)),
        TASKS[:1],
        6,
        GameProtocol(),
    )


@pytest.mark.parametrize("stock", [False, True])
def test_currents_wrap_and_membranes_saturate_alike(stock):
    wrapping = one_layer(exponent=0, bias=0, decay=4096, threshold=THRESHOLD_LIMIT)
    saturating = one_layer(exponent=-2, bias=4095, decay=0, threshold=THRESHOLD_LIMIT)
    frames = np.full((1, 1, 4), 255, np.uint8)
    for network in (wrapping, saturating):
        wanted = decisions(ReferenceChip(network), frames, [0])
        assert_equal(decisions(LavaBackend(network, stock=stock, trace=True), frames, [0]), wanted)
        membranes = wanted[0].trace.membranes["out"]
        if network is wrapping:
            # 4 * 254 * 255 << 6 and 4 * -256 * 255 << 6, corrected by 2^24.
            assert membranes[1, 0].tolist() == [16_581_120 - 2**24, -16_711_680 + 2**24]
        else:
            assert membranes.min() == -MEMBRANE_LIMIT


@pytest.mark.parametrize("membrane_decay", [0, 4096])
@pytest.mark.parametrize("stock", [False, True])
def test_a_gain_in_the_threshold_is_a_gain_in_the_weights(membrane_decay, stock):
    rng = np.random.default_rng(membrane_decay)
    gains = rng.choice([1, 2, 3, 4], (2, 12))
    base = 2 * rng.integers(-10, 11, (12, 9))
    thresholds = 12 * rng.integers(1, 6, 12)
    bias = rng.integers(-20, 21, 12)
    head = 2 * rng.integers(-40, 41, (3, 12))

    def network(layer_thresholds, layer_weights, layer_bias):
        tasks = len(layer_thresholds)
        layer = Population(
            "layer", (12,), 4095, membrane_decay, layer_thresholds, layer_bias, STATE_SHIFT
        )
        out = Population(
            "out",
            (3,),
            4095,
            0,
            np.full((tasks, 3), THRESHOLD_LIMIT, np.int64),
            np.zeros(3, np.int64),
        )
        dense, mixed = ConnectionKind.DENSE, SignMode.MIXED
        return ChipNetwork(
            "gains",
            FrameInput((9,), 0),
            (layer, out),
            (
                Connection("in", INPUT, "layer", dense, layer_weights, mixed),
                Connection("head", "layer", "out", dense, head, mixed),
            ),
            Readout("out", np.ones(3)),
            TASKS[:tasks],
            4,
            GameProtocol(),
        )

    frames = rng.integers(0, 2, (6, 1, 9), dtype=np.uint8)
    both = network(thresholds // gains, base, bias)
    separate = [network(thresholds[None], base * gain[:, None], bias * gain) for gain in gains]
    if stock:
        switched = [
            decisions(LavaBackend(both, stock=True, task=task, trace=True), frames, [task] * 6)
            for task in (0, 1)
        ]
        switched = [switched[index % 2][index] for index in range(6)]
    else:
        switched = decisions(LavaBackend(both, trace=True), frames, [0, 1] * 3)
    alone = [
        decisions(LavaBackend(each, stock=stock, trace=True), frames, [0] * 6) for each in separate
    ]
    fired = 0
    for index, mine in enumerate(switched):
        other = alone[index % 2][index]
        for name in ("layer", "out"):
            window = both.window(name)
            assert np.array_equal(mine.trace.spikes[name][window], other.trace.spikes[name][window])
        window = both.window("layer")
        scaled = mine.trace.membranes["layer"][window] * gains[index % 2]
        assert np.array_equal(scaled, other.trace.membranes["layer"][window])
        assert np.array_equal(mine.values, other.values)
        fired += int(mine.trace.spikes["layer"].sum())
    assert fired > 20


def test_a_batch_is_handled_frame_by_frame_on_one_chip():
    network = random_network(1)
    frames = frames_of(network, 4, 1)
    with LavaBackend(network, trace=True) as backend:
        batch = backend.decide(frames[:, 0], 1, trace=True)
    one_by_one = decisions(ReferenceChip(network), frames, [1] * 4)
    assert np.array_equal(batch.values, np.concatenate([each.values for each in one_by_one]))
    for name, rows in batch.trace.spikes.items():
        wanted = np.concatenate([each.trace.spikes[name] for each in one_by_one], axis=1)
        assert np.array_equal(rows, wanted)


def test_each_game_begins_with_a_chip_at_rest():
    network = random_network(1)
    frame = frames_of(network, 4, 1)[2]
    expected, gone_on = decisions(ReferenceChip(network), [frame] * 2, [1] * 2)
    assert any(
        not np.array_equal(rows, expected.trace.spikes[name])
        for name, rows in gone_on.trace.spikes.items()
    )
    with LavaBackend(network, trace=True) as backend:
        leader = backend._guard.pid
        backend.start(1)
        assert backend._guard.pid == leader  # At rest it is as it is.
        with pytest.raises(BadRequestError, match="is one chip; play its games one at a time"):
            backend.start(2)
        for _ in range(2):
            backend.start(1)
            backend.keep(np.array([0]))
            found = backend.decide(frame, 1, trace=True)
            for name, rows in found.trace.spikes.items():
                assert np.array_equal(rows, expected.trace.spikes[name])
        assert backend._guard.pid != leader


def test_requests_that_cannot_be_met_are_one_line():
    network = random_network(2)
    frame = frames_of(network, 4, 2)[0]
    with pytest.raises(BadRequestError, match="name one"):
        LavaBackend(network, stock=True)
    with pytest.raises(BadRequestError, match="task 2"):
        LavaBackend(network, task=2)
    with LavaBackend(network, stock=True, task=0) as backend:
        with pytest.raises(BadRequestError, match="cannot switch to 1"):
            backend.decide(frame, 1)
        with pytest.raises(BadRequestError, match="trace=True"):
            backend.decide(frame, 0, trace=True)
        with pytest.raises(BadRequestError, match="frames are"):
            backend.decide(frame[0], 0)
    backend.close()
    with pytest.raises(BadRequestError, match="closed"):
        backend.decide(frame, 0)
    with pytest.raises(BadRequestError, match="closed"):
        backend.start(1)


def test_missing_lava_names_the_command(monkeypatch):
    monkeypatch.setattr(lava_runner, "installed_lava", lambda: None)
    with pytest.raises(BackendMissingError, match="mtspark install-lava"):
        LavaBackend(random_network(0))


def kept_network(encoder: Encoder, exponent: int = -6) -> ChipNetwork:
    """A convolution and a delayed dense skip from the input; few frames leave it silent."""
    rng = np.random.default_rng(7)

    def link(name, source, target, kind, shape, exponent, **more):
        made = rng.integers(-40, 41, shape) * 2
        return Connection(name, source, target, kind, made, SignMode.MIXED, exponent, **more)

    def layer(name, thresholds, **changes):
        values = np.asarray(thresholds, np.int64)
        bias = np.zeros(values.shape[1:], np.int64)
        return Population(name, values.shape[1:], 4095, 2048, values, bias, **changes)

    conv, dense = ConnectionKind.CONV, ConnectionKind.DENSE
    return ChipNetwork(
        "kept",
        FrameInput((2, 6, 5), 8, encoder=encoder),
        (
            layer("a", rng.integers(0, 900, (2, 3, 4, 4))),
            layer("b", rng.integers(0, 9000, (2, 6)), reset=Reset.SUBTRACT),
            replace(layer("out", np.full((2, 4), THRESHOLD_LIMIT)), membrane_decay=0),
        ),
        (
            link("conv1", INPUT, "a", conv, (3, 2, 3, 2), exponent),
            link("conv2", "a", "b", dense, (6, 48), 3),
            link("skip", INPUT, "b", dense, (6, 60), -3, delay=1),
            link("head", "b", "out", dense, (4, 6), 0),
        ),
        Readout("out", np.ones(4)),
        TASKS,
        3,
        GameProtocol(),
    )


@pytest.mark.parametrize("encoder", [Encoder.HELD, Encoder.CHANGES])
def test_ours_keeps_the_sum_of_a_frame_over_fifty_decisions(encoder):
    """Games end after 17 decisions each, tasks change; the exponent of the sum is -6."""
    network, frame = kept_network(encoder), np.zeros((1, 2, 6, 5), np.uint8)
    plain = ReferenceChip(
        replace(network, input=replace(network.input, encoder=Encoder.EVERY_STEP))
    )
    reference, rng, spikes = ReferenceChip(network), np.random.default_rng(3), 0
    with LavaBackend(network, trace=True) as chip:
        for number in range(50):
            if number % 17 == 0:
                for one in (chip, reference, plain):
                    one.start(1)
            fresh = rng.random(frame.shape) < 0.3
            frame = np.where(fresh, rng.integers(0, 256, frame.shape), frame).astype(np.uint8)
            row = number // 5 % 2
            got = chip.decide(frame, row, trace=True)
            assert_equal([got], [reference.decide(frame, row, trace=True)])
            wanted = plain.decide(frame, row, trace=True)
            for name, rows in wanted.trace.membranes.items():
                assert np.array_equal(got.trace.membranes[name], rows), (number, name)
                assert np.array_equal(got.trace.spikes[name], wanted.trace.spikes[name])
                spikes += int(rows.any())
    assert spikes > 100


@pytest.mark.parametrize("encoder", [Encoder.HELD, Encoder.CHANGES])
def test_stock_keeps_no_sum_and_names_the_encoder_that_it_runs(encoder):
    plain = one_layer(exponent=-2, bias=0, decay=0, threshold=9)
    network = replace(plain, input=replace(plain.input, encoder=encoder))
    LavaBackend(plain, stock=True).close()
    with pytest.raises(BadNetworkError, match=r"stock Lava has no .* --encoder every-step$"):
        LavaBackend(network, stock=True)

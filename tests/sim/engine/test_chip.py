from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numba.core.caching
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtspark.core.chip_network.connectivity import fan_out
from mtspark.core.chip_network.network import INPUT, ChipNetwork, ConnectionKind, SignMode
from mtspark.core.errors import BackendMissingError, BadRequestError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.counts.totals import Counter
from mtspark.sim.engine import plan as engine_plan
from mtspark.sim.engine.chip import PATHS as PATH_NAMES
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.engine.kernels import run as engine_kernels
from mtspark.sim.engine.kernels.run import run
from mtspark.sim.engine.kernels.synapses import EVENTS, PRODUCT, WINDOWS, _cheapest
from tests.support.engine_checks import PATHS, assert_same, plain_convolutions, wide_networks
from tests.support.networks import (
    conv,
    dense,
    frame_networks,
    frames_for,
    network,
    population,
    random_networks,
    three_neurons,
    varied,
    varied_networks,
)


def with_whole_kernels(net: ChipNetwork) -> ChipNetwork:
    """As the engine walks it: with the zeros of sparse convolutions."""
    links = [
        replace(link, kind=ConnectionKind.CONV) if link.kind.convolves else link
        for link in net.connections
    ]
    return replace(net, connections=tuple(links))


def assert_equals_the_reference(
    net: ChipNetwork, seed: int, tasks: list[int], **options: Any
) -> None:
    """Several decisions with changing frames and tasks, and the operations walked in them."""
    engine, reference = EngineChip(net, **options), ReferenceChip(net)
    counter, engines_counter, spikes = Counter(net), Counter(net), []
    whole = with_whole_kernels(net)
    walked = Counter(whole)
    for number, task in enumerate([0, *tasks]):
        frames = frames_for(net, 2, seed + number)
        row = task % len(net.tasks)
        expected = reference.decide(frames, row, trace=True)
        found = engine.decide(frames, row, trace=True)
        # Added before anything is read of it: the way that adds by lane.
        engines_counter.add(found.activity)
        assert_same(found, expected)
        assert expected.trace is not None
        counter.add(expected.activity)
        walked.add(expected.activity)
        spikes.append(expected.trace.spikes)
    assert engines_counter.result() == counter.result()
    counted = {layer.name: layer.synops_structural.total for layer in walked.result().layers}
    for link in whole.connections:
        counted[link.target] -= engine.synops_walked[link.name]
        if link.source == INPUT:
            continue
        # Counts book an operation when a message is sent, the engine when it arrives: what was
        # sent in the very last steps is still on its way. A loop does not deliver that, nor what
        # was sent outside of the window.
        fans, _ = fan_out(link, net.shape_of(link.source))
        on_the_way = np.arange(net.steps_per_decision) >= net.steps_per_decision - 1 - link.delay
        if link.recurrent:
            lost = np.ones_like(on_the_way)
            lost[net.window(link.source)] = False
            late = [part[link.source][on_the_way | lost] for part in spikes]
        else:
            sent = np.concatenate([part[link.source] for part in spikes])
            late = [sent[-1 - link.delay :]]
        counted[link.target] -= sum(int((part * fans).sum()) for part in late)
    assert not any(counted.values())
    engine.close()


@given(
    net=random_networks(),
    seed=st.integers(0, 1000),
    tasks=st.lists(st.integers(0, 1), max_size=2),
    path=PATHS,
    hold=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_every_spike_membrane_and_operation_equals_the_reference(
    net: ChipNetwork, seed: int, tasks: list[int], path: str, hold: bool
) -> None:
    assert_equals_the_reference(net, seed, tasks, path=path, hold_frame=hold)


@given(
    net=frame_networks(),
    seed=st.integers(0, 1000),
    tasks=st.lists(st.integers(0, 1), max_size=3),
    path=PATHS,
    hold=st.booleans(),
)
@settings(deadline=None)
def test_every_encoder_equals_the_reference(
    net: ChipNetwork, seed: int, tasks: list[int], path: str, hold: bool
) -> None:
    assert_equals_the_reference(net, seed, tasks, path=path, hold_frame=hold)


@given(
    net=st.one_of(varied_networks(), varied(wide_networks())),
    seed=st.integers(0, 1000),
    tasks=st.lists(st.integers(0, 1), max_size=2),
    path=PATHS,
)
@settings(deadline=None, max_examples=80)
def test_every_reset_decay_loop_series_and_readout_equals_the_reference(
    net: ChipNetwork, seed: int, tasks: list[int], path: str
) -> None:
    assert_equals_the_reference(net, seed, tasks, path=path)


@given(net=wide_networks(), seed=st.integers(0, 1000), path=PATHS)
@settings(deadline=None, max_examples=40)
def test_networks_of_many_channels_equal_the_reference(
    net: ChipNetwork, seed: int, path: str
) -> None:
    assert_equals_the_reference(net, seed, [1], path=path)


@given(
    net=plain_convolutions(),
    seed=st.integers(0, 1000),
    path=st.sampled_from(["windows", "windows", "automatic"]),
)
@settings(deadline=None, max_examples=60)
def test_sums_over_windows_equal_the_reference(net: ChipNetwork, seed: int, path: str) -> None:
    plan = EngineChip(net)._plan
    exact = plan.links["dense_weights_first"] >= 0
    assert np.array_equal(plan.links["window_words"] > 0, exact)
    assert_equals_the_reference(net, seed, [0], path=path)


@pytest.mark.slow
@given(
    net=st.one_of(
        varied_networks(), plain_convolutions(), wide_networks(), varied(wide_networks())
    ),
    seed=st.integers(0, 1000),
    path=PATHS,
)
@settings(deadline=None, max_examples=600)
def test_hundreds_of_networks_equal_the_reference(net: ChipNetwork, seed: int, path: str) -> None:
    assert_equals_the_reference(net, seed, [1, 0], path=path)


@pytest.mark.parametrize("current_decay", [4095, 0, 100])
@pytest.mark.parametrize("mode", list(SignMode))
def test_currents_that_wrap_and_membranes_that_saturate(mode: SignMode, current_decay: int) -> None:
    """Full-scale weights and payloads: A = 255 * 9 * 255 * 2^7 * 2^6, far beyond 2^24."""
    extreme = {SignMode.MIXED: 254, SignMode.EXCITATORY: 255, SignMode.INHIBITORY: -255}[mode]
    for exponent in (-8, -3, 0, 2, 3, 4, 5, 7):
        changes = {"current_decay": current_decay, "membrane_decay": 1000}
        net = network(
            (1, 3, 3),
            [population("all", np.full((1, 4), 131_071), **changes)],
            [dense(INPUT, "all", np.full((4, 9), extreme), sign_mode=mode, exponent=exponent)],
            payload_bits=8,
            time_steps=9,
        )
        for brightness in (1, 3, 100, 255):
            frames = np.full((1, 1, 3, 3), brightness, np.uint8)
            expected = ReferenceChip(net).decide(frames, 0, trace=True)
            assert_same(EngineChip(net).decide(frames, 0, trace=True), expected)


@given(
    net=st.one_of(varied_networks(), wide_networks(), varied(wide_networks())),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_a_batch_equals_a_loop_and_two_threads_equal_one(net: ChipNetwork, seed: int) -> None:
    frames = [frames_for(net, 5, seed), frames_for(net, 5, seed + 1)]
    together, threaded = EngineChip(net), EngineChip(net, threads=2)
    alone = [EngineChip(net) for _ in range(5)]
    for batch in frames:
        decision = together.decide(batch, 0, trace=True)
        assert_same(threaded.decide(batch, 0, trace=True), decision)
        for member, chip in enumerate(alone):
            single = chip.decide(batch[member : member + 1], 0, trace=True)
            assert np.array_equal(single.values[0], decision.values[member])
            assert decision.trace is not None
            assert single.trace is not None
            for name, membranes in decision.trace.membranes.items():
                assert np.array_equal(single.trace.membranes[name][:, 0], membranes[:, member])
            for name, sent in decision.activity.window.items():
                assert np.array_equal(single.activity.window[name][0], sent[member])
    assert threaded.synops_walked == together.synops_walked
    assert together.synops_walked == {
        name: sum(chip.synops_walked[name] for chip in alone) for name in together.synops_walked
    }
    threaded.close()
    threaded.close()


def test_long_windows_are_counted_beyond_eight_bits() -> None:
    """A neuron that fires 600 times, before, within and after its window."""
    net = network(
        (1,),
        [
            population("one", [[1]], bias_mantissa=np.array([100])),
            population("out", [[1]], bias_mantissa=np.array([100])),
        ],
        [dense(INPUT, "one", [[2]], delay=62), dense("one", "out", [[2]], delay=62)],
        time_steps=600,
    )
    frames = np.ones((1, 1), np.uint8)
    expected = ReferenceChip(net).decide(frames, 0, trace=True)
    assert expected.activity.window["out"].sum() == 600
    assert expected.activity.drain["out"].sum() == 126
    assert_same(EngineChip(net).decide(frames, 0, trace=True), expected)


def test_sums_beyond_32_bits_are_exact() -> None:
    """40,000 full-scale pixels of one sign reach 2.6e9; the engine lists their synapses."""
    generator = np.random.default_rng(0)
    net = network(
        (1, 200, 200),
        [population("wide", np.full((1, 3), 131_071), current_decay=7)],
        [
            dense(
                INPUT,
                "wide",
                np.where(generator.random((3, 40_000)) < 0.999, 255, 0),
                sign_mode=SignMode.EXCITATORY,
                exponent=-8,
            )
        ],
        payload_bits=8,
    )
    frames = np.full((1, 1, 200, 200), 255, np.uint8)
    chip = EngineChip(net)
    expected = ReferenceChip(net).decide(frames, 0, trace=True)
    assert_same(chip.decide(frames, 0, trace=True), expected)
    assert chip.synops_walked == {"input->wide": 3 * 40_000 * net.time_steps}


@given(net=st.one_of(random_networks(), wide_networks()), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_listed_synapses_equal_the_reference(net: ChipNetwork, seed: int) -> None:
    """Every connection as if its sums needed 64 bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_plan, "LARGEST_SUM", -1)
        assert_equals_the_reference(net, seed, [0])


@given(net=st.one_of(varied_networks(), varied(wide_networks())), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_neurons_in_64_bits_equal_the_reference(net: ChipNetwork, seed: int) -> None:
    """Every population as if no proof for 32 bits covered it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_plan.PlanBuilder, "_fits_32_bits", lambda *_: False)
        assert_equals_the_reference(net, seed, [0])


@pytest.mark.parametrize(
    ("frames", "task"),
    [
        (np.zeros((1, 3), np.uint8), 0),
        (np.zeros((1, 2), np.int64), 0),
        (np.zeros((0, 2), np.uint8), 0),
        (np.zeros((1, 2), np.uint8), 1),
    ],
)
def test_a_wrong_request_is_refused(frames: np.ndarray, task: int) -> None:
    with pytest.raises(BadRequestError):
        EngineChip(three_neurons()).decide(frames, task)


def test_wrong_options_and_foreign_states_are_refused() -> None:
    chip = EngineChip(three_neurons())
    with pytest.raises(BadRequestError, match="no state yet"):
        chip.state()
    with pytest.raises(BadRequestError, match="threads"):
        EngineChip(three_neurons(), threads=0)
    with pytest.raises(BadRequestError, match="automatic, events, windows, product"):
        EngineChip(three_neurons(), path="fast")
    with pytest.raises(BadRequestError, match="batch of 0"):
        chip.start(0)
    for steps in (range(0), range(3, 9), range(-1, 2), range(0, 4, 2)):
        with pytest.raises(BadRequestError, match="0 to 4, one by one"):
            chip.advance(np.ones((1, 2), np.uint8), 0, steps)
    with pytest.raises(BadRequestError, match="no chips to keep"):
        chip.keep(np.array([0]))


def test_a_network_beyond_exact_floats_is_never_multiplied() -> None:
    """1,400 bytes of a weight of 254 pass 2^24, where float32 begins to round."""
    generator = np.random.default_rng(0)
    weights = np.repeat([254, -254], 700)[None, :, None, None] + np.zeros((3, 1400, 1, 1), int)
    weights -= generator.integers(0, 2, weights.shape) * 2 * np.sign(weights)
    net = network(
        (1400, 2, 2),
        [population("out", np.full((1, 3, 2, 2), 131071))],
        [conv(INPUT, "out", weights, exponent=-3)],
        payload_bits=8,
    )
    frames = 255 - generator.integers(0, 4, (1, 1400, 2, 2)).astype(np.uint8)
    expected = ReferenceChip(net).decide(frames, 0)
    for path in PATH_NAMES:
        assert_same(EngineChip(net, path=path).decide(frames, 0), expected)


def test_the_path_of_a_convolution_follows_the_activity() -> None:
    weights = np.ones((32, 32, 4, 4), int) * 2
    shape = (32, 20, 20)
    net = network(
        shape,
        [population("out", np.full((1, 32, 9, 9), 131071))],
        [conv(INPUT, "out", weights, stride=(2, 2))],
    )
    plan = EngineChip(net)._plan
    link, source = plan.links.view(np.recarray)[0], plan.sources.view(np.recarray)[0]
    paths = [
        _cheapest.py_func(link, source, int(np.prod(shape) * activity))
        for activity in (0.001, 0.005, 0.05, 0.1, 0.9, 1)
    ]
    assert paths == [EVENTS, EVENTS, WINDOWS, WINDOWS, PRODUCT, PRODUCT]


def test_read_only_frames_are_not_compiled_for() -> None:
    chip = EngineChip(three_neurons())
    frames = np.ones((1, 2), np.uint8)
    expected = chip.decide(frames, 0)
    known = len(run.signatures)
    frames.flags.writeable = False
    assert_same(chip.decide(frames, 0), expected)
    assert len(run.signatures) == known


def test_numba_that_may_not_compile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(BackendMissingError, match="NUMBA_DISABLE_JIT is set"):
        EngineChip(three_neurons())


def test_without_a_folder_code_is_compiled_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_kernels.KEPT_ON_DISK
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    _, kept = engine_kernels._make_run(0)
    assert not kept


def test_any_file_of_the_engine_changes_the_version_of_compiled_code(tmp_path: Path) -> None:
    copied = tmp_path / "engine"
    shutil.copytree(engine_kernels.ENGINE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    before = engine_kernels.sources_digest(copied)
    assert before == engine_kernels.sources_digest()
    files = sorted(copied.rglob("*.py"))
    assert {"kernels/run.py", "kernels/windows.py", "plan.py"} <= {
        file.relative_to(copied).as_posix() for file in files
    }
    for file in files:
        with file.open("a") as lines:
            lines.write("\n")
        after = engine_kernels.sources_digest(copied)
        assert after != before, file
        before = after

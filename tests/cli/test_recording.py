from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mtspark.core.chip_network.network import ChipNetwork, FrameInput
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.deploy.bundle import write_bundle
from mtspark.sim.recording.inputs import as_messages, load_array, load_inputs, rounding
from mtspark.workflows.backends import BackendName
from mtspark.workflows.run import inputs
from tests.support.networks import three_neurons


def series_of_one() -> ChipNetwork:
    """A network that takes one spike a step."""
    return replace(three_neurons(), input=FrameInput((1,), 0, held=False))


def test_an_array_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", values)
    found = load_array(tmp_path / "a.npy")
    assert not isinstance(found, np.memmap)
    assert found.dtype == np.int16
    assert np.array_equal(found, values)


def test_an_array_that_declares_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**36,)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))
    with pytest.raises(BadFileError, match=r"a\.npy: no readable \.npy file") as caught:
        load_array(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("count", "over"), [(2**25, "array bytes"), (2**27, "file bytes")])
def test_a_sparse_file_is_refused_before_it_takes_memory(
    tmp_path: Path, count: int, over: str
) -> None:
    """A few kilobytes of disk that stand for half a gigabyte of numbers, and for one."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (count + 1, 1)}
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 8 * (count + 1))
    tracemalloc.start()
    with pytest.raises(BadFileError, match=over):
        load_inputs(
            tmp_path / "a.npy", replace(three_neurons(), input=FrameInput((1,), 0, held=False))
        )
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_a_recording_has_no_more_steps_than_the_limit(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((100_001, 1), np.uint8))
    with pytest.raises(BadFileError, match="100,001 time steps, 100,000 is the limit"):
        load_inputs(
            tmp_path / "a.npy", replace(three_neurons(), input=FrameInput((1,), 0, held=False))
        )


@pytest.mark.parametrize("payload_bits", [0, 8])
def test_values_become_messages_in_little_memory(payload_bits: int) -> None:
    network = three_neurons()
    network = replace(network, input=FrameInput((2,), payload_bits, scale=0.5))
    series = np.random.default_rng(0).integers(0, 2, (1, 2**22, 2)) * 0.5
    whole = (series / 0.5).astype(np.uint8)
    tracemalloc.start()
    found = as_messages(series, network, "a.npy")
    # A byte a message, and blocks of a few copies in float64; whole copies would take three times
    # as much as the series.
    assert tracemalloc.get_traced_memory()[1] < series.nbytes
    tracemalloc.stop()
    assert found.dtype == np.uint8
    assert np.array_equal(found, whole)
    series[0, -1, 1] = 0.3
    if payload_bits:
        # Values are rounded, and it is known how far.
        assert as_messages(series, network, "a.npy")[0, -1, 1] == 1
        assert rounding(series, network) == pytest.approx(0.2)
        series[0, -1, 1] = 128
        with pytest.raises(BadRequestError, match=r"0 to 128; .* takes 0 to 127\.5 \(8-bit"):
            as_messages(series, network, "a.npy")
        return
    with pytest.raises(BadRequestError, match=r"has the value 0\.3"):
        as_messages(series, network, "a.npy")


@pytest.mark.parametrize(
    "kind", ["objects", "texts", "archive", "damaged", "nothing", "noise", "none"]
)
def test_what_is_no_array_of_numbers_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npy"
    if kind == "objects":
        np.save(path, np.array([None]), allow_pickle=True)
    elif kind == "texts":
        np.save(path, np.array(["a"]))
    elif kind == "archive":
        np.savez(tmp_path / "a.npz", a=np.ones(2))
        (tmp_path / "a.npz").rename(path)
    elif kind == "damaged":
        path.write_bytes(b"PK\x03\x04")
    elif kind != "none":
        path.write_bytes(b"" if kind == "nothing" else b"\x93NUMPY\x01\x00" + b"\xff" * 80)
    with pytest.raises(BadFileError, match=r"a\.npy: ") as caught:
        load_array(path)
    assert "\n" not in str(caught.value)


def test_a_record_larger_than_memory_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "main_memory_bytes", lambda: 9 * 3 * 100 - 1)
    series = replace(three_neurons(), input=FrameInput((2,), 0, held=False))
    bundle = write_bundle(tmp_path / "bundle", series)
    np.save(tmp_path / "a.npy", np.zeros((100, 2), np.uint8))
    with pytest.raises(BadRequestError, match="3 neurons in 1 x 100 steps take"):
        inputs.run_recording(bundle, tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros((99, 2), np.uint8))
    assert inputs.run_recording(bundle, tmp_path / "a.npy").result.samples == 1


def test_recorded_episodes_begin_at_rest_and_carry_their_state(tmp_path: Path) -> None:
    network = replace(three_neurons(), time_steps=1, stateful=True)
    bundle = write_bundle(tmp_path / "bundle", network)
    frames = np.random.default_rng(0).integers(0, 2, (2, 6, 2)).astype(np.uint8)
    frames[:, 4] = frames[:, 5]

    def answers(given: NDArray[np.uint8]) -> tuple[NDArray[np.float64], ...]:
        np.save(tmp_path / "a.npy", given)
        run = inputs.run_recording(bundle, tmp_path / "a.npy", backend=BackendName.REFERENCE)
        inputs.save_archive(run.result, tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz") as archive:
            assert np.array_equal(archive["decision_values"], run.result.decision_values)
        assert np.array_equal(run.result.values, [own[-1] for own in run.result.decision_values])
        assert run.to_json()["decision_values"] == [
            own.tolist() for own in run.result.decision_values
        ]
        return run.result.decision_values

    both = answers(frames)
    assert [len(own) for own in both] == [6, 6]
    # The last two frames are the same, and what came before them shows.
    assert not np.array_equal(both[0][4], both[0][5])
    for episode, wanted in zip(frames, both, strict=True):
        # Alone, as one episode (T, ...), and cut short: nothing of the other one, nor of later.
        (alone,) = answers(episode)
        assert np.array_equal(alone, wanted)
        (short,) = answers(episode[:3])
        assert np.array_equal(short, wanted[:3])
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.uint8))
    with pytest.raises(BadRequestError, match=r"one episode \(T, 2\) are needed"):
        inputs.run_recording(bundle, tmp_path / "a.npy")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtspark.core.backend import Moment
from mtspark.core.chip_network.connectivity import fan_out
from mtspark.core.chip_network.network import INPUT
from mtspark.core.errors import BadFileError
from mtspark.sim.backends.reference import ReferenceChip
from mtspark.sim.recording.film import FilmRecorder
from mtspark.sim.recording.pictures import encode_animation, tiled
from mtspark.sim.recording.stage import save_still, save_video
from tests.support.networks import conv, dense, network, population

WEIGHTS = np.random.default_rng(0).integers(-60, 120, (2, 3, 4, 1, 1)) * 2
NETWORK = network(
    (4, 5, 6),
    [
        population("conv", np.full((1, 3, 5, 6), 20000)),
        population("hidden", [[4, 6, 8]]),
        population("out", [[131071] * 2], membrane_decay=0),
    ],
    [
        conv(INPUT, "conv", WEIGHTS[0]),
        dense("conv", "hidden", np.ones((3, 90), int) * 2),
        dense("hidden", "out", [[2, 4, 6], [4, 2, 0]]),
    ],
    payload_bits=8,
    time_steps=4,
)


def recorded(decisions: int, *, trace: bool = False, counts: bool = True) -> FilmRecorder:
    generator = np.random.default_rng(1)
    recorder, chip = FilmRecorder(NETWORK, 5, counts=counts), ReferenceChip(NETWORK)
    legal = NETWORK.tasks[0].legal_actions
    for number in range(decisions):
        frames = generator.integers(0, 256, (1, *NETWORK.input.shape)).astype(np.uint8)
        decision = chip.decide(frames, 0, trace=trace)
        action, reward = np.array([legal[0]]), np.array([float(number == 2)])
        recorder(Moment(frames, np.array([0]), action, reward, decision))
    return recorder


def test_counts_and_operations_of_a_shot_are_the_decisions_own() -> None:
    recorder, chip = recorded(3), ReferenceChip(NETWORK)
    shot = recorder.latest[1]
    activity = chip.decide(shot.observation[None], 0).activity
    assert list(shot.counts) == list(recorder.shown)
    for name, counts in shot.counts.items():
        assert np.array_equal(counts, activity.window[name][0])
    assert shot.synops == sum(
        int(
            (
                (activity.window[link.source] + activity.drain[link.source])
                * fan_out(link, NETWORK.shape_of(link.source))[0]
            ).sum()
        )
        for link in NETWORK.connections
    )
    assert not shot.rasters
    assert not recorded(1, trace=True, counts=False).latest[0].counts


def test_the_latest_decisions_are_kept_whatever_was_scored() -> None:
    recorder = recorded(9)
    assert [shot.number for shot in recorder.latest] == [4, 5, 6, 7, 8]
    assert [shot.score for shot in recorder.latest] == [1.0] * 5


def test_an_animation_of_every_second_decision_and_a_picture(tmp_path: Path) -> None:
    recorder, task = recorded(9), NETWORK.tasks[0].name
    save_video(recorder, task, tmp_path / "a.gif")
    save_still(recorder, task, str(tmp_path / "a.png"))
    with Image.open(tmp_path / "a.gif") as video:
        assert (video.format, video.size, getattr(video, "n_frames", 1)) == ("GIF", (763, 388), 3)
    with Image.open(tmp_path / "a.png") as still:
        assert (still.format, still.size) == ("PNG", (1272, 648))
    assert {path.name for path in tmp_path.iterdir()} == {"a.gif", "a.png"}
    with pytest.raises(BadFileError, match="cannot be written"):
        save_still(recorder, task, tmp_path)


def test_channels_are_tiled_into_one_picture_that_is_about_square() -> None:
    counts = np.arange(3 * 2 * 2, dtype=np.int32).reshape(3, 2, 2)
    assert tiled(counts).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 0, 0], [10, 11, 0, 0]]
    assert tiled(np.arange(1, 6, dtype=np.int32)).tolist() == [[1, 2, 3], [4, 5, 0], [0, 0, 0]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_shows_each_picture_for_its_time(kind: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in (0, 120, 250)]
    (tmp_path / "a").write_bytes(encode_animation(frames, kind, 120))
    with Image.open(tmp_path / "a") as video:
        assert getattr(video, "n_frames", 1) == 3
        for index in range(3):
            video.seek(index)
            video.load()
            assert video.info["duration"] == 120

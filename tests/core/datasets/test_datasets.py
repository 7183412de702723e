"""Datasets: what minari reads of ours, what we read of minari's, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mtspark.core.datasets import (
    DatasetWriter,
    Origin,
    RecordedEpisode,
    dataset_folder,
    dataset_name,
    read_dataset,
)
from mtspark.core.datasets.read import MAIN, METADATA
from mtspark.core.environments import GameProtocol, Task
from mtspark.core.errors import BadFileError
from tests.support.worlds import cartpole

pytestmark = pytest.mark.usefixtures("read_here")


def episode(decisions: int = 3, *, ended: bool = True, seed: int = 4) -> RecordedEpisode:
    generator = np.random.default_rng([seed, decisions])
    return RecordedEpisode(
        generator.normal(size=(decisions + 1, 4)),
        generator.integers(0, 2, decisions),
        generator.normal(size=decisions),
        ended,
        None,
        seed,
    )


def written(place: Path) -> tuple[Path, list[RecordedEpisode]]:
    pytest.importorskip("minari")
    episodes = [episode(3), episode(5, ended=False, seed=5)]
    writer = DatasetWriter(place, Origin(cartpole(), None, {"agent": "a"}))
    writer.add(episodes[:1])
    writer.add(episodes[1:])
    return place / "data", episodes


def by_hand(folder: Path, **changes: Any) -> Path:
    """A dataset of one episode without minari; a change replaces an array, None leaves it out."""
    arrays: dict[str, Any] = {
        "observations": np.zeros((3, 2)),
        "actions": np.array([0, 1]),
        "rewards": np.array([1.0, 2.0]),
        "terminations": np.array([False, True]),
        "truncations": np.array([False, False]),
        **changes,
    }
    (folder / METADATA).write_text(json.dumps({"data_format": "hdf5"}))
    with h5py.File(folder / MAIN, "w") as file:
        group = file.create_group("episode_0")
        for name, values in arrays.items():
            if isinstance(values, dict):
                inner = group.create_group(name)
                for key, part in values.items():
                    inner[key] = part
            elif values is not None:
                group[name] = values
    return folder


def test_minari_reads_what_was_written(tmp_path: Path) -> None:
    data, episodes = written(tmp_path)
    import minari

    dataset = minari.MinariDataset(data)
    assert dataset.total_steps == 8
    assert dataset.id == "CartPole-v1-v0"
    for found, made in zip(dataset.iterate_episodes(), episodes, strict=True):
        assert np.array_equal(found.observations, made.shown)
        assert np.array_equal(found.actions, made.actions)
        assert np.array_equal(found.rewards, made.rewards)
        ends = [False] * (len(made) - 1) + [True]
        assert found.terminations.tolist() == [end and made.ended for end in ends]
        assert found.truncations.tolist() == [end and not made.ended for end in ends]
    seeds = [one["seed"] for one in dataset.storage.get_episode_metadata([0, 1])]
    assert seeds == [4, 5]


def test_a_folder_may_be_named_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    data, episodes = written(Path("run"))
    assert read_dataset(data).decisions == sum(map(len, episodes))


def test_it_reads_back_with_its_origin(tmp_path: Path) -> None:
    data, episodes = written(tmp_path)
    found = read_dataset(data)
    assert found.origin == Origin(cartpole(), None, {"agent": "a"})
    assert found.decisions == 8
    for one, made in zip(found.episodes, episodes, strict=True):
        for name in ("shown", "actions", "rewards"):
            assert np.array_equal(getattr(one, name), getattr(made, name)), name
        assert one.ended == made.ended
    assert dataset_folder(tmp_path, "CartPole-v1") == dataset_folder(data, "CartPole-v1") == data


def test_the_same_data_has_the_same_digest_and_other_data_another(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = read_dataset(by_hand(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    assert read_dataset(by_hand(tmp_path / "b")).digest == found.digest
    for name, value in {
        "rewards": np.array([1.0, 2.5]),
        "actions": np.array([1, 1]),
        "terminations": np.array([False, False]),
    }.items():
        (tmp_path / name).mkdir()
        assert read_dataset(by_hand(tmp_path / name, **{name: value})).digest != found.digest


def test_a_dataset_of_another_program_is_read(tmp_path: Path) -> None:
    """Written by minari's own functions, compressed by nothing, without our metadata."""
    pytest.importorskip("minari")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    box = spaces.Box(-1, 1, (2,), np.float32)
    storage = MinariStorage.new(tmp_path, box, box)
    shown = np.arange(8, dtype=np.float32).reshape(4, 2)
    buffer = EpisodeBuffer(
        observations=[*shown],
        actions=[*-shown[:3]],
        rewards=[1.0, 2.0, 3.0],
        terminations=[False, False, False],
        truncations=[False, False, True],
    )
    storage.update_episodes([buffer])
    found = read_dataset(dataset_folder(tmp_path, "any"))
    assert found.origin is None
    (one,) = found.episodes
    assert np.array_equal(one.shown, shown)
    assert np.array_equal(one.actions, -shown[:3])
    assert (one.rewards.tolist(), one.ended) == ([1.0, 2.0, 3.0], False)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observations": np.zeros((2, 2))}, "2 observations, 2 actions and 2 rewards"),
        ({"observations": {"a": np.zeros((3, 2))}}, "several arrays"),
        ({"actions": None}, "no array of actions"),
        ({"actions": np.zeros((2, 2), np.int64)}, "actions are int64 of 2 axes"),
        ({"rewards": np.array([1.0, np.nan])}, "rewards are not finite"),
        ({"terminations": np.array([True, True])}, "goes on after its end"),
        ({"infos": {"action_mask": np.zeros((3, 2), np.int8)}}, "action_mask"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadFileError, match=reason):
        read_dataset(by_hand(tmp_path, **changes))


def _no_object(folder: Path) -> None:
    (folder / METADATA).write_text("[]")


def _arrow(folder: Path) -> None:
    (folder / METADATA).write_text('{"data_format": "arrow"}')


def _other_version(folder: Path) -> None:
    (folder / METADATA).write_text('{"mtspark": {"version": 9}}')


def _no_task(folder: Path) -> None:
    (folder / METADATA).write_text('{"mtspark": {"version": 1, "task": {"name": "x"}}}')


def _no_data(folder: Path) -> None:
    (folder / MAIN).unlink()


def _garbage(folder: Path) -> None:
    (folder / MAIN).write_bytes(b"nothing")


def _elsewhere(folder: Path) -> None:
    with h5py.File(folder / MAIN, "a") as file:
        del file["episode_0"]
        file["episode_0"] = h5py.ExternalLink("/etc/other.hdf5", "/")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_no_object, "no object"),
        (_arrow, "data_format is 'arrow'"),
        (_other_version, "of no version"),
        (_no_task, "fields missing"),
        (_no_data, "no such file"),
        (_garbage, "no HDF5 file"),
        (_elsewhere, "links to elsewhere are refused"),
    ],
)
def test_a_damaged_dataset_is_one_line(
    damage: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    damage(by_hand(tmp_path))
    with pytest.raises(BadFileError, match=reason):
        read_dataset(tmp_path)
    with pytest.raises(BadFileError, match="holds no dataset of x"):
        dataset_folder(tmp_path / "nowhere", "x")


def test_names_are_those_that_minari_takes() -> None:
    assert dataset_name("CartPole-v1") == "CartPole-v1-v0"
    assert dataset_name("forward.slow") == "forward_slow-v0"
    minari = pytest.importorskip("minari.dataset.minari_dataset")
    assert minari.parse_dataset_id(dataset_name("a.b-v2")) == (None, "a_b-v2", 0)


def test_frames_are_stored_as_they_are(tmp_path: Path) -> None:
    """Minari would write pictures as JPEG, which loses some of each."""
    pytest.importorskip("minari")
    protocol = GameProtocol(frame_stack=40, screen_size=36)
    task = Task("pong", "pong", (0, 1, 3))
    shown = np.random.default_rng(0).integers(0, 256, (2, 40, 36, 36), dtype=np.uint8)
    one = RecordedEpisode(shown, np.array([3]), np.array([1.0]), ended=False)
    DatasetWriter(tmp_path, Origin(task, protocol)).add([one])
    found = read_dataset(tmp_path / "data")
    assert np.array_equal(found.episodes[0].shown, shown)
    assert found.origin is not None
    assert found.origin.protocol == protocol


def test_a_disk_without_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari")
    from mtspark.core.datasets import write

    writer = DatasetWriter(tmp_path, Origin(replace(cartpole(), name="c"), None))
    monkeypatch.setattr(write, "free_disk", lambda _: 1000)
    with pytest.raises(BadFileError, match=r"episodes take 1.0 MB, 1.0 kB are free"):
        writer.add([episode()])

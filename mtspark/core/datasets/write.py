"""Writes episodes with minari, the format that offline reinforcement learning shares."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.datasets.recorded import KEY, Origin, RecordedEpisode, dataset_name
from mtspark.core.environments import EMULATOR_ACTIONS, Task, box_of
from mtspark.core.errors import BackendMissingError, BadFileError, one_line
from mtspark.core.memory import free_disk, size_text

EXTRA = 'record: needs minari; pip install "mtspark[offline]"'
TOO_OLD = "record: minari has no release for Python 3.10 that it needs; use Python 3.11 or later"
BESIDE = 2**20
"""Bytes of a file beside its arrays, and of its metadata."""


def check_minari() -> None:
    """Check that minari is installed, before anything is played.

    Raises:
        BackendMissingError: it is not.
    """
    _library()


def _library() -> tuple[Any, Any, Any]:
    """Minari, its storage and its episodes."""
    try:
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise BackendMissingError(EXTRA if sys.version_info >= (3, 11) else TOO_OLD) from error
    return minari, MinariStorage, EpisodeBuffer


class DatasetWriter:
    """Writes one task's episodes into a new folder, as they come.

    The folder is as minari looks for it below ``MINARI_DATASETS_PATH``: its name is the dataset's,
    and ``data`` in it holds ``metadata.json`` and ``main_data.hdf5``. Arrays are stored as they
    are, never as JPEG.

    Args:
        folder: new and empty; its final name is :func:`dataset_name` of the task.
        origin: of the episodes.

    Raises:
        BackendMissingError: minari is not installed.
    """

    def __init__(self, folder: Path, origin: Origin) -> None:
        minari, storage, self._episode = _library()
        self._folder = folder
        seen, taken = spaces_of(origin)
        self._kind = seen.dtype
        # minari joins a relative path to itself where it looks at its size.
        self._storage = storage.new(
            (folder / "data").absolute(),
            observation_space=seen,
            action_space=taken,
            data_format="hdf5",
            jpeg_encoding=False,
        )
        task, agent = origin.task, origin.played.get("agent", "an agent")
        self._storage.update_metadata(
            {
                "dataset_id": dataset_name(task.name),
                "minari_version": minari.__version__,
                "algorithm_name": f"mtspark: {agent}",
                "description": f"{task.name}, played by {agent} and recorded by mtspark",
                KEY: origin.to_json(),
            }
        )

    def add(self, episodes: Sequence[RecordedEpisode]) -> None:
        """Write episodes behind the others.

        Raises:
            BadFileError: there is no room for them.
        """
        # The HDF5 library may end the process where the disk is full.
        needed, free = sum(one.size for one in episodes) + BESIDE, free_disk(self._folder)
        if needed > free:
            raise BadFileError(
                f"{self._folder.parent}: the next {len(episodes)} episodes take "
                f"{size_text(needed)}, {size_text(free)} are free there; record fewer or "
                "elsewhere"
            )
        try:
            self._storage.update_episodes([self._buffer(one) for one in episodes])
        except OSError as error:
            raise BadFileError(
                f"{self._folder.parent}: cannot be written: {one_line(error)}"
            ) from error

    def _buffer(self, episode: RecordedEpisode) -> Any:
        ends = np.arange(len(episode)) == len(episode) - 1
        masks = {} if episode.masks is None else {"action_mask": episode.masks}
        return self._episode(
            seed=episode.seed,
            observations=episode.shown.astype(self._kind),
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=ends & episode.ended,
            truncations=ends & (not episode.ended),
            infos=masks or None,
        )


def spaces_of(origin: Origin) -> tuple[Any, Any]:
    """Spaces of gymnasium of what a dataset's observations and actions are."""
    from gymnasium import spaces

    return _seen_space(origin, spaces), _taken_space(origin.task, spaces)


def _seen_space(origin: Origin, spaces: Any) -> Any:
    environment = origin.task.environment
    if environment is None:
        assert origin.protocol is not None
        return spaces.Box(0, 255, origin.protocol.observation_shape, np.uint8)
    shape = (environment.found.size,)
    if environment.found.alone.graded:
        return spaces.Box(-np.inf, np.inf, shape, np.float64)
    return spaces.Box(0, 1, shape, np.uint8)


def _taken_space(task: Task, spaces: Any) -> Any:
    box = box_of(task)
    if box is not None:
        return spaces.Box(
            *(np.array(end, np.float32) for end in (box.low, box.high)), dtype=np.float32
        )
    known = task.environment
    return spaces.Discrete(EMULATOR_ACTIONS if known is None else known.actions)

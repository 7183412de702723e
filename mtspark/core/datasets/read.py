"""Reads datasets of minari: ours, and those of other programs whose observations are plain arrays.

They may be a stranger's, so they are read as every HDF5 file is, by the guarded reader and with its
limits; minari is not needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.arrays import AnyArray
from mtspark.core.datasets.recorded import (
    KEY,
    Origin,
    RecordedData,
    RecordedEpisode,
    dataset_name,
)
from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files import AnyPath, read_hdf5, read_text_guarded

METADATA, MAIN = "metadata.json", "main_data.hdf5"


def dataset_folder(folder: AnyPath, task: str) -> Path:
    """Return the folder with the files of a task's dataset.

    Args:
        folder: of `mtspark record`, which holds a dataset for each task; or of one dataset.
        task: its name.

    Raises:
        BadFileError: there is none.
    """
    folder = Path(folder)
    places = (folder / dataset_name(task) / "data", folder / "data", folder)
    for place in places:
        if (place / METADATA).is_file():
            return place
    raise BadFileError(
        f"{folder}: holds no dataset of {task}; record one: mtspark record AGENT -o {folder}"
    )


def read_origin(data: Path) -> Origin | None:
    """Read where a dataset comes from; None where another program wrote it.

    Args:
        data: folder of its files.

    Raises:
        BadFileError: missing or damaged metadata, or a dataset in another format than HDF5.
    """
    path = data / METADATA
    found = read_text_guarded(path, json.loads, "is no metadata of minari: {}")
    if not isinstance(found, dict):
        raise BadFileError(f"{path}: is no metadata of minari: no object")
    if found.get("data_format", "hdf5") != "hdf5":
        shown = one_line(repr(found["data_format"]), 40)
        raise BadFileError(f"{path}: data_format is {shown}; mtspark reads hdf5")
    return Origin.from_json(found[KEY], str(path)) if KEY in found else None


def read_dataset(data: Path) -> RecordedData:
    """Read a dataset whole.

    Args:
        data: folder of its files, see :func:`dataset_folder`.

    Raises:
        BadFileError: a file is missing or damaged, over a limit, or an episode does not fit
            itself or the others.
    """
    origin, path = read_origin(data), data / MAIN
    if not path.is_file():
        raise BadFileError(f"{path}: no such file; a dataset is {METADATA} and {MAIN}")
    groups = read_hdf5(path)
    names = [f"episode_{number}" for number in range(len(groups))]
    if not groups or set(groups) != set(names):
        raise BadFileError(f"{path}: holds no episodes numbered from 0")
    episodes = tuple(_episode(groups[name], f"{path}: {name}") for name in names)
    for name, one in zip(names, episodes, strict=True):
        first = episodes[0]
        if _kinds(one) != _kinds(first):
            raise BadFileError(
                f"{path}: {name}: shows {one.shown.shape[1:]} values and takes "
                f"{one.actions.shape[1:]} numbers, episode_0 {first.shown.shape[1:]} and "
                f"{first.actions.shape[1:]}"
            )
    return RecordedData(episodes, origin)


def _kinds(episode: RecordedEpisode) -> tuple[Any, ...]:
    masks = None if episode.masks is None else episode.masks.shape[1:]
    shown, actions = episode.shown, episode.actions
    return shown.dtype, shown.shape[1:], actions.dtype, actions.shape[1:], masks


def _episode(group: Any, where: str) -> RecordedEpisode:
    if not isinstance(group, dict):
        raise BadFileError(f"{where}: is no group")
    shown, actions = (_array(group, name, where) for name in ("observations", "actions"))
    rewards = _array(group, "rewards", where).astype(np.float64)
    ends = _array(group, "terminations", where) != 0
    count = len(rewards) if rewards.ndim == 1 else 0
    if not count or len(shown) != count + 1 or len(actions) != count or ends.shape != (count,):
        raise BadFileError(
            f"{where}: {len(shown)} observations, {len(actions)} actions and {rewards.size} "
            "rewards; one observation more than actions and rewards is needed"
        )
    if ends[:-1].any():
        raise BadFileError(f"{where}: goes on after its end")
    listed = actions.dtype.kind in "iu" and actions.ndim == 1
    if not listed and not (actions.dtype.kind == "f" and actions.ndim == 2):
        raise BadFileError(
            f"{where}: actions are {actions.dtype} of {actions.ndim} axes; whole numbers, or rows "
            "of numbers are needed"
        )
    masks = None
    infos = group.get("infos")
    if isinstance(infos, dict) and "action_mask" in infos:
        masks = _array(infos, "action_mask", where) != 0
        if masks.ndim != 2 or len(masks) != count + 1 or not masks.any(1).all():
            raise BadFileError(f"{where}: its action_mask is not one mask an observation")
    chosen = actions.astype(np.int64) if listed else actions.astype(np.float32)
    return RecordedEpisode(shown, chosen, rewards, bool(ends[-1]), masks)


def _array(group: dict[str, Any], name: str, where: str) -> AnyArray:
    """An array of finite numbers, with an axis of decisions."""
    found = group.get(name)
    if isinstance(found, dict):
        raise BadFileError(
            f"{where}: its {name} are several arrays (of a Dict or Tuple); record them with "
            "mtspark record, which puts them side by side"
        )
    if not isinstance(found, np.ndarray) or not found.ndim or found.dtype.kind not in "biuf":
        raise BadFileError(f"{where}: has no array of {name}")
    if not np.isfinite(found).all():
        raise BadFileError(f"{where}: its {name} are not finite")
    return found

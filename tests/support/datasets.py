"""Datasets as minari lays them out, written without it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from mtspark.core.datasets import Origin, RecordedEpisode, dataset_name


def write_dataset(folder: Path, origin: Origin, episodes: Sequence[RecordedEpisode]) -> Path:
    """Write a task's dataset below a folder; return where its files are."""
    data = folder / dataset_name(origin.task.name) / "data"
    data.mkdir(parents=True)
    metadata = {"data_format": "hdf5", "mtspark": origin.to_json()}
    (data / "metadata.json").write_text(json.dumps(metadata))
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for number, one in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            ends = np.arange(len(one)) == len(one) - 1
            group["observations"], group["actions"] = one.shown, one.actions
            group["rewards"] = one.rewards
            group["terminations"] = ends & one.ended
            group["truncations"] = ends & (not one.ended)
            if one.masks is not None:
                group["infos/action_mask"] = one.masks
    return data

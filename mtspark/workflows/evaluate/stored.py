"""What an evaluation leaves in a bundle: its figures, and some inputs, for a page to show.

One file a task, ``runs/TASK.data.npz``, outside the manifest as all runs; the latest evaluation
replaces it.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from mtspark.core.errors import BadFileError, MtsparkError, one_line
from mtspark.core.files import (
    Entry,
    FileLimits,
    Number,
    Positive,
    Text,
    UnwritableError,
    VersionOne,
    read_guarded,
    read_npz,
)
from mtspark.deploy.bundle import Bundle, replace_run, run_files
from mtspark.sim.results import BillFile, CostFile, EventsFile, LayerFile
from mtspark.workflows.evaluate.data import DataEvaluation
from mtspark.workflows.evaluate.kept import KeptInputs

log = logging.getLogger(__name__)

FORMAT, VERSION = "mtspark-data-evaluation", 1
ARRAYS = ("frames", "labels", "result")


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation on data that a bundle holds.

    Attributes:
        values: JSON values of its file.
        kept: inputs for a page.
    """

    values: Mapping[str, Any]
    kept: KeptInputs = field(repr=False)


def evaluation_json(result: DataEvaluation, origin: str, card: str) -> dict[str, Any]:
    """Return everything that commands show of an evaluation, as JSON values.

    Args:
        result: the evaluation.
        origin: of its data.
        card: of its bill, a name or a file.

    Raises:
        BadFileError: no such card.
    """
    bill, cost = result.cost(card)
    return {
        **result.to_json(),
        "origin": origin,
        "task": result.task,
        "steps_per_decision": result.network.steps_per_decision,
        "energy": [bill.to_json()],
        "cost": cost.to_json(),
    }


def keep_evaluation(bundle: Bundle, result: DataEvaluation, values: Mapping[str, Any]) -> None:
    """Store an evaluation in its bundle; a warning where it cannot be written.

    Args:
        bundle: that was evaluated.
        result: the evaluation.
        values: of :func:`evaluation_json`.
    """
    if result.kept is None:
        return
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    content = {"format": FORMAT, "version": VERSION, "date": date, **values}
    text = np.frombuffer(json.dumps(content, allow_nan=False).encode(), np.uint8)
    buffer = io.BytesIO()
    arrays = (result.kept.frames, result.kept.labels, text)
    named: dict[str, Any] = dict(zip(ARRAYS, arrays, strict=True))
    np.savez_compressed(buffer, **named)
    try:
        replace_run(bundle, _path(bundle, result.task).name, buffer.getvalue())
    except UnwritableError as error:
        log.warning(
            "the bundle keeps no record of this evaluation: %s (%s)",
            _path(bundle, result.task),
            error.reason,
        )
    except (MtsparkError, OSError) as error:
        log.warning("the bundle keeps no record of this evaluation: %s", one_line(error))


def stored_evaluation(bundle: Bundle, task: str) -> StoredEvaluation | None:
    """Read the latest evaluation of a task; None where there is none of this network.

    Raises:
        BadFileError: its file is damaged.
    """
    path = _path(bundle, task)
    if not path.is_file():
        # Where the bundle is replaced in this moment, its runs are on their way.
        run_files(bundle)
    if not path.is_file() or path.is_symlink():
        return None

    def read(limits: FileLimits) -> dict[str, Any]:
        return read_npz(path, ARRAYS, limits)

    arrays = read_guarded(f"{path}", read)
    try:
        content = json.loads(bytes(np.asarray(arrays["result"], np.uint8)))
        _adapter.validate_python(content)
    except (ValueError, ValidationError, RecursionError) as error:
        raise BadFileError(
            f"{path}: is no evaluation of mtspark ({one_line(error, 80)}); delete it"
        ) from error
    frames, labels = arrays["frames"], arrays["labels"]
    if content["network_sha256"] != bundle.network_hash:
        return None
    given = bundle.network.input
    shape = frames.shape[1 if given.held else 2 :]
    right = frames.dtype == given.dtype and shape == given.shape and len(frames) == len(labels)
    if not right or labels.dtype.kind not in "iu" or not len(frames):
        raise BadFileError(f"{path}: holds inputs of another network; delete it")
    return StoredEvaluation(content, KeptInputs(frames, labels))


def _path(bundle: Bundle, task: str) -> Path:
    return bundle.runs / f"{task}.data.npz"


class _File(Entry):
    format: Literal["mtspark-data-evaluation"]
    version: VersionOne
    date: Text
    network_sha256: Text
    backend: Text
    origin: Text
    task: Text
    samples: Positive
    accuracy: Number
    interval_95: list[Number] = Field(min_length=2, max_length=2)
    float_accuracy: Number | None
    agreement: Number | None
    rounding: Number = 0.0
    steps_per_decision: Positive
    input_events: EventsFile
    layers: list[LayerFile] = Field(min_length=1)
    energy: list[BillFile] = Field(min_length=1)
    cost: CostFile


_adapter: TypeAdapter[_File] = TypeAdapter(_File)

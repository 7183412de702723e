"""An export with labelled inputs: they say how inputs are sent, and fit before it is written.

What the inputs say of the network's input (shape, kind, scale) takes all of them, so datasets and
loaders are gathered in memory first; and a label or a value that does not fit is refused while the
bundle that an export would replace is still there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadRequestError
from mtspark.core.files import AnyPath
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.workflows.evaluate import (
    LabelledData,
    check_classes,
    checked_labels,
    load_labelled,
    named_after,
)
from mtspark.workflows.export import Export, ExportRequest, ExportResult, Source, export_to
from mtspark.workflows.run import batches, messages_of


def labelled_inputs(
    request: ExportRequest,
    data: str,
    labels: AnyPath | None,
    *,
    progress: ProgressCallback = no_progress,
) -> LabelledData:
    """Load inputs with labels for an export, all in memory.

    Args:
        request: of the export.
        data, labels: as for :func:`mtspark.workflows.evaluate.load_labelled`.
        progress: called before every batch of a dataset.

    Raises:
        BadRequestError: an agent, images without the shape that they are to have, or inputs and
            labels that are no numbers or do not fit each other.
        BadFileError: a file is missing, damaged, or over a limit.
    """
    if request.kind is Source.AGENT:
        raise BadRequestError(
            "--data: is of networks that are no agents; export, then score the bundle with "
            "mtspark eval"
        )
    if Path(data).is_dir() and request.input_shape is None:
        raise BadRequestError(
            f"--data {data}: images are read in the shape of the network's input; give it, "
            "--input-shape 1,28,28"
        )
    with named_after(data, labels):
        loaded = load_labelled(data, labels, request.input_shape or ())
        inputs: list[NDArray[np.generic]] = []
        known: list[NDArray[np.int64]] = []
        for values, classes in batches(loaded.x, loaded.y):
            if not len(values):
                continue
            done = sum(map(len, known))
            progress(Progress(f"reading {loaded.origin}", done, None, "samples"))
            if inputs and values.shape[1:] != inputs[0].shape[1:]:
                raise BadRequestError(
                    f"x: has inputs of shape {values.shape[1:]} after some of "
                    f"{inputs[0].shape[1:]}; give all in one shape"
                )
            inputs.append(values)
            known.append(checked_labels(classes, len(values), None))
        if not inputs:
            raise BadRequestError("x: has no sample in it")
    return replace(loaded, x=np.concatenate(inputs), y=np.concatenate(known))


def export_scored(
    request: ExportRequest,
    inputs: LabelledData,
    folder: AnyPath,
    *,
    overwrite: bool = False,
    progress: ProgressCallback = no_progress,
) -> ExportResult:
    """Export a network that takes inputs with labels; they are the sample where none is given.

    A netx network says itself how its inputs are sent.

    Args:
        request: of the export.
        inputs: of :func:`labelled_inputs`.
        folder, overwrite, progress: as for :func:`mtspark.workflows.export.export_to`.

    Raises:
        BadRequestError, BadFileError, BadNetworkError: as of an export; or an input or a label does
            not fit the network. Nothing is written then.
    """
    if request.recording is None and request.kind is not Source.NETX:
        request = replace(request, sample=inputs.x, labels=inputs.y, origin=inputs.origin)

    def check(export: Export) -> None:
        network = export.network
        assert network is not None
        outputs = network.population(network.readout.population).size
        check_classes(inputs, outputs)
        checked_labels(inputs.y, len(inputs.x), outputs)
        for values, _ in batches(inputs.x):
            messages_of(values, network)

    return export_to(request, folder, overwrite=overwrite, check=check, progress=progress)

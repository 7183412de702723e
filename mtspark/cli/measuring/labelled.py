"""What commands do with inputs of the user's own that have labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli._progress import progress_bar
from mtspark.core.errors import BadRequestError

if TYPE_CHECKING:
    from mtspark.workflows.evaluate import LabelledData

DATA = (
    "Inputs with labels: .npy (and --labels), .npz of x and y, a folder of one folder of images "
    "for each class, FILE.py:NAME of a dataset"
)
LABELS = "Class of each input of --data FILE.npy, .npy."


def score_labelled(
    folder: Path,
    data: str,
    labels: Path | None,
    *,
    loaded: LabelledData | None = None,
    tasks: tuple[str, ...] = (),
    card: str,
    details: bool | None = None,
) -> dict[str, Any]:
    """Score a bundle on inputs with labels, print that, and keep it in the bundle.

    Args:
        folder: of the bundle.
        data, labels: where the inputs and their classes are.
        loaded: what is there, where that has been read.
        tasks: whose thresholds; empty: the first one's.
        card: prices.
        details: print counts and bill, too; None: the command has no such option.

    Returns:
        JSON values of the evaluation.

    Raises:
        BadRequestError: several tasks, or inputs that do not fit.
    """
    from mtspark.cli.show import print_data_evaluation
    from mtspark.deploy.bundle import load_bundle
    from mtspark.sim.energy import load_card
    from mtspark.workflows.evaluate import (
        classes_of,
        evaluate_data,
        evaluation_json,
        float_network_of,
        keep_evaluation,
        load_labelled,
        named_after,
    )
    from mtspark.workflows.report import data_sentences

    if len(tasks) > 1:
        raise BadRequestError(f"--task: {len(tasks)} are given; data belong to one task")
    # An unknown one is refused before anything runs.
    load_card(card)
    bundle = load_bundle(folder)
    with progress_bar() as progress, named_after(data, labels):
        if loaded is None:
            loaded = load_labelled(data, labels, bundle.network.input.shape, classes_of(bundle))
        result = evaluate_data(
            bundle,
            float_network_of(bundle),
            loaded.x,
            loaded.y,
            task=tasks[0] if tasks else None,
            progress=progress,
        )
    values = evaluation_json(result, loaded.origin, card)
    # Before anything is written: what was measured is seen also where the disk is full.
    print_data_evaluation(values, data_sentences(values), result.network, details=details)
    keep_evaluation(bundle, result, values)
    return values

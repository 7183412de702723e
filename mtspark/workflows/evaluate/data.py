"""Accuracy on plain data: float network and chip side by side, and what a sample costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.float_network import FloatNetwork, float_answers, run_float
from mtspark.core.progress import ProgressCallback, no_progress
from mtspark.deploy.bundle import Bundle
from mtspark.sim.counts import Counter, RunCounts, ShareCounter
from mtspark.sim.recording import own_values
from mtspark.sim.verdict import PricedSamples
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate.kept import Keeper, KeptInputs
from mtspark.workflows.evaluate.rows import wilson_interval
from mtspark.workflows.run import (
    BATCH,
    Answer,
    answers,
    check_label_count,
    loader_of,
    sample_count,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataEvaluation(PricedSamples):
    """Classes that a network names, compared with labels.

    Attributes:
        network: that ran on the chip.
        network_sha256: of the bundle's network.
        backend: who ran it.
        samples: how many.
        right: samples that the chip names rightly.
        float_right: samples that the float network names rightly; None without one.
        same: samples to which both give the same name; None without a float network.
        counts: totals of the chip over all samples; a decision is one sample.
        rounding: how far inputs lie at most from what their messages stand for.
        sent: messages by source, of its shape, over all samples; empty for a float network.
        task: whose thresholds were used.
        shares: how often what is not zero, and changes; None for a float network.
        kept: some of the inputs, for a page.
    """

    network: ChipNetwork
    network_sha256: str
    backend: str
    samples: int
    right: int
    float_right: int | None
    same: int | None
    counts: RunCounts
    sent: Mapping[str, Integers] = field(default_factory=dict, repr=False)
    rounding: float = 0.0
    task: str = ""
    shares: ShareCounter | None = field(default=None, repr=False)
    kept: KeptInputs | None = field(default=None, repr=False)

    @property
    def accuracy(self) -> float:
        """Share of the samples that the chip names rightly."""
        return self.right / self.samples

    @property
    def float_accuracy(self) -> float | None:
        """Share of the samples that the float network names rightly."""
        return None if self.float_right is None else self.float_right / self.samples

    @property
    def agreement(self) -> float | None:
        """Share of the samples to which float network and chip give the same name."""
        return None if self.same is None else self.same / self.samples

    @property
    def interval_95(self) -> tuple[float, float]:
        """95 % interval of the chip's accuracy."""
        return wilson_interval(self.right, self.samples)

    def to_json(self) -> dict[str, Any]:
        """Return accuracies and counts as JSON values."""
        return {
            "network_sha256": self.network_sha256,
            "backend": self.backend,
            "samples": self.samples,
            "accuracy": self.accuracy,
            "interval_95": list(self.interval_95),
            "float_accuracy": self.float_accuracy,
            "agreement": self.agreement,
            **({"rounding": self.rounding} if self.rounding else {}),
            "input_events": self.counts.input_events.to_json(),
            "layers": [layer.to_json() for layer in self.counts.layers],
        }


def float_network_of(bundle: Bundle) -> FloatNetwork | None:
    """Return the network that a bundle was made of; None, and a warning, where it is not there."""
    from mtspark.workflows.whole import float_side

    try:
        return float_side(bundle)[0]
    except BadFileError as error:
        log.warning("the chip is evaluated alone: %s", error)
        return None


def evaluate_data(
    bundle: Bundle,
    float_network: FloatNetwork | None,
    x: Any,
    y: Any = None,
    *,
    task: str | None = None,
    backend: BackendName = BackendName.ENGINE,
    batch_size: int = BATCH,
    time_first: bool = False,
    progress: ProgressCallback = no_progress,
) -> DataEvaluation:
    """Compare the class of the largest value with labels, on the float network and on the chip.

    Args:
        bundle: of the network.
        float_network: that it was made of, all tasks in one; None: the chip alone.
        x, task, backend, batch_size, time_first, progress: as for
            :func:`mtspark.workflows.run.inputs.answers`.
        y: one whole number for each sample; None where `x` is a loader that brings them.

    Raises:
        BadRequestError: inputs or labels that do not fit the network.
        TypeError: no numbers.
    """
    row = bundle.network.task_index(task or bundle.network.tasks[0].name)
    samples = right = float_right = same = 0
    x = loader_of(x)
    counter: Counter | None = None
    shares: ShareCounter | None = None
    kept = Keeper(sample_count(x))
    rounding = 0.0
    for answer in answers(
        bundle,
        x,
        y,
        task=task,
        backend=backend,
        batch_size=batch_size,
        time_first=time_first,
        progress=progress,
    ):
        values = answer.decision.values.reshape(len(answer.frames), -1)
        labels = checked_labels(answer.labels, len(values), values.shape[1])
        counter = counter or Counter(answer.network)
        counter.add(answer.decision.activity)
        if backend is not BackendName.TORCH:
            shares = shares or ShareCounter(answer.network)
            window = answer.decision.activity.window
            shares.add(window, answer.frames, None)
        kept.add(answer.frames, labels)
        on_chip = values.argmax(1)
        samples += len(labels)
        rounding = max(rounding, answer.rounding)
        right += int((on_chip == labels).sum())
        if float_network is not None:
            in_float = _float_classes(float_network, answer, row)
            float_right += int((in_float == labels).sum())
            same += int((in_float == on_chip).sum())
    assert counter is not None
    return DataEvaluation(
        network=counter.network,
        network_sha256=bundle.network_hash,
        backend=backend.value,
        samples=samples,
        right=right,
        float_right=None if float_network is None else float_right,
        same=None if float_network is None else same,
        counts=counter.result(pipeline=backend is not BackendName.TORCH),
        sent={} if backend is BackendName.TORCH else counter.sent,
        rounding=rounding,
        task=bundle.network.tasks[row].name,
        shares=shares,
        kept=kept.result(),
    )


def checked_labels(
    labels: NDArray[Any] | None, samples: int, classes: int | None
) -> NDArray[np.int64]:
    """Return labels as indices of classes.

    Args:
        labels: one for each sample.
        samples: how many there are.
        classes: outputs of the network; None where it is not known yet.

    Raises:
        BadRequestError: none are given, or not one whole number below `classes` for each sample.
    """
    if labels is None:
        raise BadRequestError(
            "y: has no labels; give one for each input, or a loader of pairs of inputs and labels"
        )
    check_label_count(labels, (samples,))
    if labels.dtype.kind not in "iu" and not (labels == np.round(labels)).all():
        raise BadRequestError("y: has labels that are no whole numbers; give indices of classes")
    whole = labels.astype(np.int64)
    odd = int(whole.min() if classes is None or whole.min() < 0 else whole.max())
    if odd < 0 or (classes is not None and odd >= classes):
        outputs = "" if classes is None else f"; the network has {classes} outputs, from 0"
        raise BadRequestError(
            f"y: has the label {odd}{outputs or '; indices of classes begin with 0'}"
        )
    return whole


def float_values(
    network: FloatNetwork,
    chip: ChipNetwork,
    values: NDArray[Any],
    frames: NDArray[Any],
    row: int,
    *,
    rounded: bool,
) -> NDArray[np.float64]:
    """Return the outputs of the float network for samples, (samples, outputs).

    On what the messages stand for, which a float network of many ties needs to the last bit; where
    inputs are rounded, on the inputs. Where state survives decisions, samples are episodes, and
    every decision has its outputs: (samples T, outputs), one episode after the other.

    Args:
        network: float.
        chip: made of it, with the number of steps of the samples.
        values: samples in the network's own values, of the shape of `frames`.
        frames: the same as messages, (samples, *shape) or (samples, T, *shape).
        row: of the task.
        rounded: values lie beside what their messages stand for.
    """
    inputs = (
        own_values(values, chip) if rounded else frames.astype(np.float64) * network.input.scale
    )
    if chip.input.held and not chip.stateful:
        inputs = np.broadcast_to(inputs, (chip.time_steps, *inputs.shape))
    else:
        inputs = inputs.swapaxes(0, 1)
    run = run_float(network, inputs.reshape(*inputs.shape[:2], *network.input.shape), row)
    if chip.stateful:
        answers = float_answers(network, run).swapaxes(0, 1)
        return answers.reshape(-1, answers.shape[-1])
    return run.values.reshape(len(frames), -1)


def _float_classes(network: FloatNetwork, answer: Answer, row: int) -> NDArray[np.int64]:
    """The largest output of the float network for each sample."""
    rounded = bool(answer.rounding)
    values = float_values(
        network, answer.network, answer.values, answer.frames, row, rounded=rounded
    )
    return values.argmax(1)

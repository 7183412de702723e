"""The two sentences about recorded inputs: what the chip answered, and what a sample costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtspark.core.digits import percent, several
from mtspark.core.environments import box_of
from mtspark.core.errors import BadFileError
from mtspark.core.files import AnyPath
from mtspark.core.float_network import FloatNetwork
from mtspark.deploy.bundle import Bundle
from mtspark.sim.energy import DEFAULT_CARD
from mtspark.sim.recording import as_messages, rounding
from mtspark.workflows.backends import BackendName
from mtspark.workflows.evaluate import float_values
from mtspark.workflows.report.sentences import ON_NO_CHIP
from mtspark.workflows.run import BATCH, RecordedRun
from mtspark.workflows.whole import float_side


def recorded_sentences(
    bundle: Bundle, recorded: RecordedRun, card: AnyPath = DEFAULT_CARD
) -> tuple[str, str]:
    """Sum up a run on recorded inputs.

    Args:
        bundle: of the network.
        recorded: what ran.
        card: prices, a name or a file.

    Raises:
        BadFileError: no such card.
    """
    result = recorded.result
    many = f"{several(result.samples, 'sample')} of {recorded.recording}"
    unit = "sample"
    if result.network.stateful:
        each = several(len(result.decision_values[0]), "decision")
        many = f"{several(result.samples, 'episode')} of {each} of {recorded.recording}"
        many += ", each from rest and its state carried from decision to decision"
        unit = "decision"
    if result.backend == BackendName.TORCH.value:
        return f"The float network ran {many}.", ON_NO_CHIP
    network = _float_network(bundle)
    if network is None:
        beside = "with no float network in the bundle to compare with"
    else:
        beside = _beside(bundle, recorded, network)
    return f"The chip ran {many}, {beside}.", result.cost(card)[1].sentence(unit)


def _float_network(bundle: Bundle) -> FloatNetwork | None:
    try:
        return float_side(bundle)[0]
    except BadFileError:
        return None


def _beside(bundle: Bundle, recorded: RecordedRun, network: FloatNetwork) -> str:
    """Say how far the chip's answers are those of the float network."""
    result, row = recorded.result, bundle.network.task_index(recorded.result.task)
    on_chip = result.values.reshape(result.samples, -1)
    if result.network.stateful:
        on_chip = np.concatenate([one.reshape(len(one), -1) for one in result.decision_values])
    parts: list[NDArray[np.float64]] = []
    for start in range(0, result.samples, BATCH):
        values = recorded.inputs[start : start + BATCH]
        frames = as_messages(values, result.network, Path(recorded.recording))
        off = bool(rounding(values, result.network))
        parts.append(float_values(network, result.network, values, frames, row, rounded=off))
    beside = np.concatenate(parts)
    if on_chip.shape[1] == 1 or box_of(bundle.network.tasks[row]) is not None:
        furthest = float(np.abs(on_chip - beside).max())
        return f"and its values are at most {furthest:.3g} from those of the float network"
    whom = "the decisions" if result.network.stateful else "them"
    share = float((on_chip.argmax(1) == beside.argmax(1)).mean())
    return f"and gives the same answer as the float network to {percent(share)} of {whom}"

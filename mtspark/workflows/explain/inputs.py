"""The float network of a bundle, which its chip network is compared with; and what inputs cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import BadFileError
from mtspark.core.float_network import FloatNetwork
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.quantise import QuantiseOptions, options_of
from mtspark.sim.verdict import Costing

BATCH = 100


def float_side(bundle: Bundle) -> tuple[FloatNetwork, QuantiseOptions]:
    """Return the float network of a bundle, all tasks in one, and how it was quantised.

    Raises:
        BadFileError: the bundle has no graph of one of its tasks, or its options are damaged.
    """
    from mtspark.convert.nir import import_nir_tasks

    names = {task.name: f"graph.{task.name}.nir" for task in bundle.network.tasks}
    missing = [name for name in names.values() if name not in bundle.files]
    if missing:
        raise BadFileError(
            f"{bundle.folder}: has no {missing[0]}, the float network that is compared with"
        )
    paths = {task: bundle.folder / name for task, name in names.items()}
    contents = {task: bundle.content(name) for task, name in names.items()}
    network = import_nir_tasks(paths, name=bundle.network.name, contents=contents)
    return network, options_of(bundle)


def price_samples(
    costing: Costing, network: ChipNetwork, frames: NDArray[np.uint8], task: str
) -> None:
    """Let the engine answer inputs that have nothing to do with each other, and count it.

    Args:
        costing: counts.
        network: that answers.
        frames: (count, *input shape), or (count, T, *input shape).
        task: by name.
    """
    from mtspark.sim.engine import EngineChip

    chip, row = EngineChip(network), network.task_index(task)
    for start in range(0, len(frames), BATCH):
        part = frames[start : start + BATCH]
        # Each is sent whole.
        chip.start(len(part))
        costing.add(chip.decide(part, row), part, None)

"""What ``mtspark explain`` compares: the float network of a bundle, and recorded decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.core.float_network.network import FloatNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.deploy.quantise.options import QuantiseOptions


def float_side(bundle: Bundle) -> tuple[FloatNetwork, QuantiseOptions]:
    """The float network of a bundle, all tasks in one, and how it was quantised.

    Raises:
        BadFileError: the bundle has no graph of one of its tasks.
    """
    from mtspark.convert.nir.reader import import_nir_tasks
    from mtspark.core.errors import BadFileError
    from mtspark.deploy.quantise.options import options_of

    names = {task.name: f"graph.{task.name}.nir" for task in bundle.network.tasks}
    missing = [name for name in names.values() if name not in bundle.files]
    if missing:
        raise BadFileError(
            f"{bundle.folder}: has no {missing[0]}, the float network that is compared with"
        )
    paths = {task: bundle.folder / name for task, name in names.items()}
    return import_nir_tasks(paths, name=bundle.network.name), options_of(bundle)


def recorded_frames(
    bundle: Bundle, task: str, decisions: int, inputs: Path | None, seed: int
) -> NDArray[np.uint8]:
    """Frames of a game that the chip plays, or those of a file.

    Raises:
        BadRequestError: no game and no file.
        BadFileError: the file is no array of the network's inputs.
    """
    import numpy as np

    from mtspark.core.errors import BadFileError, BadRequestError
    from mtspark.sim.recording.inputs import load_array
    from mtspark.workflows.diff.frames import task_frames

    network = bundle.network
    if inputs is None:
        if not network.tasks[network.task_index(task)].game:
            raise BadRequestError(f"task {task!r} is no game; give recorded inputs with --inputs")
        return task_frames(network, task, decisions, seed)
    frames = load_array(inputs)
    series = () if network.input.held else (network.time_steps,)
    wanted = (*series, *network.input.shape)
    if frames.dtype != np.uint8 or frames.shape[1:] != wanted or not len(frames):
        raise BadFileError(
            f"{inputs}: {frames.dtype} {frames.shape}, uint8 (decisions, "
            f"{', '.join(map(str, wanted))}) is needed"
        )
    return np.asarray(frames[:decisions])

"""The float network of a bundle, which its chip network is compared with."""

from __future__ import annotations

from mtspark.core.errors import BadFileError
from mtspark.core.float_network import FloatNetwork
from mtspark.deploy.bundle import Bundle
from mtspark.deploy.quantise import QuantiseOptions, options_of


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

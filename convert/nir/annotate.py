"""Copy a NIR file and add the options that it was read with."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.convert.nir.file import METADATA
from mtspark.convert.nir.neurons import ImportOptions, choose
from mtspark.core.errors import BadFileError
from mtspark.core.files import AnyPath, hdf5_bytes, read_hdf5
from mtspark.core.float_network import FloatNetwork

COMPRESSED_BYTES = 4096
"""Smaller arrays are not worth the chunks."""


def copy_with_choices(
    source: AnyPath,
    options: ImportOptions,
    network: FloatNetwork,
    *,
    content: bytes | None = None,
) -> bytes:
    """Make a file's content anew with the choices in its metadata, so that it reads the same.

    The untrusted file itself is never opened for writing: no scan covers what damaged structures
    do to the HDF5 library then.

    Args:
        source: a file that was read before.
        options: that the source was read with.
        network: that it gave.
        content: the file's bytes where they have been read; then `source` only names them.

    Returns:
        The content of the new file.

    Raises:
        BadFileError: the source has changed and is no NIR file any more.
    """
    source = Path(source)
    values = read_hdf5(source, content=content)
    node = values.get("node")
    if not isinstance(node, dict):
        raise BadFileError(f"{source}: changed while it was read")
    metadata = _group(node, "metadata")
    own = _group(metadata, METADATA)
    choices, _ = choose(options, own)
    for key, value in vars(choices).items():
        if key == "resets" or value is None:
            continue
        if key == "time_steps":
            value = network.time_steps
        own[key] = value.value if isinstance(value, Enum) else value
    if options.input_shape is not None:
        own["input_shape"] = np.array(options.input_shape)
    return hdf5_bytes(lambda file: _fill(file, values))


def _group(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """The group of a name; a new one takes the place of anything else."""
    group = parent.get(name)
    if not isinstance(group, dict):
        group = parent[name] = {}
    return group


def _fill(group: Any, items: dict[str, Any]) -> None:
    import h5py

    for name, value in items.items():
        if isinstance(value, dict):
            _fill(group.create_group(name), value)
        elif value is None:
            group.create_dataset(name, data=h5py.Empty(np.float64))
        elif isinstance(value, (str, list)):
            texts = np.asarray(value, dtype=object)
            group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
        else:
            large = np.size(value) and np.asarray(value).nbytes > COMPRESSED_BYTES
            group.create_dataset(name, data=value, compression="gzip" if large else None)

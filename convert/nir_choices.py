"""A copy of a NIR file that carries what was chosen when it was read."""

from __future__ import annotations

import os
import shutil
from enum import Enum
from pathlib import Path

from mtspark.convert.nir_file import read_nir
from mtspark.convert.nir_import import METADATA
from mtspark.convert.nir_import_neurons import ImportOptions, choose
from mtspark.core.float_network import FloatNetwork


def copy_with_choices(
    source: Path, target: Path, options: ImportOptions, network: FloatNetwork
) -> None:
    """Copy a file and write the choices into its metadata, so that it reads the same again.

    Args:
        source: a file that was read before, and so was scanned.
        target: a new file.
        options: it was read with.
        network: what it gave.

    Raises:
        BadFileError: the source has changed and is no NIR file any more.
    """
    import h5py

    stored = read_nir(source, type_check=False).metadata.get(METADATA)
    choices, _ = choose(options, stored if isinstance(stored, dict) else {})
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        with h5py.File(temporary, "r+") as file:
            group = file["node"].require_group("metadata").require_group(METADATA)
            for key, value in vars(choices).items():
                if key == "resets" or value is None:
                    continue
                if key == "time_steps":
                    value = network.time_steps
                if key in group:
                    del group[key]
                group[key] = value.value if isinstance(value, Enum) else value
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)

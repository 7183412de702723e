"""A deployed agent as a folder: chip network, graphs, checkpoint, and a manifest of hashes.

network.json + network.safetensors   the chip network
graph.TASK.nir                       the float graph of every task
agent.pt                             the checkpoint that it came from
fidelity.json                        what conversion and quantisation did to it
manifest.json                        sha256 of every file above
runs/                                results of runs, outside the manifest
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError
from safetensors.numpy import load, save

from mtspark.core.chip_network import ChipNetwork, network_from_json, network_to_json
from mtspark.core.errors import BadFileError, BadRequestError, one_line
from mtspark.core.files import (
    AnyPath,
    FileLimits,
    UnwritableError,
    check_file_size,
    over,
    read_guarded,
    write_bytes,
    write_json,
)

FORMAT = "mtspark-bundle"
VERSION = 1
MANIFEST, NETWORK_JSON, NETWORK_ARRAYS = "manifest.json", "network.json", "network.safetensors"
AGENT, FIDELITY, RUNS = "agent.pt", "fidelity.json", "runs"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: where it lies.
        network: its chip network.
        network_hash: of everything in the chip network but its provenance; runs carry it.
        files: the manifest, sha256 by file name.
        quantiser: how the network was quantised, as JSON values; None in old bundles and for
            integers that were read from a file. :mod:`mtspark.deploy.quantise.options` reads it.
    """

    folder: Path
    network: ChipNetwork
    network_hash: str
    files: dict[str, str]
    quantiser: dict[str, Any] | None = None

    @property
    def runs(self) -> Path:
        """Folder of run results."""
        return self.folder / RUNS


def write_bundle(
    folder: AnyPath,
    network: ChipNetwork,
    write_more: Callable[[Path], None] | None = None,
    *,
    replace: bool = False,
    quantiser: dict[str, Any] | None = None,
) -> Bundle:
    """Write a bundle whole or not at all.

    Args:
        folder: must not exist, or with `replace` hold a bundle; its runs, and other files
            that do not belong to the bundle, are kept.
        network: the chip network.
        write_more: writes further files into the folder that it is given.
        replace: overwrite an existing bundle.
        quantiser: how the network was quantised, of ``Quantisation.to_json``; None where it
            came as integers.

    Raises:
        BadRequestError: the folder is taken.
        BadFileError: the folder cannot be written.
    """
    check_bundle_target(folder, replace=replace)
    folder = Path(folder).resolve()
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        fresh.mkdir(parents=True)
        save_network(network, fresh, quantiser)
        if write_more is not None:
            write_more(fresh)
        names = sorted(path.name for path in fresh.iterdir())
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "files": {name: sha256(fresh / name) for name in names},
        }
        write_json(fresh / MANIFEST, manifest)
        if folder.exists():
            _swap(fresh, folder, old)
        else:
            fresh.rename(folder)
    except OSError as error:
        raise BadFileError(f"{folder}: cannot be written: {error.strerror or error}") from error
    except UnwritableError as error:
        # It names a file in the folder that is yet to be renamed.
        raise BadFileError(f"{folder}: cannot be written: {error.reason}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return load_bundle(folder)


def check_bundle_target(folder: AnyPath, *, replace: bool = False) -> None:
    """Refuse a folder that no bundle can be written to, before long work starts.

    Args:
        folder: as for :func:`write_bundle`.
        replace: overwrite an existing bundle.

    Raises:
        BadRequestError: the folder is taken.
        BadFileError: it cannot be made.
    """
    folder = Path(folder)
    try:
        folder = folder.resolve()
        taken = folder.exists()
        above = next(parent for parent in folder.parents if parent.exists())
    except (OSError, RuntimeError, ValueError) as error:
        raise BadFileError(f"{folder}: cannot be written: {one_line(error)}") from error
    if taken and not (folder / MANIFEST).is_file():
        raise BadRequestError(f"{folder}: exists and is no mtspark bundle; choose another folder")
    if taken and not replace:
        raise BadRequestError(
            f"{folder}: exists already; choose another folder, or add --force (in Python, "
            "overwrite=True)"
        )
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise BadFileError(f"{folder}: cannot be written: no folder can be made in {above}")


def _swap(fresh: Path, folder: Path, old: Path) -> None:
    """Put `fresh` in the place of `folder`; what is no file of a bundle moves along.

    Whatever interrupts it, the old bundle or the new one stands at `folder`, and everything
    that was in it is in one of the two.
    """
    listed = set(json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("files", {}))
    for path in folder.iterdir():
        if path.name not in listed | {MANIFEST}:
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, fresh / path.name)
    folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def save_network(
    network: ChipNetwork, folder: AnyPath, quantiser: dict[str, Any] | None = None
) -> None:
    """Write network.json and network.safetensors; `quantiser` as in :func:`write_bundle`."""
    folder = Path(folder)
    data, arrays = network_to_json(network)
    if quantiser is not None:
        data["quantiser"] = quantiser
    write_json(folder / NETWORK_JSON, data)
    write_bytes(folder / NETWORK_ARRAYS, save(arrays))


def load_bundle(
    folder: AnyPath, limits: FileLimits | None = None, trust: bool | None = None
) -> Bundle:
    """Read a bundle and verify every file against its manifest.

    Args:
        folder: the bundle.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.

    Raises:
        BadFileError: missing, incomplete, altered, over a limit, or of another version.
        BadNetworkError: its network breaks a rule.
    """
    folder = Path(folder)

    def read(bounds: FileLimits) -> dict[str, Any]:
        files = _verified_files(folder, bounds)
        return {"files": files, **_read_network(folder, bounds)}

    content = read_guarded(str(folder), read, limits, trust)
    files: dict[str, str] = content["files"]
    network = network_from_json(content["data"], content["arrays"], str(folder), limits)
    data, _ = network_to_json(network)
    # Where a network came from does not change what it does: the same checkpoint with other
    # notes in it gives the same network, and its runs stay valid.
    del data["provenance"]
    text = json.dumps(data, sort_keys=True) + files[NETWORK_ARRAYS]
    network_hash = hashlib.sha256(text.encode()).hexdigest()
    return Bundle(folder, network, network_hash, files, content["data"].get("quantiser"))


def load_network(
    folder: AnyPath, limits: FileLimits | None = None, trust: bool | None = None
) -> ChipNetwork:
    """Read network.json and network.safetensors, without a manifest.

    Args:
        folder: where they lie.
        limits, trust: see :func:`mtspark.core.files.sandbox.read_guarded`.

    Raises:
        BadFileError: missing, malformed, or over a limit.
        BadNetworkError: the network breaks a rule.
    """
    path = Path(folder)
    content = read_guarded(str(path), lambda bounds: _read_network(path, bounds), limits, trust)
    return network_from_json(content["data"], content["arrays"], str(path), limits)


def _verified_files(folder: Path, limits: FileLimits) -> dict[str, str]:
    """The manifest's sums, each compared with its file."""
    manifest = _read_json(
        folder / MANIFEST, "a bundle's manifest; make one with mtspark export", limits
    )
    files = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(files, dict):
        raise BadFileError(f"{folder / MANIFEST}: not an mtspark bundle's manifest")
    if manifest.get("version") != VERSION:
        raise BadFileError(
            f"{folder}: bundle version {manifest.get('version')!r}, this mtspark reads {VERSION}"
        )
    if len(files) > limits.objects:
        raise over("objects", f"{folder / MANIFEST}", len(files), limits)
    for name, expected in files.items():
        path = folder / name
        if (
            Path(name).name != name
            or not name.isprintable()
            or path.is_symlink()
            or not path.is_file()
        ):
            shown = one_line(str(path))
            raise BadFileError(f"{shown}: named in the manifest but not a file of the bundle")
        check_file_size(path, limits)
        if sha256(path) != expected:
            raise BadFileError(f"{path}: differs from its sha256 in the manifest; export again")
    if not {NETWORK_JSON, NETWORK_ARRAYS} <= set(files):
        raise BadFileError(f"{folder}: the manifest lists no chip network")
    return dict(files)


def _read_network(folder: Path, limits: FileLimits) -> dict[str, Any]:
    """JSON and arrays of a chip network that was built once to see that it is one."""
    data = _read_json(folder / NETWORK_JSON, "a chip network", limits)
    path = folder / NETWORK_ARRAYS
    check_file_size(path, limits)
    try:
        content = path.read_bytes()
        header = int.from_bytes(content[:8], "little")
        if header > limits.text_bytes:
            raise over("text_bytes", f"{path}: a header of", header, limits)
        arrays = load(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError(f"{path}: not readable: {one_line(error)}") from error
    if len(arrays) > limits.objects:
        raise over("objects", f"{path}", len(arrays), limits)
    network_from_json(data, arrays, str(folder), limits)
    return {"data": data, "arrays": arrays}


def sha256(path: AnyPath) -> str:
    """Return the hex digest of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def _read_json(path: Path, what: str, limits: FileLimits) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file():
        raise BadFileError(f"{path}: no such file; expected {what}")
    if path.stat().st_size > limits.text_bytes:
        raise over("text_bytes", f"{path}", path.stat().st_size, limits)
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise BadFileError(f"{path}: not readable as JSON: {one_line(error)}") from error
    if not isinstance(data, dict):
        raise BadFileError(f"{path}: not a JSON object")
    return data


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")

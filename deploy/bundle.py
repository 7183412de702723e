"""A deployed agent as a folder: chip network, graphs, checkpoint, and a manifest of hashes.

network.json + network.safetensors   the chip network
graph.TASK.nir                       the float graph of every task
agent.pt                             the checkpoint that it came from
fidelity.json                        what conversion and quantisation did to it
manifest.json                        sha256 of every file above
runs/                                results of runs, outside the manifest
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mtspark.core.chip_network import ChipNetwork, network_from_json, network_to_json
from mtspark.core.errors import BadFileError, BadRequestError, MtsparkError, one_line
from mtspark.core.files import (
    AnyPath,
    FileLimits,
    UnwritableError,
    current_policy,
    folder_lock,
    is_full,
    leftovers,
    over,
    read_guarded,
    read_text_guarded,
    read_whole,
    reason_of,
    recover_folder,
    replacing_folder,
    unchanged,
    writable_folder,
    write_bytes,
    write_json,
    write_unused,
)
from mtspark.core.version import is_version

FORMAT = "mtspark-bundle"
VERSION = 1
MANIFEST, NETWORK_JSON, NETWORK_ARRAYS = "manifest.json", "network.json", "network.safetensors"
AGENT, FIDELITY, RUNS = "agent.pt", "fidelity.json", "runs"

_ATTEMPTS = 5
"""A folder that is exchanged as often while it is read, or a run is stored, is rare enough."""
_ELSEWHERE = "runs are kept in the bundle: copy it to where you may write, and use the copy"
"""What helps where a folder of runs cannot be written."""
_RUNS_WAIT_S, _RUNS_POLL_S = 10.0, 0.005
"""Longest wait for runs that are being moved, which takes milliseconds, and between two looks."""


class _ChangedError(BadFileError):
    """A file is not the one that the manifest lists."""


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
        set_aside: where files lie that were altered by hand, when an export needed their names.
    """

    folder: Path
    network: ChipNetwork
    network_hash: str
    files: dict[str, str]
    quantiser: dict[str, Any] | None = None
    set_aside: tuple[str, ...] = ()

    @property
    def runs(self) -> Path:
        """Folder of run results."""
        return self.folder / RUNS

    def content(self, name: str) -> bytes:
        """Read a file of the bundle: the very bytes that the manifest's sum is of.

        Raises:
            BadFileError: it was changed since the bundle was read, or the bundle has none.
        """
        if name not in self.files:
            raise BadFileError(f"{self.folder}: has no {name}")
        try:
            return _verified(self.folder, name, self.files[name], current_policy().limits)
        except _ChangedError as error:
            raise BadFileError(
                f"{self.folder / name}: changed since the bundle was read; read it again"
            ) from error


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
            that are not the bundle's own, move into the new one.
        network: the chip network.
        write_more: writes further files into the folder that it is given.
        replace: overwrite an existing bundle.
        quantiser: how the network was quantised, of ``Quantisation.to_json``; None where it
            came as integers.

    Raises:
        BadRequestError: the folder is taken, or another process keeps writing it.
        BadFileError: the folder cannot be written.
    """
    check_bundle_target(folder, replace=replace)
    folder = Path(folder).resolve()
    try:
        with replacing_folder(folder, _not_its_own) as fresh:
            save_network(network, fresh.path, quantiser)
            if write_more is not None:
                write_more(fresh.path)
            names = sorted(path.name for path in fresh.path.iterdir())
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "files": {name: sha256(fresh.path / name) for name in names},
            }
            write_json(fresh.path / MANIFEST, manifest)
            # As long as nobody else can replace it, and while the old one still stands.
            bundle = _read_fresh(fresh.path, folder)
            # Another process may have written there since the first look.
            _check_free(folder, replace, names)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _mounted(folder) from error
        reason = reason_of(error, folder)
        raise BadFileError(f"{folder}: cannot be written: {reason}; {unchanged(folder)}") from error
    except UnwritableError as error:
        # It names a file in the folder that is yet to be renamed.
        reason = error.reason
        raise BadFileError(f"{folder}: cannot be written: {reason}; {unchanged(folder)}") from error
    aside = tuple(str(path.relative_to(folder)) for path in fresh.renamed)
    return dataclasses.replace(bundle, folder=folder, set_aside=aside)


def _read_fresh(path: Path, folder: Path) -> Bundle:
    """Read what was just written, in a folder that is yet to be renamed; errors name `folder`."""
    try:
        return _load(path, None, None)
    except MtsparkError as error:
        raise type(error)(str(error).replace(str(path), str(folder))) from error


def check_bundle_target(
    folder: AnyPath, *, replace: bool = False, names: Iterable[str] = ()
) -> None:
    """Refuse a folder that no bundle can be written to, before long work starts.

    Args:
        folder: as for :func:`write_bundle`.
        replace: overwrite an existing bundle.
        names: files that the new bundle will have, as far as they are known.

    Raises:
        BadRequestError: the folder is taken, or a file of the user's own has one of the names.
        BadFileError: it cannot be made.
    """
    folder = Path(folder)
    try:
        folder = folder.resolve()
        _recover(folder)
        taken = folder.exists()
        above = next(parent for parent in folder.parents if parent.exists())
    except (OSError, RuntimeError, ValueError) as error:
        raise BadFileError(f"{folder}: cannot be written: {one_line(error)}") from error
    if taken:
        _check_free(folder, replace, names)
        if os.path.ismount(folder):
            raise _mounted(folder)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise BadFileError(f"{folder}: cannot be written: no folder can be made in {above}")


def _mounted(folder: Path) -> BadRequestError:
    return BadRequestError(
        f"{folder}: is a mount point, which cannot be replaced; export to a folder in it"
    )


def _check_free(folder: Path, replace: bool, names: Iterable[str]) -> None:
    for attempt in range(_ATTEMPTS):
        if not os.path.lexists(folder):
            return
        before = _identity(folder)
        try:
            listed = _listed(folder)
            break
        except BadFileError:
            # Replaced in this moment by two renames: another one stands there now.
            if attempt + 1 == _ATTEMPTS or _identity(folder) == before:
                raise BadRequestError(
                    f"{folder}: exists and is no mtspark bundle; choose another folder"
                ) from None
    if not replace:
        raise BadRequestError(
            f"{folder}: exists already; choose another folder, or add --force (in Python, "
            "overwrite=True)"
        )
    for name in (MANIFEST, *names):
        if name not in {*listed, MANIFEST} and os.path.lexists(folder / name):
            raise BadRequestError(
                f"{folder / name}: is not the bundle's own, and the new bundle has a file of "
                "that name; move yours elsewhere and export again"
            )


def _not_its_own(folder: Path) -> list[str] | None:
    """What lies in a bundle's folder and was not written with it, or changed since then.

    None where the folder holds no bundle.
    """
    try:
        listed = _listed(folder)
    except BadFileError:
        return None
    names = sorted(path.name for path in folder.iterdir())
    return [
        name
        for name in names
        if name != MANIFEST and not (name in listed and _has_sum(folder / name, listed[name]))
    ]


def _has_sum(path: Path, expected: Any) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    # A bundle with a larger file cannot be read, and a sparse one would be hashed for hours.
    return path.stat().st_size <= current_policy().limits.file_bytes and sha256(path) == expected


def _recover(folder: Path) -> None:
    """Finish what a killed export left unfinished; where one is at work, leave it alone.

    A folder that is missing is waited for: the one at work may have it between two names.

    Raises:
        BadRequestError: it stays missing, and another process is at work.
    """
    if not leftovers(folder):
        return
    there = os.path.lexists(folder)
    try:
        with folder_lock(folder, **({"wait_s": 0.0} if there else {})):
            recover_folder(folder, _not_its_own)
    except BadRequestError:
        if not there:
            raise


def add_run(bundle: Bundle, name: str, data: bytes) -> Path:
    """Store a file in a bundle's folder of runs, also while the bundle is being replaced.

    Args:
        bundle: that ran.
        name: of the file; it gets a number where it is taken.
        data: its content.

    Returns:
        Where it is.

    Raises:
        BadFileError: it cannot be written, or the folder of runs is a link.
    """
    for _ in range(_ATTEMPTS):
        _check_runs(bundle)
        try:
            with contextlib.suppress(FileExistsError):
                bundle.runs.mkdir()
            return write_unused(bundle.runs / name, data)
        except FileNotFoundError:
            # Replaced in this moment: the same path is another folder now, or is about to be.
            _recover(bundle.folder.resolve())
        except OSError as error:
            raise _unwritable_runs(bundle, error) from error
    # Moved elsewhere, or removed: what was run is worth more than its folder's order.
    try:
        bundle.runs.mkdir(parents=True, exist_ok=True)
        return write_unused(bundle.runs / name, data)
    except OSError as error:
        raise _unwritable_runs(bundle, error) from error


def replace_run(bundle: Bundle, name: str, data: bytes) -> Path:
    """Store a file in a bundle's folder of runs in the place of the one of its name.

    Also while the bundle is being replaced: it is written again where that came between, and
    after some such tries while other writers wait.

    Args:
        bundle: that ran.
        name: of the file.
        data: its content.

    Returns:
        Where it is.

    Raises:
        BadFileError: it cannot be written, or the folder of runs is a link.
        BadRequestError: other processes replace the bundle without an end.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(bundle.folder)
        try:
            writable_runs(bundle)
            write_bytes(bundle.runs / name, data)
        except BadFileError:
            if _identity(bundle.folder) == before:
                raise
        if _identity(bundle.folder) == before:
            return bundle.runs / name
        with contextlib.suppress(OSError):
            _recover(bundle.folder.resolve())
    # Replaced in every try: whether the last one is in the bundle of now, nobody has seen.
    folder = bundle.folder.resolve()
    try:
        with folder_lock(folder):
            recover_folder(folder, _not_its_own)
            writable_runs(bundle)
            write_bytes(bundle.runs / name, data)
    except OSError as error:
        raise _unwritable_runs(bundle, error) from error
    return bundle.runs / name


def _unwritable_runs(bundle: Bundle, error: OSError) -> BadFileError:
    reason = reason_of(error, bundle.runs)
    remedy = "free some space and run it again" if is_full(error) else _ELSEWHERE
    return BadFileError(f"{bundle.runs}: cannot be written ({reason}); {remedy}")


def writable_runs(bundle: Bundle) -> Path:
    """Make a bundle's folder of runs, and prove that files can be written there.

    Raises:
        BadFileError: it cannot be written, or is a link.
    """
    for _ in range(_ATTEMPTS):
        _check_runs(bundle)
        before = _identity(bundle.folder)
        try:
            return writable_folder(bundle.runs, _ELSEWHERE)
        except BadFileError:
            # Replaced between the two looks of the proof: another folder stands there now.
            if _identity(bundle.folder) == before:
                raise
    return writable_folder(bundle.runs, _ELSEWHERE)


def _check_runs(bundle: Bundle) -> None:
    if bundle.runs.is_symlink():
        raise BadFileError(
            f"{bundle.runs}: is a link, and links inside a bundle are not followed; put a folder "
            "in its place"
        )


def run_files(bundle: Bundle) -> list[Path]:
    """The files of runs in a bundle, in order of their names; links are none, nor hidden files.

    Raises:
        BadFileError: the folder of runs is a link.
    """
    folder = bundle.folder.resolve()
    deadline = time.monotonic() + _RUNS_WAIT_S
    while True:
        before = _identity(folder)
        found = _run_files(bundle)
        if _identity(folder) == before and not leftovers(folder):
            return found
        # Replaced in this moment: runs are on their way from the old folder to the new one.
        try:
            with folder_lock(folder, wait_s=0.0):
                recover_folder(folder, _not_its_own)
                return _run_files(bundle)
        except OSError:
            return found  # Leftovers that are another user's.
        except BadRequestError:
            if time.monotonic() > deadline:
                return found
        time.sleep(_RUNS_POLL_S)


def _run_files(bundle: Bundle) -> list[Path]:
    _check_runs(bundle)
    return [
        path
        for path in sorted(bundle.runs.glob("*.json"))
        if not path.name.startswith(".") and not path.is_symlink()
    ]


def save_network(
    network: ChipNetwork, folder: AnyPath, quantiser: dict[str, Any] | None = None
) -> None:
    """Write network.json and network.safetensors; `quantiser` as in :func:`write_bundle`."""
    folder = Path(folder)
    data, arrays = network_to_json(network)
    if quantiser is not None:
        data["quantiser"] = quantiser
    write_json(folder / NETWORK_JSON, data)
    # safetensors writes memory as it lies, so arrays of another order would come back mixed up.
    ordered = {name: np.asarray(values, order="C") for name, values in arrays.items()}
    write_bytes(folder / NETWORK_ARRAYS, save(ordered))


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
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            _recover(folder.resolve())
        before = _identity(folder)
        try:
            return _load(folder, limits, trust)
        except BadFileError:
            # Replaced while it was read: files of the old one and of the new one do not agree.
            if _identity(folder) == before:
                raise
    return _load(folder, limits, trust)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells the folder from another one of its name; None where there is none."""
    try:
        found = folder.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _load(folder: Path, limits: FileLimits | None, trust: bool | None) -> Bundle:
    def read(bounds: FileLimits) -> dict[str, Any]:
        files, contents = _verified_files(folder, bounds)
        return {"files": files, **_parsed_network(folder, contents, bounds)}

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

    def read(bounds: FileLimits) -> dict[str, Any]:
        contents = {name: _bytes(path / name, bounds) for name in (NETWORK_JSON, NETWORK_ARRAYS)}
        return _parsed_network(path, contents, bounds)

    content = read_guarded(str(path), read, limits, trust)
    return network_from_json(content["data"], content["arrays"], str(path), limits)


def _listed(folder: Path) -> dict[str, Any]:
    """What the manifest of a bundle of any version says about its files; nothing is verified.

    Raises:
        BadFileError: no bundle.
    """
    path = folder / MANIFEST
    if path.is_symlink():
        raise BadFileError(f"{path}: is a link")
    files: dict[str, Any] = read_text_guarded(
        path, lambda text: _manifest_files(path, json.loads(text))
    )
    return files


def _manifest_files(path: Path, manifest: Any) -> dict[str, Any]:
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or manifest.get("format") != FORMAT:
        raise BadFileError(f"{path}: not an mtspark bundle's manifest")
    return files


def _verified_files(folder: Path, limits: FileLimits) -> tuple[dict[str, str], dict[str, bytes]]:
    """The manifest's sums, each compared with its file, and the bytes of the chip network."""
    path = folder / MANIFEST
    content = _bytes(path, limits, "a bundle's manifest; make one with mtspark export")
    manifest = _json_object(path, content, limits)
    files = _manifest_files(path, manifest)
    version = manifest.get("version")
    if not is_version(version, VERSION):
        raise BadFileError(
            f"{folder}: bundle version {one_line(repr(version), 40)}, this mtspark reads {VERSION}"
        )
    if len(files) > limits.objects:
        raise over("objects", f"{path}", len(files), limits)
    contents = {}
    for name, expected in files.items():
        content = _verified(folder, name, expected, limits)
        if name in (NETWORK_JSON, NETWORK_ARRAYS):
            contents[name] = content
    if len(contents) < 2:
        raise BadFileError(f"{folder}: the manifest lists no chip network")
    return dict(files), contents


def _verified(folder: Path, name: str, expected: Any, limits: FileLimits) -> bytes:
    """The bytes of a file of a bundle, which have the sum that they should have."""
    path = folder / name
    if Path(name).name != name or not name.isprintable() or path.is_symlink() or not path.is_file():
        shown = one_line(str(path))
        raise BadFileError(f"{shown}: named in the manifest but not a file of the bundle")
    content = read_whole(path, limits, follow_links=False)
    if hashlib.sha256(content).hexdigest() != expected:
        raise _ChangedError(
            f"{path}: differs from its sha256 in the manifest; export again with --force, which "
            "keeps this file under another name"
        )
    return content


def _parsed_network(folder: Path, contents: dict[str, bytes], limits: FileLimits) -> dict[str, Any]:
    """JSON and arrays of a chip network that was built once to see that it is one."""
    data = _json_object(folder / NETWORK_JSON, contents[NETWORK_JSON], limits)
    path, content = folder / NETWORK_ARRAYS, contents[NETWORK_ARRAYS]
    try:
        header = int.from_bytes(content[:8], "little")
        if header > limits.text_bytes:
            raise over("text_bytes", f"{path}: a header of", header, limits)
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
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


def _bytes(path: Path, limits: FileLimits, what: str = "a chip network") -> bytes:
    if path.is_symlink() or not path.is_file():
        raise BadFileError(f"{path}: no such file; expected {what}")
    return read_whole(path, limits, follow_links=False)


def _json_object(path: Path, content: bytes, limits: FileLimits) -> dict[str, Any]:
    if len(content) > limits.text_bytes:
        raise over("text_bytes", f"{path}", len(content), limits)
    try:
        data = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path}: not readable as JSON: {one_line(error)}") from error
    if not isinstance(data, dict):
        raise BadFileError(f"{path}: not a JSON object")
    return data


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")

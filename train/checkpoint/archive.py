"""Untrusted files of weights: what they are is checked before tensors are read from them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import safetensors.torch
import torch

from mtspark.core.arrays import AnyArray
from mtspark.core.errors import BackendMissingError, BadFileError, one_line
from mtspark.core.files import FileLimits, check_file_size, no_file, over

SAFE_TORCH = (2, 10)
"""In older versions, a file that is read with weights_only could still run code (CVE-2025-32434
and later ones)."""


REBUILD = (
    "name the function that builds its network: mtspark export FILE.py:make_model --weights "
    "{path} --input-shape ..."
)
"""What to do with weights that come without their network."""

SAVE_WEIGHTS = (
    "save the weights alone, torch.save(net.state_dict(), {name!r}), and "
    + REBUILD.format(path="{name}")
)
"""What to do with a file that only the code of its author can read."""

_GLOBAL = re.compile(r"GLOBAL ([\w.]{1,80})")
_UNPICKLER = "WeightsUnpickler error: "
_PICKLE = b"\x80"
_HDF5 = b"\x89HDF"
_START = 16
_NESTED = 4
_LISTED = 16
"""Weights are looked for so deep, and in lists of so many entries."""


def read_tensors(path: Path, limits: FileLimits, content: bytes | None = None) -> Any:
    """Read a PyTorch file of tensors and plain values, or a safetensors file, as arrays.

    Args:
        path: the file.
        limits: of what it may ask for.
        content: its bytes where they have been read; then `path` only names them.

    Raises:
        BadFileError: missing, no archive as torch.save writes it, anything but tensors and
            plain values in it (a pickled network, which is never loaded), or over a limit.
        BackendMissingError: torch is too old to do this safely.
    """
    check_torch(torch.__version__)
    if content is None:
        if not path.is_file():
            raise no_file(path, "give the path of a checkpoint (.pt)")
        size = check_file_size(path, limits)
    else:
        size = len(content)
    try:
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            start = file.read(_START)
            if _is_safetensors(start, size):
                file.seek(0)
                return _Arrays(path, limits).plain(safetensors.torch.load(file.read()), 0)
            _check_start(path, start)
            _check_archive(path, file, limits)
            file.seek(0)
            values = torch.load(file, map_location="cpu", weights_only=True)
    except (BadFileError, MemoryError, RecursionError):
        raise
    except Exception as error:
        # torch.load raises whatever its unpickler and zip reader meet in a malformed file.
        raise _refused(path, str(error)) from error
    return _Arrays(path, limits).plain(values, 0)


def with_tensors(content: Any) -> Any:
    """Turn arrays back into tensors, which share their memory."""
    if isinstance(content, np.ndarray):
        return torch.from_numpy(content)
    if isinstance(content, dict):
        return {key: with_tensors(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(with_tensors(value) for value in content)
    return content


def weights_in(content: Any) -> dict[str, Mapping[str, Any]]:
    """Find sets of weights: mappings of arrays or tensors, beside plain values if anything.

    Args:
        content: of a file.

    Returns:
        Their arrays by where they stand: "" is the content itself, "model" lies in it.
    """

    def search(value: Any, place: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if isinstance(value, (list, tuple)) and len(value) <= _LISTED:
            value = {str(index): entry for index, entry in enumerate(value)}
            if not any(isinstance(entry, Mapping) for entry in value.values()):
                return
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return
        arrays = {k: v for k, v in value.items() if isinstance(v, (np.ndarray, torch.Tensor))}
        if arrays:
            yield place, arrays
        if depth < _NESTED:
            for key, entry in value.items():
                yield from search(entry, f"{place}.{key}".lstrip("."), depth + 1)

    return dict(search(content, "", 0))


def check_torch(version: str) -> None:
    """Check that this version of torch reads files safely.

    Raises:
        BackendMissingError: older than :data:`SAFE_TORCH`.
    """
    numbers = tuple(int(part) for part in version.partition("+")[0].split(".")[:2])
    if numbers < SAFE_TORCH:
        raise BackendMissingError(
            f"torch {version} is not safe to read checkpoints with; install torch >= "
            f"{SAFE_TORCH[0]}.{SAFE_TORCH[1]}"
        )


def _unsafe(path: Path, why: str) -> BadFileError:
    return BadFileError(f"{path}: not a PyTorch checkpoint that is safe to load: {why}")


def _refused(path: Path, reason: str) -> BadFileError:
    """What torch.load refused, without its own advice: to load the file nevertheless."""
    found = _GLOBAL.search(reason)
    if found is not None:
        return BadFileError(
            f"{path}: holds a pickled {found[1]}, and loading that would run its author's code; "
            + SAVE_WEIGHTS.format(name="weights.pt")
        )
    return _unsafe(path, one_line(reason.rpartition(_UNPICKLER)[2]))


def _is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON header, and the header."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _check_start(path: Path, start: bytes) -> None:
    """Say what a file is that is no archive, by its first bytes."""
    if start.startswith(_PICKLE):
        raise BadFileError(
            f"{path}: a pickle (or saved by a torch before 1.6), and loading that would run its "
            "author's code; " + SAVE_WEIGHTS.format(name="weights.pt")
        )
    if start.startswith(_HDF5):
        raise BadFileError(
            f"{path}: an HDF5 file, no PyTorch file; NIR graphs are named .nir, netx networks .net"
        )


def _check_archive(path: Path, file: BinaryIO, limits: FileLimits) -> None:
    """Check a zip archive: torch.save stores members uncompressed, below one folder."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise _unsafe(path, f"no zip archive ({one_line(error, 60)}); save it again") from error
    if len(members) > limits.objects:
        raise over("objects", f"{path}: an archive", len(members), limits)
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") for name in names):
        raise BadFileError(
            f"{path}: a TorchScript program, not weights; " + SAVE_WEIGHTS.format(name="weights.pt")
        )
    if names and all(name.endswith(".npy") for name in names):
        raise BadFileError(
            f"{path}: arrays of NumPy (.npz), not a PyTorch file; save them as tensors, "
            "torch.save({name: torch.from_numpy(array), ...}, 'weights.pt')"
        )
    if len(set(names)) < len(names):
        raise _unsafe(path, "two members of its archive have one name")
    total = 0
    for member in members:
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
            raise _unsafe(path, "a member of its archive leads out of it")
        if not member.filename.isprintable() or len(member.filename) > 2 * limits.name_length:
            raise _unsafe(path, "a member of its archive has a name that cannot be shown")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise _unsafe(path, "a member of its archive is compressed or encrypted")
        if member.file_size != member.compress_size:
            raise _unsafe(path, "a member of its archive declares another size than it has")
        total += member.file_size
    if total > limits.total_bytes:
        raise over("total_bytes", f"{path}: an archive", total, limits)


class _Arrays:
    """Tensors to arrays, with every declared size checked against what is stored."""

    def __init__(self, path: Path, limits: FileLimits) -> None:
        self.path, self.limits = path, limits
        self.objects = self.total = self.text = 0

    def plain(self, value: Any, depth: int) -> Any:
        """The value with arrays in place of tensors."""
        limits = self.limits
        self.objects += 1
        if isinstance(value, torch.Tensor):
            return self._array(value)
        if isinstance(value, str):
            self.text += len(value)
            if self.text > limits.text_bytes:
                raise over("text_bytes", f"{self.path}", self.text, limits)
        # Histories of returns are long lists of numbers; what costs is bounded by memory.
        if self.objects > 100 * limits.objects:
            raise over("objects", f"{self.path}", self.objects, limits)
        if depth > limits.depth:
            raise over("depth", f"{self.path}: values", depth, limits)
        if isinstance(value, dict):
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            items = [self.plain(item, depth + 1) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        return value

    def _array(self, value: torch.Tensor) -> AnyArray:
        plain = type(value) in (torch.Tensor, torch.nn.Parameter)
        if not plain or value.layout != torch.strided or value.device.type != "cpu":
            raise BadFileError(f"{self.path}: holds a tensor of a special kind; only plain ones")
        size = value.numel() * value.element_size()
        if size > self.limits.array_bytes:
            raise over("array_bytes", f"{self.path}: a tensor declares", size, self.limits)
        if size > value.untyped_storage().nbytes():
            raise BadFileError(
                f"{self.path}: a tensor declares {value.numel()} values and stores fewer"
            )
        self.total += size
        if self.total > self.limits.total_bytes:
            raise over("total_bytes", f"{self.path}: tensors", self.total, self.limits)
        try:
            # NumPy has no bfloat16; float32 holds each of its values.
            plain_type = value.float() if value.dtype == torch.bfloat16 else value
            return plain_type.detach().numpy()
        except (TypeError, RuntimeError) as error:
            raise BadFileError(
                f"{self.path}: holds a tensor of {value.dtype}; save it as float32"
            ) from error

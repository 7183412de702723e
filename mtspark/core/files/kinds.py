"""What a file is, by its first bytes: known before the library that would read it is imported."""

from __future__ import annotations

import os
from pathlib import Path

from mtspark.core.errors import BadFileError
from mtspark.core.files.atomic import AnyPath
from mtspark.core.files.limits import check_no_pointer

_ZIP, _PICKLE, _HDF5 = b"PK", b"\x80", b"\x89HDF\r\n\x1a\n"
_START = 64


def no_file(path: Path, remedy: str) -> BadFileError:
    """The error for a path at which no file is: nothing, or a folder or device.

    Args:
        path: that was given.
        remedy: what to give instead.
    """
    what = "a folder, no file" if path.is_dir() else "no file" if path.exists() else "no such file"
    return BadFileError(f"{path}: {what}; {remedy}")


def check_checkpoint_file(path: AnyPath) -> None:
    """Refuse a file that cannot hold tensors, before torch is imported to read it.

    Archives, safetensors and pickles pass: their reader says what of them it takes.

    Raises:
        BadFileError: missing, unreadable, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise no_file(path, "give the path of a checkpoint (.pt)")
    start = _first_bytes(path)
    if not start:
        raise BadFileError(f"{path}: an empty file; save or fetch it again")
    if start.startswith(_HDF5):
        raise BadFileError(
            f"{path}: an HDF5 file, no PyTorch file; NIR graphs are named .nir, netx networks .net"
        )
    # A safetensors file begins with the length of its header in JSON.
    if not start.startswith((_ZIP, _PICKLE)) and start[8:9] != b"{":
        raise BadFileError(
            f"{path}: not a PyTorch checkpoint that is safe to load: no zip archive (File is not "
            "a zip file); save it again"
        )


def check_graph_file(path: AnyPath) -> None:
    """Refuse a NIR or netx file that is no HDF5, before their libraries are imported.

    Raises:
        BadFileError: missing, unreadable, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise no_file(path, "give the path of a NIR graph (.nir) or netx network (.net)")
    if not _first_bytes(path).startswith(_HDF5):
        raise BadFileError(f"{path}: no HDF5 file (its first bytes are not HDF5's)")


def _first_bytes(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        BadFileError: it cannot be read, or holds a pointer of Git LFS.
    """
    try:
        check_no_pointer(path, path.stat().st_size)
        with path.open("rb") as file:
            return file.read(_START)
    except OSError as error:
        raise BadFileError(f"{path}: {(error.strerror or os.strerror(5)).lower()}") from error

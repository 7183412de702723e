"""Arrays in files of strangers: .npy, .npz and IDX, read no further than they declare.

What a file declares is checked before memory is taken; what it holds is counted while it is read,
since a compressed file may hold far more than it declares.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files.limits import FileLimits, check_file_size, over

KINDS = "biuf"
"""Truth values, whole and real numbers."""
LONGEST_HEADER = 10_000
"""Bytes of the header of a .npy file; numpy's own bound."""
MOST_AXES = 16

Damage = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
"""What readers of compressed files raise for one that is damaged."""


def map_npy(path: Path, limits: FileLimits) -> NDArray[Any]:
    """Map an array of numbers into memory, reading its header alone.

    Raises:
        BadFileError: no such file, none of numbers, or over a limit.
    """
    check_file_size(path, limits)
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        # Its header is a piece of Python, which can be wrong in many ways.
        raise BadFileError(f"{path}: no readable .npy file: {one_line(error)}") from error
    _check_array(str(path), mapped.dtype, mapped.shape, limits)
    return mapped


def read_npz(path: Path, names: tuple[str, ...], limits: FileLimits) -> dict[str, NDArray[Any]]:
    """Read arrays of numbers from an .npz file; others in it are left alone.

    Call it in a limited process.

    Raises:
        BadFileError: no such file or array, damaged, or over a limit.
    """
    check_file_size(path, limits)
    arrays, total = {}, 0
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if len(members) > limits.objects:
                raise over("objects", f"{path}", len(members), limits)
            for name in names:
                member = members.get(f"{name}.npy")
                if member is None:
                    raise BadFileError(f"{path}: has no array {name!r}")
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise BadFileError(f"{path}: array {name!r} is packed by an unknown method")
                if member.flag_bits & 1:
                    raise BadFileError(f"{path}: array {name!r} is encrypted")
                with archive.open(member) as stream:
                    arrays[name] = _read_npy(stream, f"{path}: array {name!r}", limits)
                total += arrays[name].nbytes
                if total > limits.total_bytes:
                    raise over("total_bytes", f"{path}", total, limits)
    except (*Damage, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadFileError(f"{path}: damaged ({one_line(error)})") from error
    return arrays


def npz_names(path: Path, limits: FileLimits) -> list[str]:
    """Return the names of the arrays in an .npz file, in their order.

    Call it in a limited process.

    Raises:
        BadFileError: no such file, damaged, or over a limit.
    """
    check_file_size(path, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist()]
    except (*Damage, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadFileError(f"{path}: damaged ({one_line(error)})") from error
    if len(names) > limits.objects:
        raise over("objects", f"{path}", len(names), limits)
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_idx(path: Path, limits: FileLimits) -> NDArray[np.uint8]:
    """Read an array of the IDX format (http://yann.lecun.com/exdb/mnist/), plain or gzipped.

    Call it in a limited process.

    Raises:
        BadFileError: no IDX file of bytes, shorter or longer than its header says, or over a
            limit.
    """
    check_file_size(path, limits)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            start = stream.read(4)
            axes = start[3] if len(start) == 4 else 0
            sizes = stream.read(4 * axes)
            if start[:3] != b"\0\0\x08" or not 0 < axes <= MOST_AXES or len(sizes) < 4 * axes:
                raise BadFileError(f"{path}: not an IDX file of bytes; download it again")
            shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
            _check_array(str(path), np.dtype(np.uint8), shape, limits)
            # One more than it should hold, to see whether there is more.
            data = stream.read(prod(shape) + 1)
    except Damage as error:
        raise BadFileError(
            f"{path}: cannot be read ({one_line(error)}); download it again"
        ) from error
    if len(data) != prod(shape):
        held = f"{len(data):,}" if len(data) < prod(shape) else "more"
        raise BadFileError(
            f"{path}: {held} bytes of data, its header says {prod(shape):,}; download it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_npy(stream: IO[bytes], where: str, limits: FileLimits) -> NDArray[Any]:
    try:
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise BadFileError(f"{where}: version {version} of .npy is not read")
        shape, by_columns, kind = readers[version](stream, max_header_size=LONGEST_HEADER)
    except (BadFileError, *Damage):
        raise
    except Exception as error:
        # The header is a piece of Python, which can be wrong in many ways.
        raise BadFileError(f"{where}: no readable header: {one_line(error)}") from error
    _check_array(where, kind, shape, limits)
    size = prod(shape) * kind.itemsize
    data = stream.read(size)
    if len(data) != size:
        raise BadFileError(f"{where}: declares {size:,} bytes, holds {len(data):,}")
    flat = np.frombuffer(data, kind)
    return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)


def _check_array(
    where: str, kind: np.dtype[Any], shape: tuple[int, ...], limits: FileLimits
) -> None:
    if kind.kind not in KINDS:
        raise BadFileError(f"{where}: does not hold a plain array of numbers")
    if len(shape) > MOST_AXES or min(shape, default=0) < 0:
        raise BadFileError(f"{where}: declares the shape {str(shape)[:80]}")
    size = prod(shape) * kind.itemsize
    if size > limits.array_bytes:
        raise over("array_bytes", where, size, limits)

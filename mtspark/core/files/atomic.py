"""The one way to write a file: whole under its name, or not at all.

A file is written beside its target under a hidden name with the process number in it, flushed to
the disk, and renamed. A link stays a link to what it led to. What is no plain file, such as a
device or a pipe, is written into.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mtspark.core.errors import BadFileError, BadRequestError

AnyPath = str | os.PathLike[str]


@contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`; its file takes the place of `path` at the end.

    Folders above it are made. The temporary name keeps the suffix, since some writers choose a
    format by it. Where the block raises, or writes nothing, `path` stays as it was.

    Raises:
        BadFileError: the folder or file cannot be written.
    """
    temporary = None
    try:
        target = behind_links(Path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        # The target's whole name stands first, so that a leftover says whose it is.
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp{target.suffix}")
        yield temporary
        _flush(temporary)
        temporary.replace(target)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Write a file whole or not at all; a device, a pipe or this process's output is written into.

    Raises:
        BadFileError: it cannot be written.
    """
    path = Path(path)
    for stream in (sys.stdout, sys.stderr):
        if _leads_to(path, stream):
            # Opened a second time, a file behind it would be overwritten from its start.
            stream.flush()
            os.write(stream.fileno(), data)
            return
    try:
        special = path.exists() and not path.is_file() and not path.is_dir()
        if special:
            path.write_bytes(data)
            return
    except OSError as error:
        raise unwritable(path, error) from error
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: AnyPath, text: str) -> None:
    """As :func:`write_bytes`, of text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: AnyPath, data: Any) -> None:
    """As :func:`write_bytes`, of JSON with an indent of two; NaN and infinity are refused.

    Raises:
        BadFileError: it cannot be written.
        ValueError: a number is not finite.
    """
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def check_target(path: AnyPath | None) -> None:
    """Refuse a result file that could not be written, before long work starts.

    Raises:
        BadRequestError: a folder.
        BadFileError: a device or pipe that may not be written, or a file in a folder that
            cannot be written.
    """
    if path is None:
        return
    path = Path(path)
    try:
        if path.is_dir():
            raise BadRequestError(f"{path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        parent = behind_links(path).parent
    except OSError as error:
        raise unwritable(path, error) from error
    writable_folder(parent)


def writable_folder(folder: AnyPath) -> Path:
    """Make a folder and prove that files can be written there, before long work starts.

    Raises:
        BadFileError: it cannot be made or written.
    """
    folder = Path(folder)
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadFileError(
            f"{folder}: cannot be written ({(error.strerror or str(error)).lower()}); "
            "choose another folder"
        ) from error
    return folder


def behind_links(path: Path) -> Path:
    """Where a path leads in the end.

    Raises:
        OSError: links in a circle.
    """
    try:
        return path.resolve()
    except RuntimeError as error:
        # What Python before 3.13 says of links in a circle.
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


def unwritable(path: AnyPath, error: OSError) -> BadFileError:
    """The error to raise for a file that cannot be written."""
    reason = (error.strerror or str(error)).lower()
    return BadFileError(f"{path}: cannot be written ({reason}); choose another file")


def _flush(path: Path) -> None:
    """Bring a file to the disk, so that a rename never outlives its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _leads_to(path: Path, stream: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError):
        return False

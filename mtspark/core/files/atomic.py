"""The one way to write a file: whole under its name, or not at all.

A file is written beside its target under a hidden name with the process number in it, flushed to
the disk, and renamed. A link stays a link to what it led to. What is no plain file, such as a
device or a pipe, is written into.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.memory import free_disk, size_text

AnyPath = str | os.PathLike[str]

_NUMBERS = itertools.count()
"""Tells the temporary files of two threads apart."""

_LONGEST_NAME, _LONGEST_MARK, _START = 150, 100, 30
"""Bytes that are kept of a name and of what stands behind it, together less than the 255 that file
systems allow; letters of either where it is longer, of 4 bytes at most."""

_ABANDONED_S = 3600.0
"""Seconds after which nobody still writes a file."""

_NO_SECOND_NAMES = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""What a file system answers that gives no file a second name, or not this one."""


CATALOGUES = ("manifest.json", "card.json")
"""Files that list those beside them, by name under ``files``: of a bundle, and of an agent."""
_LONGEST_READ = 2**20
"""Bytes of a file that are read to see what it is."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a file system answers that has no room."""


class UnwritableError(BadFileError):
    """A file that cannot be written.

    Attributes:
        reason: why, in the words of the operating system.
    """

    reason = ""


@contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path beside `path`; its file takes the place of `path` at the end.

    Folders above it are made. The temporary name ends as `path` does, since some writers choose a
    format by that. Where the block raises, or writes nothing, `path` stays as it was. What is
    written for a device, a pipe or this process's output is handed on to it at the end.

    Raises:
        UnwritableError: the folder or file cannot be written.
    """
    path = Path(path)
    if _own_stream(path) is not None or _is_special(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / f"content{path.suffix}"
            with _unwritable(path):
                yield temporary
                data = temporary.read_bytes()
            write_bytes(path, data)
        return
    with _unwritable(path), _beside(path) as (temporary, target):
        yield temporary
        _flush(temporary)
        temporary.replace(target)
        flush_folder(target.parent)


@contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a temporary path and where it belongs; what is left of it is removed."""
    target = behind_links(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{os.getpid()}.{next(_NUMBERS)}.tmp"
    _remove_leftovers(target)
    temporary = target.with_name(hidden_name(target, f"{mark}{target.suffix}"))
    try:
        yield temporary, target
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: AnyPath, data: bytes | memoryview) -> None:
    """Write a file whole or not at all; a device, a pipe or this process's output is written into.

    Raises:
        UnwritableError: it cannot be written.
    """
    path = Path(path)
    stream = _own_stream(path)
    if stream is not None:
        # Opened a second time, a file behind it would be overwritten from its start.
        with _unwritable(path):
            stream.flush()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(stream.fileno(), rest) :]
    elif _is_special(path):
        with _unwritable(path):
            path.write_bytes(data)
    else:
        with replacing(path) as temporary:
            temporary.write_bytes(data)


def write_unused(path: Path, data: bytes) -> Path:
    """Write a file whole, under its name or, where that is taken, under the name with a number.

    Two writers of one name both keep theirs. The folder is not made.

    Returns:
        Where the file is.

    Raises:
        FileNotFoundError: the folder is not there.
        OSError: it cannot be written.
    """
    mark = f"{os.getpid()}.{next(_NUMBERS)}.tmp"
    _remove_leftovers(path, others=True)
    temporary = path.with_name(hidden_name(path, f"{mark}{path.suffix}"))
    try:
        temporary.write_bytes(data)
        _flush(temporary)
        place = path
        for number in itertools.count(2):
            with suppress(FileExistsError):
                rename_new(temporary, place)
                break
            place = path.with_name(f"{path.stem}-{number}{path.suffix}")
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)
    return place


def hidden_name(target: Path, mark: str) -> str:
    """Return ``.NAME.MARK``, the name of something beside `target` that is made for it.

    The target's whole name stands first, so that a leftover says whose it is. Where that would be
    longer than a name may be, as the target's is not, its start and a digest stand there.
    """
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{name[:_START]}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    # An ending of such a length says nothing of a format.
    return f".{name}.{mark if len(os.fsencode(mark)) <= _LONGEST_MARK else mark[:_START]}"


def _remove_leftovers(target: Path, *, others: bool = False) -> None:
    """Remove what killed writers of a file left beside it, or of others of its ending, too.

    A number that is a process's is left alone, also where it is another's by now, and so is a
    young file: its writer may be in another container, or on another computer.
    """
    start, end = re.escape(hidden_name(target, "")), re.escape(f".tmp{target.suffix}")
    if others:
        start = r"\..+\."
    mark = re.compile(rf"{start}(\d{{1,9}})\.\d+{end}")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            found = mark.fullmatch(entry.name)
            if found is None or not entry.is_file(follow_symlinks=False) or _alive(int(found[1])):
                continue
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_S:
                    Path(entry.path).unlink()


def remove_temporaries(folder: Path) -> None:
    """Remove what writers of files write beside them, finished or not.

    For a folder that has left its place: no writer finds its file there again, and begins anew; or
    the file has its name already, and its writer cannot take the temporary one away. A link is not
    followed.
    """
    if folder.is_symlink():
        return
    mark = re.compile(r"\..+\.\d{1,9}\.\d+\.tmp(\..*)?")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if mark.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name != "posix":
        return True  # Signal 0 would end it there.
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def rename_new(source: Path, target: Path) -> None:
    """Rename a file, a link or a folder, never over anything.

    Raises:
        FileExistsError: the name is taken.
        OSError: it cannot be renamed.
    """
    taken = FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if source.is_dir() and not source.is_symlink():
        # The system itself puts no folder over one that holds something.
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise taken
        try:
            source.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise taken from error
            raise
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        # The second name of the same file, of a writer that was killed before it took the first.
        if not os.path.samestat(source.lstat(), target.lstat()):
            raise
    except OSError as error:
        if error.errno not in _NO_SECOND_NAMES:
            raise
        if os.path.lexists(target):
            raise taken from error
        source.rename(target)
        return
    # Both names may have gone with their folder, which is being replaced: the file is where it is
    # to be, and whoever took this for a failure would store it twice.
    source.unlink(missing_ok=True)


def write_text(path: AnyPath, text: str) -> None:
    """As :func:`write_bytes`, of text in UTF-8; what Unicode does not have is escaped.

    A file's name in another encoding than the system's comes as such letters.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: AnyPath, data: Any) -> None:
    """As :func:`write_bytes`, of JSON with an indent of two; NaN and infinity are refused.

    Raises:
        UnwritableError: it cannot be written.
        ValueError: a number is not finite.
    """
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def check_target(path: AnyPath | None) -> None:
    """Refuse a result file that could not be written, before long work starts.

    Raises:
        BadRequestError: a folder.
        UnwritableError: a device or pipe that may not be written, or a file in a folder that
            cannot be written.
    """
    if path is None:
        return
    path = Path(path)
    with _unwritable(path):
        if path.is_dir():
            raise BadRequestError(f"{path}: is a folder; give the name of a file")
        if path.exists() and not path.is_file():
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        parent = behind_links(path).parent
    writable_folder(parent)


def check_json_target(path: AnyPath | None) -> None:
    """As :func:`check_target`; also refuse to write over a file that is no JSON result.

    An agent, a log or the network of a bundle would be lost, and such a name is a slip: what a
    command reads stands beside what it writes.

    Raises:
        BadRequestError: a folder, or a file that is no JSON or that a bundle or an agent's card
            lists as its own.
        UnwritableError: see :func:`check_target`.
    """
    check_target(path)
    if path is None:
        return
    path = Path(path)
    with _unwritable(path):
        if _own_stream(path) is not None or _is_special(path) or not path.is_file():
            return
        target = behind_links(path)
        owner = _owner(target)
        problem = f"belongs to {owner}" if owner else "holds no JSON of a result"
        if owner is None and _may_be_result(target):
            return
    raise BadRequestError(
        f"{path}: is there already and {problem}; choose another name, or remove it first"
    )


def _owner(path: Path) -> Path | None:
    """The bundle or the card that a file is part of."""
    for name in CATALOGUES:
        catalogue = path.with_name(name)
        try:
            listed = catalogue.is_file() and catalogue.stat().st_size <= _LONGEST_READ
            found = json.loads(catalogue.read_bytes()) if listed else None
        except (OSError, ValueError, RecursionError):
            # Another file of that name.
            continue
        files = found.get("files") if isinstance(found, dict) else None
        if isinstance(files, dict) and (path.name in files or path == catalogue):
            return catalogue.parent if name == CATALOGUES[0] else catalogue
    return None


def _may_be_result(path: Path) -> bool:
    """Whether a file is empty or one JSON document, as :func:`write_json` or a formatter wrote it.

    The line of a log is one, too, so a file of JSON lines is told by its name.
    """
    size = path.stat().st_size
    if not size:
        return True
    with path.open("rb") as file:
        start = file.read(_LONGEST_READ)
    if start[:1] not in b"{[" or path.suffix == ".jsonl":
        return False
    if start[1:2] in b"\r\n":
        # Indented, as ours are: a large one need not be read.
        return True
    try:
        json.loads(start)
    except (ValueError, RecursionError):
        return False
    return True


def writable_folder(folder: AnyPath, remedy: str = "choose another folder") -> Path:
    """Make a folder and prove that files can be written there, before long work starts.

    Args:
        folder: to write in.
        remedy: what its user can do where it cannot be written.

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
            f"{folder.absolute()}: cannot be written ({(error.strerror or str(error)).lower()}); "
            f"{remedy}"
        ) from error
    return folder


def behind_links(path: Path) -> Path:
    """Where a path leads in the end.

    Raises:
        OSError: links in a circle.
    """
    circle = OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    try:
        target = path.resolve()
    except RuntimeError as error:
        raise circle from error
    # Python from 3.13 on gives a link of the circle instead of raising.
    if target.is_symlink():
        raise circle
    return target


@contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason, remedy = reason_of(error, path), "choose another file"
        if is_full(error) and (path.is_file() or not os.path.lexists(path)):
            remedy = f"{unchanged(path)}; free some space, or {remedy}"
        refusal = UnwritableError(f"{path}: cannot be written ({reason}); {remedy}")
        refusal.reason = reason
        raise refusal from error


def is_full(error: OSError) -> bool:
    """Whether something could not be written because there is no room for it."""
    return error.errno in _FULL


def reason_of(error: OSError, path: Path) -> str:
    """Say why something could not be written, in the words of the operating system.

    Args:
        error: of writing.
        path: what was to be written; of a full disk, the room that it has is said, too.
    """
    # Libraries put a report of several lines where the operating system has three words.
    text = os.strerror(error.errno) if error.errno else str(error)
    reason = " ".join(text.lower().split())
    if is_full(error):
        with suppress(OSError, StopIteration):
            reason += f", {size_text(free_disk(path))} free"
    return reason


def unchanged(path: Path) -> str:
    """Say what became of a file or folder that could not be replaced."""
    kind = "folder" if path.is_dir() else "file"
    return f"the {kind} of before is unchanged" if path.exists() else "no part of it is left"


def _flush(path: Path) -> None:
    """Bring a file to the disk, so that a rename never outlives its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the file system does such a thing."""
    with suppress(OSError):
        _flush(folder)


def _is_special(path: Path) -> bool:
    """Whether it is there and is neither file nor folder.

    Raises:
        UnwritableError: nobody may see what is there.
    """
    with _unwritable(path):
        return path.exists() and not path.is_file() and not path.is_dir()


def _own_stream(path: Path) -> TextIO | None:
    """This process's output or error output, where the path leads to it."""
    for stream in (sys.stdout, sys.stderr):
        # A closed one is None; one that a test has put there has no number.
        try:
            if stream and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                return stream
        except (OSError, ValueError):
            continue
    return None

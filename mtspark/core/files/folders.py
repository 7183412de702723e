"""The one way to replace a folder: the old one or the new one stands under its name at any time.

A new folder is made beside its target as ``.NAME.PID.N.mtspark-tmp``; nothing of the user's ever
lies in a folder of that name. Where the target exists, the new one is renamed ``.NAME.PID.N.old``
once it is whole and on the disk, and the two are exchanged in one step (Linux's renameat2 with
RENAME_EXCHANGE). What outlives a replacement is then moved from the old folder into the new one,
and the old one is removed.

Where the system or the file system cannot exchange folders, the target is renamed ``.old`` and the
new one takes its name: between the two renames no folder stands under the name.

A writer that is killed leaves such folders behind. :func:`recover_folder` finishes its work: a
``.old`` whose target is missing gets its name back, otherwise what outlives moves into the target;
a ``.mtspark-tmp`` is removed. Writers hold a lock, so whoever has it knows that leftovers are
nobody's.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadRequestError
from mtspark.core.files.atomic import (
    flush_folder,
    hidden_name,
    remove_temporaries,
    rename_new,
)

Kept = Callable[[Path], "list[str] | None"]
"""Names in a folder that outlive its replacement; None where it is no folder of the kind."""

OLD, GARBAGE = ".old", ".mtspark-tmp"
OLDER_GARBAGE = ".tmp"
"""Of older versions, and a name that others may have chosen, too."""
WAIT_S = 60.0
"""Longest wait for another writer; writing a bundle takes seconds."""

_POLL_S = 0.02
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EXDEV})
"""What renameat2 answers where a kernel, a container or a file system does not have it."""


@dataclass
class Replacement:
    """A folder that is being made.

    Attributes:
        path: where its files are to be written.
        renamed: where things that outlived the replacement lie now, if the new folder has
            others of their names.
    """

    path: Path
    renamed: list[Path] = field(default_factory=list)


@contextmanager
def replacing_folder(folder: Path, kept: Kept) -> Iterator[Replacement]:
    """Yield a new folder beside `folder`; it takes the place of `folder` at the end.

    Where the block raises, `folder` stays as it was. The block is the place for a last look at
    `folder`: other writers wait until it ends.

    Args:
        folder: without links; folders above it are made.
        kept: says what outlives.

    Raises:
        BadRequestError: another process keeps writing there.
        OSError: it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        recover_folder(folder, kept)
        new = Replacement(_unused(folder, GARBAGE))
        new.path.mkdir()
        try:
            yield new
            _flush_tree(new.path)
            _place(new.path, folder)
        except BaseException:
            with suppress(OSError):
                recover_folder(folder, kept)
            raise
        new.renamed = recover_folder(folder, kept)


def recover_folder(folder: Path, kept: Kept) -> list[Path]:
    """Finish what a writer of a folder left unfinished; the lock must be held.

    Args:
        folder: the writer's target, without links.
        kept: says what outlives.

    Returns:
        Where things lie that could not keep their names.

    Raises:
        OSError: something cannot be moved; it stays where it is.
    """
    renamed: list[Path] = []
    for leftover in leftovers(folder, OLD):
        names = kept(leftover)
        if names is None:
            continue
        if not os.path.lexists(folder):
            for name in names:
                remove_temporaries(leftover / name)
            leftover.rename(folder)
            flush_folder(folder.parent)
            continue
        if kept(folder) is None:
            # Something else took the name: what is in the leftover is safest there.
            continue
        for name in names:
            remove_temporaries(leftover / name)
            _move(leftover / name, folder / name, renamed)
        flush_folder(folder)
        # Half removed, it would be taken for one that still holds something.
        leftover.rename(_unused(folder, GARBAGE))
    for leftover in leftovers(folder, GARBAGE):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in leftovers(folder, OLDER_GARBAGE):
        if kept(leftover) is not None or not any(leftover.iterdir()):
            shutil.rmtree(leftover, ignore_errors=True)
    return renamed


def leftovers(folder: Path, ending: str = OLD) -> list[Path]:
    """Folders that killed writers of a folder left beside it, the latest first.

    Args:
        folder: without links.
        ending: :data:`OLD` of those that may hold something, :data:`GARBAGE` of the others.
    """
    # Older versions left out the number.
    start = re.escape(hidden_name(folder, ""))
    mark = re.compile(rf"{start}\d+(\.\d+)?{re.escape(ending)}")
    found = []
    with suppress(OSError), os.scandir(folder.parent) as entries:
        for entry in entries:
            if mark.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
    return [path for _, path in sorted(found, reverse=True)]


@contextmanager
def folder_lock(folder: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Keep other writers of a folder, and of those beside it, out until the block ends.

    The folder above is locked, which leaves nothing on the disk; where a file system does not
    lock folders (NFS), a file ``.NAME.lock`` is, and stays.

    Args:
        folder: to be written.
        wait_s: seconds to wait for another writer.

    Raises:
        BadRequestError: another one is still at work.
        OSError: nothing can be locked there.
    """
    busy = BadRequestError(
        f"{folder}: another process is writing there; try again when it has finished"
    )
    try:
        import fcntl

        above = os.open(folder.parent, os.O_RDONLY)
    except ImportError:
        above = None
    try:
        deadline = time.monotonic() + wait_s
        while above is not None:
            try:
                fcntl.flock(above, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise busy from None
                time.sleep(_POLL_S)
            except OSError:
                os.close(above)
                above = None
        if above is not None:
            yield
            return
        from filelock import FileLock, Timeout

        try:
            locked = FileLock(folder.with_name(hidden_name(folder, "lock"))).acquire(timeout=wait_s)
        except Timeout as error:
            raise busy from error
        with locked:
            yield
    finally:
        if above is not None:
            os.close(above)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where that cannot be done here.

    Raises:
        OSError: it could be done, and failed.
    """
    call = _renameat2()
    if call is None:
        return False
    sys.audit("mtspark.exchange", str(one), str(other))
    names = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def _renameat2() -> Any:
    """The C library's function; None where it has none."""
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (
            *(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p),
            ctypes.c_uint,
        )
    return call


def _place(fresh: Path, folder: Path) -> None:
    """Give a finished folder its name; what stood there is a ``.old`` afterwards."""
    if not os.path.lexists(folder):
        fresh.rename(folder)
        flush_folder(folder.parent)
        return
    old = _unused(folder, OLD)
    fresh.rename(old)
    if not exchange(old, folder):
        old.rename(fresh)
        folder.rename(old)
        try:
            fresh.rename(folder)
        except BaseException:
            old.rename(folder)
            raise
    flush_folder(folder.parent)


def _move(source: Path, target: Path, renamed: list[Path]) -> None:
    """Move a file, a link or a folder over nothing; folders of one name are joined."""
    place = target
    for number in itertools.count(2):
        if _is_folder(source) and _is_folder(place):
            _join(source, place, renamed)
            return
        with suppress(FileExistsError):
            rename_new(source, place)
            break
        if not (_is_folder(source) and _is_folder(place)):
            place = target.with_name(f"{target.stem}-{number}{target.suffix}")
    if place != target:
        renamed.append(place)


def _join(source: Path, target: Path, renamed: list[Path]) -> None:
    while True:
        for child in sorted(source.iterdir()):
            _move(child, target / child.name, renamed)
        flush_folder(target)
        try:
            source.rmdir()
        except OSError as error:
            # A file that another process stored in this moment: it moves, too.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _unused(folder: Path, ending: str) -> Path:
    marks = (f"{os.getpid()}.{number}{ending}" for number in itertools.count())
    paths = (folder.with_name(hidden_name(folder, mark)) for mark in marks)
    return next(path for path in paths if not os.path.lexists(path))


def _flush_tree(folder: Path) -> None:
    """Bring files and folders to the disk, so that a name never outlives its content."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif _is_folder(path):
            flush_folder(path)
    flush_folder(folder)

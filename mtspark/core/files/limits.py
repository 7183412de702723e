"""How much a file from a stranger may ask for, and whether the user trusts it.

The limits hold for every file that is read. They are set by environment variables
(``MTSPARK_LIMIT_ARRAY_BYTES=2G``) or for one command (``mtspark --limit array_bytes=2G ...``).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mtspark.core.errors import BadFileError, BadRequestError, one_line

ENVIRONMENT = "MTSPARK_LIMIT_"
_NUMBER = re.compile(r"([0-9]{1,15})([KMGT]?)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = 1024
"""A pointer is shorter than this, by its specification."""


@dataclass(frozen=True)
class FileLimits:
    """Upper bounds of what is read from one file.

    Attributes:
        file_bytes: size of the file, or of any file of a folder.
        array_bytes: one array, as it is declared, before any of it is read.
        total_bytes: all arrays together, as they are declared.
        text_bytes: a text part: JSON, a header, all strings together.
        objects: groups, arrays, nodes, tensors, members of an archive.
        depth: of nesting.
        name_length: characters of a name.
        neurons: neurons, or input values with their padding, of one layer.
        time_steps: of one decision.
        memory_bytes: memory of the process that reads the file, beyond what it started with.
        seconds: processor time of that process; it may take four times as long by the clock.
    """

    file_bytes: int = 512 * 2**20
    array_bytes: int = 256 * 2**20
    total_bytes: int = 512 * 2**20
    text_bytes: int = 32 * 2**20
    objects: int = 20_000
    depth: int = 16
    name_length: int = 200
    neurons: int = 2**22
    time_steps: int = 100_000
    memory_bytes: int = 2**30
    seconds: int = 20


@dataclass(frozen=True)
class Policy:
    """How files are read.

    Attributes:
        limits: hold in any case.
        trust: read in this process, without limits of memory and time.
    """

    limits: FileLimits
    trust: bool = False


_policy: ContextVar[Policy | None] = ContextVar("mtspark_file_policy", default=None)


def current_policy() -> Policy:
    """What was set by :func:`set_policy`, otherwise the limits of the environment, no trust."""
    return _policy.get() or Policy(limits_from_environment())


def set_policy(policy: Policy | None) -> None:
    """Set how files are read from here on; None goes back to the environment's."""
    _policy.set(policy)


def chosen_policy(limits: FileLimits | None, trust: bool | None) -> Policy:
    """The current policy, with what a caller said explicitly in its place."""
    policy = current_policy()
    return Policy(
        policy.limits if limits is None else limits, policy.trust if trust is None else trust
    )


def limits_from_environment() -> FileLimits:
    """The defaults, changed by variables such as ``MTSPARK_LIMIT_SECONDS``.

    Raises:
        BadRequestError: a value that is no number.
    """
    settings = []
    for entry in fields(FileLimits):
        value = os.environ.get(ENVIRONMENT + entry.name.upper())
        if value is not None:
            settings.append(f"{entry.name}={value}")
    return changed_limits(FileLimits(), settings)


def changed_limits(limits: FileLimits, settings: Iterable[str]) -> FileLimits:
    """Apply settings like ``array_bytes=2G`` (K, M, G, T are powers of 1024).

    Raises:
        BadRequestError: no such limit, or no positive whole number.
    """
    names = [entry.name for entry in fields(FileLimits)]
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in names:
            raise BadRequestError(
                f"limit {one_line(name, 40)!r}: the limits are {', '.join(names)}"
            )
        number = _NUMBER.fullmatch(text.strip().upper())
        if number is None or int(number[1]) == 0:
            raise BadRequestError(
                f"limit {name}={one_line(text, 40)!r}: give a whole number, like 512M"
            )
        limits = replace(limits, **{name: int(number[1]) * _UNITS[number[2]]})
    return limits


def check_file_size(path: Path, limits: FileLimits) -> int:
    """Size of a regular file within the limit.

    Raises:
        BadFileError: missing, no regular file, too large, or a pointer in the file's place.
    """
    try:
        regular, size = path.is_file(), path.stat().st_size
    except FileNotFoundError as error:
        raise BadFileError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path}: cannot be opened ({_reason(error)})") from error
    if not regular:
        raise BadFileError(f"{path}: not a regular file")
    if size > limits.file_bytes:
        raise over("file_bytes", f"{path}", size, limits)
    check_no_pointer(path, size)
    return size


def check_no_pointer(path: Path, size: int) -> None:
    """Name what git leaves in the place of a large file that was not fetched.

    Raises:
        BadFileError: the file is a pointer of Git LFS.
    """
    if size > _POINTER_BYTES:
        return
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError:
        return  # Its reader says why it cannot be opened.
    if start == _POINTER:
        raise BadFileError(
            f"{path}: a Git LFS pointer of {size} bytes, not the file itself; fetch it with "
            "`git lfs pull`, or download it by itself"
        )


def read_whole(path: Path, limits: FileLimits, *, follow_links: bool = True) -> bytes:
    """Read a regular file within the limit once, so that what is checked is what is parsed.

    Args:
        path: the file.
        limits: `file_bytes` holds, also where the file grows while it is read.
        follow_links: otherwise a link is no regular file.

    Raises:
        BadFileError: missing, no regular file, too large, or not readable.
    """
    if path.is_symlink() and not follow_links:
        raise BadFileError(f"{path}: is a link, not a regular file")
    check_file_size(path, limits)
    # Something else may have taken the name since then.
    flags = os.O_RDONLY | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0))
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadFileError(f"{path}: not a regular file")
            content = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be opened ({_reason(error)})") from error
    if len(content) > limits.file_bytes:
        raise over("file_bytes", f"{path}", len(content), limits)
    return content


def over(name: str, what: str, value: int, limits: FileLimits) -> BadFileError:
    """The error for a value above the limit `name`."""
    shown = f"{value:,}" if value < 10**18 else "more than 10^18"
    return BadFileError(
        f"{what}: {shown} {name.replace('_', ' ')}, {getattr(limits, name):,} is the limit; if "
        f"you trust the file, raise it with `mtspark --limit {name}=N ...` or "
        f"{ENVIRONMENT}{name.upper()}"
    )


def _reason(error: BaseException) -> str:
    return one_line(getattr(error, "strerror", None) or error).lower()

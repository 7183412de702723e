"""A forked process that gives up, step by step, what reading a file does not need."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import mmap
import os
import platform
import resource
import signal
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mtspark.core.confinement.calls import NO_NEW_PRIVILEGES, PARENT_DEATH_SIGNAL, prctl
from mtspark.core.confinement.landlock import forbid_changing_files
from mtspark.core.confinement.limits import drop_capabilities, set_hard_limit
from mtspark.core.confinement.memory import leave_shared_memory
from mtspark.core.confinement.seccomp import forbid_system_calls

SPARE_FILES = 64
"""Files that may be open beyond those at the start."""
SPARE_SECONDS = 2
"""Of processor time, between the signal that says it is over and the one that ends."""


class Mechanism(Enum):
    """What keeps a process from harm."""

    LIMITS = "hard limits"
    PARENT = "ends with its parent"
    PRIVILEGES = "no new privileges"
    LANDLOCK = "Landlock"
    SECCOMP = "seccomp"


@dataclass(frozen=True)
class Bounds:
    """What a process may use.

    Attributes:
        memory_bytes: of address space, beyond what it has at the start.
        seconds: of processor time.
    """

    memory_bytes: int
    seconds: int


def detach(parent: int, kept: int) -> bool:
    """Leave a parent's process group, and lose its open files and the memory shared with it.

    Args:
        parent: id of the process that forked this one, and with which it shall end.
        kept: the one file that stays open.

    Returns:
        Whether the kernel ends this process when its parent ends.
    """
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    bound = False
    if sys.platform.startswith("linux"):
        bound = prctl(PARENT_DEATH_SIGNAL, ctypes.c_ulong(signal.SIGKILL))
        if os.getppid() != parent:
            # It ended before it could be heard of.
            os._exit(1)
        leave_shared_memory()
    nowhere = os.open(os.devnull, os.O_RDWR)
    # Not closed but replaced: an object of the parent that closes its number later would
    # otherwise close a file that this process has opened meanwhile.
    for number in {0, 1, 2, *_open_files()} - {kept, nowhere}:
        with contextlib.suppress(OSError):
            os.dup2(nowhere, number, inheritable=False)
    return bound


def confine(bounds: Bounds) -> tuple[Mechanism, ...]:
    """Give up every right beyond reading files and using bounded memory and time.

    Nothing of it can be taken back. A step that the system lacks is left out.

    Args:
        bounds: of memory and time.

    Returns:
        What is in force.
    """
    limited = _limit(bounds)
    drop_capabilities(platform.machine())
    steps = [(Mechanism.LIMITS, limited)]
    if sys.platform.startswith("linux"):
        process = os.getpid()
        steps += [
            (Mechanism.PRIVILEGES, prctl(NO_NEW_PRIVILEGES, ctypes.c_ulong(1))),
            (Mechanism.LANDLOCK, forbid_changing_files()),
            (Mechanism.SECCOMP, forbid_system_calls(process)),
        ]
    return tuple(mechanism for mechanism, in_force in steps if in_force)


def mechanisms_here() -> tuple[Mechanism, ...]:
    """Return what is in force in a confined process on this machine, tried on one.

    Raises:
        OSError: no process can be made.
    """
    receive, send = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        gc.freeze()
        try:
            found = [Mechanism.PARENT] if detach(parent, send) else []
            found += confine(Bounds(2**28, 10))
            os.write(send, json.dumps([mechanism.name for mechanism in found]).encode())
        finally:
            os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as answer:
        names = json.loads(answer.read() or b"[]")
    os.waitpid(child, 0)
    return tuple(mechanism for mechanism in Mechanism if mechanism.name in names)


def _limit(bounds: Bounds) -> bool:
    largest = max(_open_files(), default=0)
    memory = _address_space() + bounds.memory_bytes
    done = [
        set_hard_limit(resource.RLIMIT_CORE, 0),
        set_hard_limit(resource.RLIMIT_FSIZE, 0),
        set_hard_limit(resource.RLIMIT_NOFILE, largest + SPARE_FILES),
        set_hard_limit(resource.RLIMIT_CPU, bounds.seconds, SPARE_SECONDS),
        set_hard_limit(resource.RLIMIT_AS, memory),
    ]
    if hasattr(resource, "RLIMIT_NPROC"):
        # Neither processes nor threads; for root the kernel ignores it.
        done.append(set_hard_limit(resource.RLIMIT_NPROC, 0))
    # macOS takes a limit of address space and keeps nobody to it.
    return all(done) and not _can_map(2 * memory)


def _can_map(size: int) -> bool:
    try:
        mmap.mmap(-1, size).close()
    except (OSError, ValueError, OverflowError, MemoryError):
        return False
    return True


def _open_files() -> set[int]:
    """Numbers of open files; where the system does not list them, of the first thousand."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return {int(name) for name in os.listdir(folder)}  # noqa: PTH208
    numbers = set()
    for number in range(1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            numbers.add(number)
    return numbers


def _address_space() -> int:
    """Bytes of address space in use; where it is unknown, as much as any start needs."""
    try:
        # As bytes: a codec would be imported here, which in a removed folder Python 3.13 cannot.
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 64 * 2**30

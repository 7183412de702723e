"""Calls of the C library and the kernel that Python does not offer."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

NO_NEW_PRIVILEGES = 38
PARENT_DEATH_SIGNAL = 1
SECCOMP = 22
"""Options of prctl(2), from linux/prctl.h."""


@lru_cache(maxsize=1)
def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *values: Any) -> bool:
    """Call prctl(2) with up to four values; return whether it succeeded."""
    padded = [*values, *[ctypes.c_ulong(0)] * (4 - len(values))]
    return int(_library().prctl(ctypes.c_int(option), *padded)) == 0


def system_call(number: int, *values: Any) -> int:
    """Make a system call that the C library has no function for; below 0: it failed."""
    return int(_library().syscall(ctypes.c_long(number), *values))


PRIVATE, FIXED, ANONYMOUS, NO_RESERVE = 0x2, 0x10, 0x20, 0x4000
"""MAP_..., of asm-generic/mman.h."""


def map_memory(start: int, length: int, rights: int) -> bool:
    """Put empty memory of this process's own into a place, whatever is there; see mmap(2)."""
    call = _library().mmap
    call.restype = ctypes.c_void_p
    flags = PRIVATE | FIXED | ANONYMOUS | NO_RESERVE
    place = call(
        ctypes.c_void_p(start), ctypes.c_size_t(length), rights, flags, -1, ctypes.c_long(0)
    )
    return bool(place == start)


def protect_memory(start: int, length: int, rights: int) -> bool:
    """Set what may be done with memory; return whether that is allowed; see mprotect(2)."""
    return int(_library().mprotect(ctypes.c_void_p(start), ctypes.c_size_t(length), rights)) == 0

"""Memory that a process shares with others: a fork inherits it, and others see what it writes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from pathlib import Path

from mtspark.core.confinement.calls import map_memory, protect_memory

MAPS = Path("/proc/self/maps")
LINE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (...)s ", re.MULTILINE)
"""Of a shared mapping: begin, end, rights; see proc_pid_maps(5)."""
READ, WRITE, EXECUTE = 1, 2, 4
"""PROT_..., of linux/mman.h."""
LARGEST_COPY = 2**24
"""A larger mapping is replaced by zeros: what reads a file has no use for it."""


def leave_shared_memory() -> None:
    """Replace each mapping through which this process could change the memory of others.

    A copy, private to this process, takes its place, so that libraries which look there go on.
    Without /proc nothing is replaced.
    """
    try:
        lines = MAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for match in LINE.finditer(lines):
        start, end = int(match[1], 16), int(match[2], 16)
        rights = sum(
            bit
            for letter, bit in zip(match[3], (READ, WRITE, EXECUTE), strict=True)
            if letter != "-"
        )
        # Of a file that is open for reading only: nobody can make it writable.
        if not rights & WRITE and not protect_memory(start, end - start, rights | WRITE):
            continue
        _replace(start, end - start, rights)


def _replace(start: int, length: int, rights: int) -> None:
    content = b""
    if rights & READ and length <= LARGEST_COPY:
        # Not by reading the memory itself, which ends a process where the file has become shorter.
        with contextlib.suppress(OSError), Path("/proc/self/mem").open("rb", buffering=0) as memory:
            content = os.pread(memory.fileno(), length, start)
    if map_memory(start, length, READ | WRITE):
        ctypes.memmove(start, content, len(content))
        protect_memory(start, length, rights)

"""How much memory and disk is free, for checks before long work begins."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of this process's control group, as a container has them."""
MEMINFO = Path("/proc/meminfo")


def available_memory() -> int:
    """Bytes that this process can still take: the least of what is free and what is allowed.

    Swap is not counted. Limits of a control group are counted where they are those of this
    process's root, as in a container.
    """
    found = [_free()]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        allowed, taken = _number(GROUP / limit), _number(GROUP / used)
        if allowed is not None and taken is not None:
            found.append(allowed - taken)
    return max(0, min(found))


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is or will be."""
    whole = folder.absolute()
    return shutil.disk_usage(next(path for path in (whole, *whole.parents) if path.exists())).free


def size_text(size: int) -> str:
    """A number of bytes with its unit: ``6.6 GB``."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1000:,.1f} kB"


def _free() -> int:
    try:
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None

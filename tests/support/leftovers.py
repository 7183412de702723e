"""What processes may leave behind: names in shared memory, and sockets with a name.

Other tests and other programs make such names meanwhile. So a name counts only where no living
process but the tests' own holds it; those that were there before do not count either.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
SOCKETS = Path("/tmp")
PROCESSES = Path("/proc")


def names() -> set[Path]:
    """All names in shared memory, and all sockets; ordinary files come and go."""
    sockets = {path for path in SOCKETS.iterdir() if path.is_socket()}
    return sockets | set(SHARED_MEMORY.iterdir())


def left_behind(before: set[Path], seconds: float = 60) -> set[Path]:
    """Names that are new and stay, though nobody else who lives holds them."""
    deadline = time.monotonic() + seconds
    while True:
        # Those that have a new holder a moment later were caught between being made and held.
        left = {path for path in names() - before if _ours(path)} - _held_by_others()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _ours(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except OSError:
        return False


def _held_by_others() -> set[Path]:
    """Bound sockets, and names whose content another process has open or mapped.

    Compared by inode: a semaphore is mapped under a temporary name before it gets its own.
    """
    held: set[int] = set()
    for folder in PROCESSES.glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        # Any of them may end while it is looked at.
        with contextlib.suppress(OSError):
            lines = (folder / "maps").read_text().splitlines()
            held |= {int(line.split()[4]) for line in lines if f" {SHARED_MEMORY}/" in line}
        with contextlib.suppress(OSError):
            for handle in (folder / "fd").iterdir():
                if str(handle.readlink()).startswith(f"{SHARED_MEMORY}/"):
                    held.add(handle.stat().st_ino)
    found = set()
    for path in SHARED_MEMORY.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_ino in held:
                found.add(path)
    bound = (PROCESSES / "net" / "unix").read_text().splitlines()[1:]
    return found | {Path(line.split()[7]) for line in bound if len(line.split()) > 7}

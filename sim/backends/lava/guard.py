"""The guard over Lava's processes: whatever happens to the caller, nothing is left behind.

Lava forks a process for every part of a network and shares named memory between them. When
it is interrupted it hangs, and when its main process is killed all of that stays behind. So
:mod:`mtspark.sim.backends.lava.backend` starts this guard, leader of a session of its own, which
forks the worker (:mod:`mtspark.sim.backends.lava.worker`) and watches. When the caller closes its
end or is gone, or the worker has ended, the guard ends the whole group.

SIGTERM ends everything but Python's resource tracker, which then removes the shared memory
that it knows of and follows. A process may be hit between creating a name in /dev/shm and
registering or removing it, so the guard first stops all of them and notes which names they
hold; it removes those that are left in the end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.2
"""How often the guard looks whether the caller lives, should it have left its pipe open."""

STOP_S = 1.0
"""How long the group may take to stop before it is ended all the same."""

GRACE_S = 5.0
"""How long the group may take to end before it is killed."""

SHARED_MEMORY = Path("/dev/shm")
PROCESSES = Path("/proc")

_PR_SET_CHILD_SUBREAPER = 36


def guard(caller: int, connection_fd: int, life_fd: int) -> int:
    """Run the worker until it ends or the caller is gone, then leave nothing behind.

    Args:
        caller: process id of the backend's owner, this process's parent.
        connection_fd: the worker's end of the connection.
        life_fd: read end of a pipe that closes when the caller closes it, or dies.

    Returns:
        The exit code of the guard, 0.
    """
    _adopt_orphans()
    # Installed before the fork, so that no signal can end the guard and spare the rest.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Started by one that ignores it, the guard could not wait for the worker.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if os.getppid() != caller:
        return 0
    worker = os.fork()
    if worker == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.close(life_fd)
        from mtspark.sim.backends.lava.worker import work_and_exit

        work_and_exit(connection_fd)
    os.close(connection_fd)
    while os.getppid() == caller and os.waitpid(worker, os.WNOHANG) == (0, 0):
        if select.select([life_fd], [], [], POLL_S)[0]:
            break
    end_group()
    return 0


def end_group() -> None:
    """End every other process of this group and remove the shared memory that they held."""
    names = _names_held_by(_stop_all())
    group = os.getpgrp()
    os.killpg(group, signal.SIGTERM)
    os.killpg(group, signal.SIGCONT)
    if not _all_ended(GRACE_S):
        for number, command in _members():
            if b"resource_tracker" not in command:
                _send(number, signal.SIGKILL)
        _all_ended(GRACE_S)
    for name in names:
        name.unlink(missing_ok=True)


def _adopt_orphans() -> None:
    """Let processes whose parent ends become this one's, so that it can wait for them."""
    import ctypes

    # Where this call does not exist (not Linux) the guard waits for the worker only.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _all_ended(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return True
    return False


def _stop_all() -> list[int]:
    """Stop every other process of the group, also those that are being forked meanwhile."""
    stopped: set[int] = set()
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        running = {number for number, _ in _members() if _state(number) not in "TtZX"}
        stopped |= running
        if not running:
            break
        for number in running:
            _send(number, signal.SIGSTOP)
        time.sleep(0.001)
    return sorted(stopped | {number for number, _ in _members()})


def _send(number: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, what)


def _members() -> Iterator[tuple[int, bytes]]:
    """Other processes of this group, with their command lines; none where there is no /proc."""
    group, me = os.getpgrp(), os.getpid()
    for folder in PROCESSES.glob("[0-9]*"):
        number = int(folder.name)
        # Any of them may end while it is looked at.
        with contextlib.suppress(OSError):
            if number != me and os.getpgid(number) == group:
                yield number, (folder / "cmdline").read_bytes()


def _state(number: int) -> str:
    """One letter as in the manual of proc; X for a process that is gone."""
    try:
        return (PROCESSES / str(number) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _names_held_by(numbers: list[int]) -> list[Path]:
    """Names in shared memory whose content one of the processes has open or mapped.

    Compared by inode: a semaphore is mapped under a temporary name before it gets its own.
    """
    held = set()
    for number in numbers:
        folder = PROCESSES / str(number)
        with contextlib.suppress(OSError):
            lines = (folder / "maps").read_text().splitlines()
            held |= {int(line.split()[4]) for line in lines if f" {SHARED_MEMORY}/" in line}
        with contextlib.suppress(OSError):
            for handle in (folder / "fd").iterdir():
                if str(handle.readlink()).startswith(f"{SHARED_MEMORY}/"):
                    held.add(handle.stat().st_ino)
    names = []
    with contextlib.suppress(OSError):
        for name in SHARED_MEMORY.iterdir():
            with contextlib.suppress(OSError):
                if name.stat().st_ino in held:
                    names.append(name)
    return names


if __name__ == "__main__":
    sys.exit(guard(*(int(argument) for argument in sys.argv[1:4])))

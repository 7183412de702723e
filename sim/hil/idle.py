"""How long another process has done nothing, which a deadline cannot tell on a busy computer."""

from __future__ import annotations

import time
from pathlib import Path

RUNS, STOPPED = (b"R", b"D"), (b"T", b"t")
"""States of Linux, proc_pid_stat(5): running, or waiting for a processor or a disk; stopped."""
STATE, USER_TICKS, SYSTEM_TICKS = 0, 11, 12
"""Places in a process's line of /proc behind its name."""


class Idle:
    """Watches a process; waiting for a processor, or for a disk, is no idleness.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ticks: int | None = None
        self._since_s = time.monotonic()
        self._heard = False

    def heard(self) -> None:
        """Take note that the process has said something."""
        self._heard = True
        self._since_s = time.monotonic()

    def seconds(self) -> float:
        """Seconds in which it neither computed nor said anything; to be asked again and again.

        Where the system does not say what a process does, those since it was last heard, and 0
        before.
        """
        words = self._words()
        if not words:
            return time.monotonic() - self._since_s if self._heard else 0.0
        ticks = int(words[USER_TICKS]) + int(words[SYSTEM_TICKS])
        if ticks != self._ticks or words[STATE] in RUNS:
            self._ticks, self._since_s = ticks, time.monotonic()
        return time.monotonic() - self._since_s

    @property
    def stopped(self) -> bool:
        """Whether it was stopped (SIGSTOP, Ctrl-Z) and would go on; False where nobody knows."""
        return self._words()[:1] in ([state] for state in STOPPED)

    def _words(self) -> list[bytes]:
        try:
            # The name before the state is in brackets and may hold anything.
            line = Path(f"/proc/{self._pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return []
        return line if len(line) > SYSTEM_TICKS else []

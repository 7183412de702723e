"""Where the console scripts begin: quiet on Ctrl-C, and patient with outputs, from the first line.

The command line itself takes a moment to load. Nothing has begun by then, so that an interruption
ends the process at once, without the traceback of a half-loaded module.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mtspark.core.interrupts import end_at_once, interrupt_after_import

OURS = (signal.default_int_handler, interrupt_after_import)
"""Handlers of Ctrl-C that no caller has set."""


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """End at once on Ctrl-C within a block that only loads libraries.

    An import that is cut short would print a traceback, or swallow the interruption. A handler
    that somebody else has set stays.
    """
    before = signal.getsignal(signal.SIGINT)
    mine = threading.current_thread() is threading.main_thread() and before in OURS
    if mine:
        signal.signal(signal.SIGINT, end_at_once)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


class _Messages(io.FileIO):
    """An output for messages, which loses what it cannot write.

    A reader that has gone, a full disk below a log or a closed terminal is no reason to end a
    training of days.
    """

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def open_outputs() -> None:
    """Give the process all three standard streams, and a stderr that never ends its work.

    Of a stream that is closed, the next file that is opened would get the number, and a library in
    C would print into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 (as long as the process)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        raw = _Messages(2, "w", closefd=False)
        encoding = getattr(sys.stderr, "encoding", None)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=True
        )


def main() -> None:
    """Run `mtspark`."""
    with quiet_interrupts():
        open_outputs()
        from mtspark.cli.main import main as run
    run()


def export_main() -> None:
    """Run `mtspark-export CHECKPOINT`, which is `mtspark export CHECKPOINT`."""
    with quiet_interrupts():
        open_outputs()
        from mtspark.cli.main import export_main as run
    run()

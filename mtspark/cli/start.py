"""Where the console scripts begin: Ctrl-C is quiet from the first line on.

The command line itself takes a moment to load. Nothing has begun by then, so that an interruption
ends the process at once, without the traceback of a half-loaded module.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """End at once on Ctrl-C within a block that only loads libraries.

    An import that is cut short would print a traceback, or swallow the interruption. A handler
    that somebody else has set stays.
    """
    mine = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if mine:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: Any) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def main() -> None:
    """Run `mtspark`."""
    with quiet_interrupts():
        from mtspark.cli.main import main as run
    run()


def export_main() -> None:
    """Run `mtspark-export CHECKPOINT`, which is `mtspark export CHECKPOINT`."""
    with quiet_interrupts():
        from mtspark.cli.main import export_main as run
    run()

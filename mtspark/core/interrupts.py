"""Ctrl-C where Python cannot hand it on: in callbacks from C, and in finalisers."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AGAIN_S = 0.02
"""Long enough for a callback to return to C, too short to be noticed."""


@contextmanager
def heeded_interrupts() -> Iterator[None]:
    """Raise a KeyboardInterrupt again that a callback or a finaliser within the block swallows.

    A signal's handler runs wherever Python is. Where that is a callback from C, as those by which
    numba keeps compiled code, or a finaliser, Python prints what the handler raises and goes on
    (`sys.unraisablehook`). So the signal is sent once more, until it meets code that it can end.

    Raises:
        KeyboardInterrupt: at the latest when the block ends, also where it ends with an error:
            what was interrupted in a callback may lack what the callback was to do.
    """
    before = sys.unraisablehook
    again: list[threading.Timer] = []

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        timer = threading.Timer(AGAIN_S, _interrupt_main_thread)
        timer.daemon = True
        again[:] = [timer]
        timer.start()

    def swallowed() -> bool:
        """Whether one still waits to be sent again; it is not, then."""
        if not again or threading.current_thread() is not threading.main_thread():
            return False
        timer = again.pop()
        waits = timer.is_alive()
        timer.cancel()
        return waits

    sys.unraisablehook = hook
    try:
        yield
    except Exception as error:
        if swallowed():
            raise KeyboardInterrupt from error
        raise
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before
    if swallowed():
        raise KeyboardInterrupt


def _interrupt_main_thread() -> None:
    """Send the first of the signals that a handler of Python ends programs by."""
    number = threading.main_thread().ident
    for ending in (signal.SIGINT, signal.SIGTERM):
        if number is not None and callable(signal.getsignal(ending)):
            signal.pthread_kill(number, ending)
            return

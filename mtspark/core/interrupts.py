"""Ctrl-C where Python cannot hand it on: in callbacks from C, and in finalisers."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import CodeType
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
    waiting: list[None] = []

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        waiting.append(None)
        threading.Thread(target=send_again, daemon=True).start()

    def send_again() -> None:
        time.sleep(AGAIN_S)
        while _main_thread_runs(hook.__code__):
            time.sleep(AGAIN_S)
        if taken():
            _interrupt_main_thread()

    def taken() -> bool:
        """Take one that waits to be sent again; whoever takes it raises it."""
        with suppress(IndexError):
            waiting.pop()
            return True
        return False

    def left() -> bool:
        return threading.current_thread() is threading.main_thread() and taken()

    sys.unraisablehook = hook
    try:
        yield
    except Exception as error:
        if left():
            raise KeyboardInterrupt from error
        raise
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before
    if left():
        raise KeyboardInterrupt


def _main_thread_runs(code: CodeType) -> bool:
    """Whether a function is in the stack of the main thread."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def _interrupt_main_thread() -> None:
    """Send the first of the signals that a handler of Python ends programs by."""
    number = threading.main_thread().ident
    for ending in (signal.SIGINT, signal.SIGTERM):
        if number is not None and callable(signal.getsignal(ending)):
            signal.pthread_kill(number, ending)
            return

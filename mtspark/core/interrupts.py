"""Ctrl-C where Python cannot hand it on: in callbacks from C, in finalisers, and in imports."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, NoReturn

AGAIN_S = 0.02
"""Long enough for a callback to return to C, too short to be noticed."""
IMPORTS = "<frozen importlib._bootstrap>"
"""The file of the functions that import modules."""
INTERRUPTED = 130
"""The exit code of a process that Ctrl-C has ended."""


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
    # What is taken has been sent by the time the block ends: a signal that came later would meet
    # code that has nothing to do with it.
    sending = threading.Lock()

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        waiting.append(None)
        threading.Thread(target=send_again, daemon=True).start()

    def send_again() -> None:
        time.sleep(AGAIN_S)
        _wait_while_main_thread_runs(lambda frame: frame.f_code is code)
        with sending:
            if waiting:
                waiting.pop()
                _interrupt_main_thread()

    def left() -> bool:
        """Take one that waits to be sent again; whoever takes it raises it."""
        if threading.current_thread() is not threading.main_thread():
            return False
        with sending:
            if not waiting:
                return False
            waiting.pop()
            return True

    code: CodeType = hook.__code__

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


@contextmanager
def patient_imports() -> Iterator[None]:
    """Let Ctrl-C within the block wait for the end of an import; a second one ends the process.

    An import that is cut short leaves half a module behind, and one that C++ has called (PyTorch's
    do) ends the process with SIGABRT. A handler that somebody else has set stays.
    """
    mine = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if mine:
        signal.signal(signal.SIGINT, interrupt_after_import)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt_after_import(number: int, frame: FrameType | None) -> None:
    """Raise a KeyboardInterrupt; while a module is being imported, only after that.

    The handler of SIGINT within :func:`patient_imports`.

    Raises:
        KeyboardInterrupt: no module is being imported.
    """
    if not _within(frame, _imports):
        raise KeyboardInterrupt
    if any(thread.name == IMPORTS for thread in threading.enumerate()):
        end_at_once()
    threading.Thread(target=_interrupt_after_import, name=IMPORTS, daemon=True).start()


def end_at_once(*_: Any) -> NoReturn:
    """End this process as Ctrl-C ends it, with one line and without any cleaning up."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _interrupt_after_import() -> None:
    _wait_while_main_thread_runs(_imports)
    _interrupt_main_thread()


def _imports(frame: FrameType) -> bool:
    return frame.f_code.co_filename == IMPORTS


def _within(frame: FrameType | None, which: Callable[[FrameType], bool]) -> bool:
    """Whether a frame is such a one, or one of its callers is."""
    while frame is not None:
        if which(frame):
            return True
        frame = frame.f_back
    return False


def _wait_while_main_thread_runs(which: Callable[[FrameType], bool]) -> None:
    """Wait while such a frame is in the stack of the main thread."""
    while _within(sys._current_frames().get(threading.main_thread().ident or 0), which):
        time.sleep(AGAIN_S)


def _interrupt_main_thread() -> None:
    """Send the first of the signals that a handler of Python ends programs by."""
    number = threading.main_thread().ident
    for ending in (signal.SIGINT, signal.SIGTERM):
        if number is not None and callable(signal.getsignal(ending)):
            signal.pthread_kill(number, ending)
            return

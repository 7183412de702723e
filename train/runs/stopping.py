"""A stop by a signal: what is under way is finished and saved first.

Ctrl-C, SIGTERM (a batch system, a shutdown) and SIGHUP (a closed terminal) ask a training loop to
stop after the update that it is making. A second signal ends it at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mtspark.core.interrupts import interrupt_after_import

SIGNALS: dict[str, tuple[Any, ...]] = {
    "SIGINT": (signal.default_int_handler, interrupt_after_import),
    "SIGTERM": (signal.SIG_DFL,),
    "SIGHUP": (signal.SIG_DFL,),
}
"""Signals that ask for a stop, and the handlers that each may have when no caller has set one."""


class StoppedError(KeyboardInterrupt):
    """A training run was stopped by a signal, and its state is saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class StopRequest:
    """Whether a signal has asked for a stop.

    Attributes:
        signal: its number; None before.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Keep the first signal; a second one ends at once.

        Raises:
            KeyboardInterrupt: it is the second.
        """
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Take these signals as requests within the block, and give their handlers back after it.

    A handler that the caller has set stays, as does a signal that is ignored (nohup). Python lets
    only the main thread set handlers; elsewhere no signal is taken.
    """
    request = StopRequest()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name, unset in SIGNALS.items():
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in unset:
                before[number] = signal.signal(number, request.note)
    try:
        yield request
    finally:
        _give_back(before)


def _give_back(before: dict[int, Any]) -> None:
    """Set all handlers, also where a signal that comes just now raises."""
    while before:
        number, handler = before.popitem()
        try:
            signal.signal(number, handler)
        except BaseException:
            before[number] = handler
            _give_back(before)
            raise

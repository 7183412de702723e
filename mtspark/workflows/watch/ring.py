"""The latest messages, for readers of any speed: who is slow misses some, and costs no memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

KEPT = 150


class Ring:
    """Numbered messages, of which the last ones are kept; of use to several threads.

    Args:
        keep: how many.
    """

    def __init__(self, keep: int = KEPT) -> None:
        self._kept: deque[tuple[int, str]] = deque(maxlen=keep)
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._number = 0

    def add(self, message: str) -> None:
        """Keep a message and wake who listens."""
        with self._lock:
            self._number += 1
            self._kept.append((self._number, message))
            listeners = list(self._listeners)
        for wake in listeners:
            wake()

    def after(self, number: int) -> tuple[int, str] | None:
        """Return the oldest message that is kept with a larger number; None where there is none."""
        with self._lock:
            if not self._kept or self._kept[-1][0] <= number:
                return None
            first = self._kept[0][0]
            return self._kept[max(0, number + 1 - first)]

    def clear(self) -> None:
        """Forget all messages; the next one has the next number."""
        with self._lock:
            self._kept.clear()

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have a function called, in any thread, after each message; return what ends that."""
        with self._lock:
            self._listeners.append(wake)

        def end() -> None:
            with self._lock:
                self._listeners.remove(wake)

        return end

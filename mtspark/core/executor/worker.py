"""A worker in a process of this computer: orders come by its stdin, answers go by its stdout."""

from __future__ import annotations

import os
import queue
import signal
import threading
from typing import IO

from mtspark.core.process import one_thread_each

LENGTH_BYTES = 8


def read_message(stream: IO[bytes]) -> bytes | None:
    """The next message of a stream; None at its end, also in the middle of one."""
    length = stream.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    wanted = int.from_bytes(length, "little")
    message = stream.read(wanted)
    return message if len(message) == wanted else None


def write_message(stream: IO[bytes], message: bytes) -> None:
    """Write a message, its length first.

    Raises:
        OSError: nobody reads any more.
    """
    stream.write(len(message).to_bytes(LENGTH_BYTES, "little") + message)
    stream.flush()


def main() -> None:
    """Do what comes until the caller hangs up, or is gone."""
    # Ctrl-C goes to every process of a terminal; the caller ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one_thread_each()
    given, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library prints must not come between the answers, nor read the orders.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def receive() -> None:
        while (message := read_message(given)) is not None:
            orders.put(message)
        # Nobody wants the answer of what is being done.
        os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    from mtspark.core.executor.work import perform

    while True:
        folder, order = orders.get(), orders.get()
        write_message(answers, perform(order, folder=folder.decode() or None))


if __name__ == "__main__":
    main()

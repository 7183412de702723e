"""The process in which Lava runs, forked and watched by :mod:`mtspark.sim.backends.lava.guard`."""

from __future__ import annotations

import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from mtspark.core.chip_network import ChipNetwork
from mtspark.core.errors import MtsparkError
from mtspark.deploy.lava import LavaChip


def work_and_exit(connection_fd: int) -> NoReturn:
    """Serve, then leave without Python's exit handlers, which Lava makes hang.

    Args:
        connection_fd: this end of the connection to the backend.
    """
    code = 0
    try:
        serve(Connection(connection_fd))
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(connection: Connection[Any, Any]) -> None:
    """Answer requests until the caller hangs up or something fails.

    The first message is (network, stock, trace, hardware). Every later one is (frame, task) and is
    answered by ("done", sent, spikes, membranes) as in :class:`mtspark.deploy.lava.build.LavaChip`,
    or by ("failed", text), after which the worker ends.
    """
    network: ChipNetwork
    network, stock, trace, hardware = connection.recv()
    chip: LavaChip | None = None
    while True:
        try:
            frame, task = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            if chip is None:
                # Not earlier: stock neurons take the thresholds of the first decision's task.
                chip = LavaChip(network, stock=stock, task=task, trace=trace, hardware=hardware)
            chip.decide(frame, task)
        except Exception as error:
            traceback.print_exc()
            kind = "" if isinstance(error, MtsparkError) else f"{type(error).__name__}: "
            connection.send(("failed", " ".join(f"{kind}{error}".split())))
            return
        connection.send(("done", chip.sent, chip.spikes, chip.membranes))

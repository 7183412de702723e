"""The other end of :mod:`mtspark.sim.lava_runner`: a guard, and under it the process of Lava.

Lava forks a process for every part of a network and shares named memory between them. When
it is interrupted it hangs, and when its main process is killed all of that stays behind. So
the guard, which is the leader of a session of its own, starts the worker and watches. When
the caller closes its end or is gone, or the worker has ended, the guard ends the whole
group: SIGTERM ends everything but Python's resource tracker, which then removes the shared
memory and follows.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from mtspark.core.chip_network import ChipNetwork
    from mtspark.deploy.lava_build import LavaChip

POLL_S = 0.2
"""How often the guard looks whether the caller lives, should it have left its pipe open."""

GRACE_S = 10.0
"""How long the group may take to end before it is killed for good."""

_PR_SET_CHILD_SUBREAPER = 36


def guard(caller: int, connection_fd: int, life_fd: int) -> int:
    """Run the worker until it ends or the caller is gone, then leave nothing behind.

    Args:
        caller: process id of the backend's owner, this process's parent.
        connection_fd: the worker's end of the connection.
        life_fd: read end of a pipe that closes when the caller closes it, or dies.

    Returns:
        The exit code of the guard, 0.
    """
    _adopt_orphans()
    # Installed before the fork, so that no signal can end the guard and spare the rest.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.getppid() != caller:
        return 0
    worker = os.fork()
    if worker == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.close(life_fd)
        _work_and_exit(connection_fd)
    os.close(connection_fd)
    while os.getppid() == caller and os.waitpid(worker, os.WNOHANG) == (0, 0):
        if select.select([life_fd], [], [], POLL_S)[0]:
            break
    _end_group()
    return 0


def _adopt_orphans() -> None:
    """Let processes whose parent ends become this one's, so that it can wait for them."""
    import ctypes

    # Where this call does not exist (not Linux) the guard waits for the worker only.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_group() -> None:
    group = os.getpgrp()
    os.killpg(group, signal.SIGTERM)
    os.killpg(group, signal.SIGCONT)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return
    os.killpg(group, signal.SIGKILL)


def _work_and_exit(connection_fd: int) -> None:
    """Serve, then leave without Python's exit handlers, which Lava makes hang."""
    from multiprocessing.connection import Connection

    code = 0
    try:
        serve(Connection(connection_fd))
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(connection: Connection[Any, Any]) -> None:
    """Answer requests until the caller hangs up or something fails.

    The first message is (network, stock, trace). Every later one is (frame, task) and is
    answered by ("done", spikes, membranes) as in :class:`mtspark.deploy.lava_build.LavaChip`,
    or by ("failed", text), after which the worker ends.
    """
    network, stock, trace = connection.recv()
    chip: LavaChip | None = None
    while True:
        try:
            frame, task = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            # Built here and not earlier: stock neurons take the thresholds of this task.
            chip = chip or _build(network, stock, trace, task)
            chip.decide(frame, task)
        except Exception as error:
            import traceback

            traceback.print_exc()
            connection.send(("failed", f"{type(error).__name__}: {error}"))
            return
        connection.send(("done", chip.spikes, chip.membranes))


def _build(network: ChipNetwork, stock: bool, trace: bool, task: int) -> LavaChip:
    from mtspark.deploy.lava_build import LavaChip

    return LavaChip(network, stock=stock, task=task, trace=trace)


if __name__ == "__main__":
    sys.exit(guard(*(int(argument) for argument in sys.argv[1:4])))

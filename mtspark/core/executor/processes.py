"""Workers in processes of this computer."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from mtspark.core.errors import BackendFailedError, one_line
from mtspark.core.executor.job import Job
from mtspark.core.executor.pool import Deaths
from mtspark.core.executor.worker import read_message, write_message
from mtspark.core.process import (
    THREAD_VARIABLES,
    last_words,
    own_environment,
    own_module,
    processors,
)

END_LIMIT_S = 5.0
"""For a process to end whose answers have ended."""
STOP_LIMIT_S = 30.0
"""For a worker that is told to end: a training finishes its update and saves it first."""


class ProcessPool:
    """Processes of this computer.

    Args:
        workers: how many at most; None: one a processor.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._most = workers or processors()
        self._workers: dict[int, _Worker] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="mtspark-jobs-")
        self._packages: dict[str, Path] = {}

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        limit = time.monotonic() + STOP_LIMIT_S
        while self._workers:
            _, worker = self._workers.popitem()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, limit - time.monotonic()))
            worker.end()
        self._folder.cleanup()

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers that there are."""
        return [worker.process.pid for worker in self._workers.values()]

    def answers(self, jobs: Sequence[Job]) -> Iterator[tuple[int, bytes]]:
        """Yield index and answer of each job, as they come; see :class:`Pool`."""
        waiting, deaths = deque(range(len(jobs))), Deaths()
        orders = [job.order() for job in jobs]
        working: dict[int, int] = {}
        left = len(jobs)
        with selectors.DefaultSelector() as ready:
            while left:
                idle = deque(at for at in self._workers if at not in working)
                while waiting and len(working) < self._most:
                    try:
                        at = idle.popleft() if idle else self._start(ready)
                    except OSError as error:
                        self._go_on_with_fewer(error, busy=len(working))
                        break
                    index = waiting.popleft()
                    working[at] = index
                    self._workers[at].send(self._package_folder(jobs[index]), orders[index])
                for key, _ in ready.select():
                    at = key.data
                    answer = self._workers[at].answer()
                    index = working.pop(at)
                    if answer is None:
                        ready.unregister(key.fileobj)
                        how = self._workers.pop(at).how_it_ended()
                        deaths.add(index, jobs[index], how)
                        waiting.appendleft(index)
                        continue
                    left -= 1
                    yield index, answer

    def _start(self, ready: selectors.BaseSelector) -> int:
        worker = _Worker()
        at = worker.process.pid
        self._workers[at] = worker
        ready.register(worker.stdout, selectors.EVENT_READ, at)
        return at

    def _go_on_with_fewer(self, error: OSError, *, busy: int) -> None:
        """Ask for no more workers than there are.

        Raises:
            BackendFailedError: there are none.
        """
        if not busy:
            raise BackendFailedError(
                f"--executor processes: no worker can be started ({one_line(error, 100)})"
            ) from error
        self._most = busy

    def _package_folder(self, job: Job) -> str:
        """Where the job's files lie, empty for none; one copy for all workers."""
        if job.package is None:
            return ""
        digest = job.package.digest
        if digest not in self._packages:
            folder = Path(self._folder.name) / digest
            job.package.write(folder)
            self._packages[digest] = folder
        return str(self._packages[digest])


class _Worker:
    """A process that waits for orders."""

    def __init__(self) -> None:
        chosen = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
        # A prompt or a notebook finds modules in the current folder, which stands there as "".
        found = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        self.process = subprocess.Popen(
            own_module("mtspark.core.executor.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**own_environment(), **chosen, "PYTHONPATH": found},
            # A stop by Ctrl-Z or a signal to the terminal's group is the caller's to handle.
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self.stdout = self.process.stdin, self.process.stdout

    def send(self, folder: str, order: bytes) -> None:
        """Give an order; a worker that is gone says so by the end of its answers."""
        try:
            for message in (folder.encode(), order):
                write_message(self._stdin, message)
        except OSError:
            return

    def answer(self) -> bytes | None:
        """The answer that has come; None where the worker is gone."""
        return read_message(self.stdout)

    def how_it_ended(self) -> str:
        """Why a worker is gone, in a few words."""
        # Its answers have ended, so that it ends, too; or it hangs, and is ended here.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_LIMIT_S)
        self.process.kill()
        code = self.process.wait()
        self._log.seek(0)
        words = last_words(self._log.read().decode("utf-8", errors="replace"))
        self.end()
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit status {code}: {words[:120]}"

    def end(self) -> None:
        """End it at once; safe to call twice."""
        self.process.kill()
        self.process.wait()
        for stream in (self._stdin, self.stdout, self._log):
            with contextlib.suppress(OSError):
                stream.close()

"""Lava as a backend that plays: in a session of its own, under a guard, with a time limit.

See :mod:`mtspark.sim.backends.lava.guard` for what happens when the caller is interrupted
or killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from multiprocessing import Pipe
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Activity, ChipTrace, Decision
from mtspark.core.chip_network import INPUT, ChipNetwork, ReadoutKind
from mtspark.core.errors import BackendFailedError, BackendMissingError, BadRequestError, one_line
from mtspark.core.process import PYTHON_ERROR, last_words, own_environment, own_module
from mtspark.deploy.lava import check_fits_lava, installed_lava
from mtspark.sim.backends.reference import check_request

CLOSE_TIMEOUT_S = 60.0
"""For the guard to end everything, which takes a second, and on a busy machine many. Killed before
it is done, it would leave shared memory behind."""


class LavaBackend:
    """A chip network on Lava; state is kept from one decision to the next.

    There is one chip, so a batch of frames is handled frame by frame, in order. The network
    is compiled at the first decision, which takes seconds more than the next ones. Closing,
    a failure, or the end of this process for whatever reason ends all of Lava's processes
    and removes its shared memory.

    Args:
        network: what to run.
        stock: use Lava's own Dense, Sparse and LIFReset only, for one task.
        task: of a stock network; may be left out where there is only one.
        trace: record membranes of all populations, so that `decide` can return traces.
        time_limit_s: for one decision (of one frame), compilation included.
        hardware: ask Lava for a Loihi 2 board; its compiler must be there, which is not checked.

    Raises:
        BackendMissingError: Lava is not installed.
        BadNetworkError: the network breaks a rule, or could overflow Lava's 32-bit sums.
        BadRequestError: stock with several tasks and none named, or an unknown one.
        BackendFailedError: no process could be started for Lava.
    """

    def __init__(
        self,
        network: ChipNetwork,
        *,
        stock: bool = False,
        task: int | None = None,
        trace: bool = False,
        time_limit_s: float = 120,
        hardware: bool = False,
    ) -> None:
        self.name = "lava-stock" if stock else "lava"
        self._guard: subprocess.Popen[bytes] | None = None
        if installed_lava() is None:
            raise BackendMissingError(
                f"the backend {self.name} needs lava-nc, which is not installed; "
                "run `mtspark install-lava`"
            )
        check_fits_lava(network, stock=stock)
        if stock and task is None and len(network.tasks) > 1:
            raise BadRequestError(
                f"{self.name} runs one task at a time and this network has "
                f"{len(network.tasks)}; name one"
            )
        if task is not None and not 0 <= task < len(network.tasks):
            raise BadRequestError(
                f"task {task}: this network has tasks 0 to {len(network.tasks) - 1}"
            )
        self.network = network
        self._only_task = (task or 0) if stock else None
        self._trace = trace
        self._time_limit_s = time_limit_s
        self._options = (stock, trace, hardware)
        self._launch()

    def start(self, batch: int) -> None:
        """Put the one chip at rest: where it has decided, Lava is started anew.

        Raises:
            BadRequestError: it is closed, or more than one chip is asked for.
            BackendFailedError: no process could be started for Lava.
        """
        if self._guard is None:
            raise self._closed()
        if batch != 1:
            raise BadRequestError(f"{self.name} is one chip; play its games one at a time")
        if not self._at_rest:
            self.close()
            self._launch()

    def keep(self, members: NDArray[np.int64]) -> None:
        """Nothing to do: there is one chip."""

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Run one decision for each frame of a batch, in order.

        Args:
            frames: uint8 (batch, *input shape), or (batch, T, *input shape) of a series.
            task: row of the threshold arrays; the backend lava switches where it changes.
            trace: return every spike and membrane, (T + L, batch, *shape) by population.

        Raises:
            BadRequestError: wrong frames, no such task, another task than the stock network
                was built for, a trace from a backend that was built without, or a closed one.
            BackendFailedError: Lava died, failed, or ran past the time limit.
        """
        check_request(self.network, frames, task)
        if self._only_task is not None and task != self._only_task:
            raise BadRequestError(
                f"{self.name} was built for task {self._only_task} and cannot switch to {task}; "
                "use the backend lava"
            )
        if trace and not self._trace:
            raise BadRequestError(f"{self.name} was built without trace; build it with trace=True")
        if self._guard is None:
            raise self._closed()
        self._at_rest = False
        try:
            records = [self._ask(frame, task) for frame in frames]
        except BaseException:
            # Also after Ctrl-C: an answer that nobody waited for must not reach the next call.
            self.close()
            raise
        sent = np.stack([record[0] for record in records])
        spikes = _joined([record[1] for record in records])
        membranes = _joined([record[2] for record in records])
        readout = self.network.readout
        if readout.kind is ReadoutKind.SPIKES:
            own = self.network.window(readout.population)
            read = spikes[readout.population][own].sum(axis=0, dtype=np.int64)
        else:
            read = membranes[readout.population][-1].astype(np.int64)
        return Decision(
            values=read * readout.scale,
            activity=self._activity(sent, spikes),
            trace=ChipTrace(
                spikes=spikes,
                membranes={name: rows.astype(np.int64) for name, rows in membranes.items()},
            )
            if trace
            else None,
        )

    def close(self) -> None:
        """End all of Lava's processes and remove its shared memory; safe to call twice."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        os.close(self._life)
        self._connection.close()
        try:
            guard.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            guard.wait()
        self._log.close()

    def __enter__(self) -> LavaBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _closed(self) -> BadRequestError:
        return BadRequestError(f"{self.name} is closed; build a new one")

    def _launch(self) -> None:
        self._at_rest = True
        self._connection, theirs = Pipe()
        watched, self._life = os.pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        handles = (theirs.fileno(), watched)
        command = own_module("mtspark.sim.backends.lava.guard", str(os.getpid()))
        try:
            self._guard = subprocess.Popen(
                [*command, *map(str, handles)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=handles,
                start_new_session=True,
                # One thread a library: Lava's many processes would start one for every core.
                env=own_environment(),
            )
        except BaseException as error:
            os.close(self._life)
            self._connection.close()
            self._log.close()
            if not isinstance(error, OSError):
                raise
            raise BackendFailedError(
                f"{self.name}: no process for Lava ({one_line(error)})"
            ) from error
        finally:
            theirs.close()
            os.close(watched)
        try:
            self._connection.send((self.network, *self._options))
        except ConnectionError as error:
            words = self._last_words()
            self.close()
            raise BackendFailedError(f"{self.name}: no process for Lava ({words})") from error

    def _ask(self, frame: NDArray[np.uint8], task: int) -> tuple[Any, Any, Any]:
        """What the input sent, spikes and membranes of one decision."""
        try:
            self._connection.send((frame, task))
            if not self._connection.poll(self._time_limit_s):
                raise BackendFailedError(
                    f"{self.name}: no answer within {self._time_limit_s:g} s, so Lava was ended; "
                    "raise the time limit or use the backend reference"
                )
            outcome, *rest = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise BackendFailedError(
                f"{self.name}: Lava's process ended unexpectedly ({self._last_words()})"
            ) from error
        if outcome == "failed":
            raise BackendFailedError(f"{self.name}: {rest[0]}")
        return rest[0], rest[1], rest[2]

    def _last_words(self) -> str:
        """The last line of what Lava wrote that names an error."""
        self._log.seek(0)
        text = self._log.read().decode("utf-8", errors="replace")
        return last_words(text, PYTHON_ERROR)

    def _activity(self, sent: NDArray[np.int64], spikes: dict[str, NDArray[np.bool_]]) -> Activity:
        """Count what was sent; the source drains in silence."""
        window, drain = {INPUT: sent}, {INPUT: np.zeros_like(sent)}
        for name, rows in spikes.items():
            counts = rows.sum(axis=0, dtype=np.int64)
            window[name] = rows[self.network.window(name)].sum(axis=0, dtype=np.int64)
            drain[name] = counts - window[name]
        return Activity(window=window, drain=drain)


def _joined(records: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Records of single decisions, (steps, *shape) each, as one with a batch axis."""
    return {name: np.stack([record[name] for record in records], axis=1) for name in records[0]}

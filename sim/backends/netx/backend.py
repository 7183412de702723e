"""lava-dl's netx as a backend: the ``.net`` file in an environment and process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtspark.core.backend import Activity, ChipTrace, Decision
from mtspark.core.chip_network import INPUT, ChipNetwork, check_network
from mtspark.core.errors import BackendFailedError, BadNetworkError, BadRequestError, one_line
from mtspark.core.process import ANY_LINE, NAMES_AN_ERROR, foreign_environment, last_words
from mtspark.deploy.formats import drives_neurons_directly, save_netx
from mtspark.deploy.lava import netx_python
from mtspark.sim.backends.reference import ReferenceChip, check_request

WORKER = Path(__file__).with_name("worker.py")
END_S = 10.0
"""How long Lava may take to end before it is killed."""


class NetxBackend:
    """A chip network in lava-dl's netx, written to a ``.net`` file first.

    Every call starts from rest in a new process, which takes seconds to start.

    Args:
        network: what to run.
        task: whose thresholds are written.
        time_limit_s: for one call.

    Raises:
        BackendMissingError: lava-dl is not installed.
        BadNetworkError: netx cannot hold the network, or runs it otherwise.
    """

    name = "netx"

    def __init__(self, network: ChipNetwork, task: int = 0, *, time_limit_s: float = 3600) -> None:
        self._loops = [link for link in network.connections if link.recurrent]
        self._check_loops(network, task)
        self._python = netx_python()
        self.network, self._task, self._time_limit_s = network, task, time_limit_s
        self._folder = tempfile.TemporaryDirectory(prefix="mtspark-netx-")
        self._file = Path(self._folder.name) / "network.net"
        save_netx(network, self._file, task)
        first = next(link for link in network.connections if link.source == INPUT)
        self._direct = drives_neurons_directly(network, first)

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Run the decision of each frame, in order.

        The trace holds each population's window; the steps before and after it, in which
        messages of other decisions arrive, are zeros.

        Args:
            frames: uint8 (batch, *input shape), or (batch, T, *input shape) of a series.
            task: the one that was written.
            trace: return spikes and membranes.

        Raises:
            BadRequestError: wrong frames, or another task.
            BackendFailedError: lava-dl failed or ran past the time limit.
        """
        check_request(self.network, frames, task)
        if task != self._task:
            raise BadRequestError(f"this netx file holds task {self._task}, not {task}")
        network = self.network
        spikes, membranes = self._run(frames)
        names = list(spikes)
        window = {name: spikes[name][network.window(name)].sum(0, dtype=np.int64) for name in names}
        drain = {name: spikes[name].sum(0, dtype=np.int64) - window[name] for name in names}
        readout = network.readout
        last = network.window(readout.population).stop - 1
        read = membranes[readout.population][last]
        if readout.kind.value == "spikes":
            read = window[readout.population]
        recorded = ChipTrace(spikes, membranes) if trace else None
        return Decision(read * readout.scale, Activity(window, drain), recorded)

    def close(self) -> None:
        """Remove the file."""
        self._folder.cleanup()

    def _check_loops(self, network: ChipNetwork, task: int) -> None:
        """Refuse loops of neurons that fire before their window, which lava-dl does not hold off.

        Before its window, a population hears nothing of the input: one decision tells all.
        """
        if not self._loops:
            return
        check_network(network)
        frame = np.zeros((1, *network.input.shape), np.uint8)
        if not network.input.held:
            frame = np.zeros((1, network.time_steps, *network.input.shape), np.uint8)
        trace = ReferenceChip(network).decide(frame, task, trace=True).trace
        assert trace is not None
        for link in self._loops:
            start = network.window(link.source).start
            if trace.spikes[link.source][:start].any():
                raise BadNetworkError(
                    f"layer {link.source!r}: its biases make it fire before its input arrives, and "
                    "in netx its loop hears that; use smaller biases"
                )

    def _run(
        self, frames: NDArray[np.uint8]
    ) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.int64]]]:
        network, folder = self.network, Path(self._folder.name)
        steps = network.steps_per_decision
        series = np.zeros((len(frames), steps, *network.input.shape), np.int64)
        series[:, : network.time_steps] = frames[:, None] if network.input.held else frames
        if network.input.payload_bits == 0:
            series = (series != 0).astype(np.int64)
        if self._direct:
            # As a bias, the input is there in every step; after the window nobody listens.
            series[:] = frames[:, None]
        request, result = folder / "request.npz", folder / "result.npz"
        result.unlink(missing_ok=True)
        np.savez(
            request,
            network=str(self._file),
            direct=self._direct,
            loops=bool(self._loops),
            series=series,
        )
        self._call(request, result)
        logs: dict[str, dict[str, NDArray[np.int64]]] = {"spikes": {}, "membranes": {}}
        # A message takes a step from the input to the neurons; a bias takes none.
        late = 0 if self._direct else 1
        with np.load(result) as found:
            for index, population in enumerate(network.populations):
                window = network.window(population.name)
                for kind, into in logs.items():
                    log = found[f"{kind}_{index}"]
                    if log.ndim == 5:
                        log = log.transpose(0, 1, 4, 3, 2)
                    log = log.reshape(len(frames), steps, *population.shape)
                    whole = np.zeros((steps, len(frames), *population.shape), np.int64)
                    taken = log[:, window.start - 1 + late : window.stop - 1 + late]
                    whole[window] = taken.swapaxes(0, 1)
                    into[population.name] = whole
        return {name: log != 0 for name, log in logs["spikes"].items()}, logs["membranes"]

    def _call(self, request: Path, result: Path) -> None:
        # Lava leaves processes behind when it fails: they are ended with their session.
        process = subprocess.Popen(
            [str(self._python), str(WORKER), str(request), str(result)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            cwd=request.parent,
            env=foreign_environment(),
        )
        try:
            _, text = process.communicate(timeout=self._time_limit_s)
        except subprocess.TimeoutExpired as error:
            # Lava may hang when it ends, after its result.
            if not result.is_file():
                raise BackendFailedError(
                    f"netx: no answer within {self._time_limit_s:.0f} s; compare fewer decisions"
                ) from error
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                # It hangs, or was started where SIGTERM is ignored.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not result.is_file():
            reason = one_line(last_words(text, NAMES_AN_ERROR, ANY_LINE), 300)
            raise BackendFailedError(f"netx: lava-dl failed: {reason}")

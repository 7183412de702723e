"""The engine: a chip network at the speed of this processor, equal to the reference bit by bit.

It walks spikes, not synapses, so its cost follows activity as a chip's does, and it counts
the synapses that it walks. A whole decision is one call of compiled code; the code is kept
on disk (numba's cache), so it is compiled once on a machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core import event
from numpy.typing import NDArray

from mtspark.core.agent import Activity, ChipTrace, Decision
from mtspark.core.chip_network import ChipNetwork, check_network
from mtspark.core.errors import BadRequestError
from mtspark.sim.engine_kernels import (
    Scratch,
    State,
    Trace,
    new_scratch,
    new_state,
    run,
)
from mtspark.sim.engine_plan import FIRST, NEURONS, SIZE, PlanBuilder
from mtspark.sim.engine_synapses import AUTOMATIC, EVENTS, PRODUCT
from mtspark.sim.reference import check_request

Int = NDArray[np.int64]
PATHS = {"automatic": AUTOMATIC, "events": EVENTS, "product": PRODUCT}


@dataclass(frozen=True)
class EngineState:
    """A batch of chips between two decisions; a copy, so it may be kept and used again.

    Attributes:
        network: name of the network that it belongs to.
        batch: chips.
        clock: steps since they were switched on.
        arrays: their memory, in the engine's own layout.
    """

    network: str
    batch: int
    clock: int
    arrays: tuple[NDArray[Any], ...]


class _Teller(event.Listener):  # type: ignore[misc]
    """Says once that compiled code is being made; loading it from the cache is silent."""

    def __init__(self) -> None:
        self.told = False

    def on_start(self, event: Any) -> None:
        if not self.told:
            self.told = True
            print("compiling the engine; once on this machine, some 15 seconds", file=sys.stderr)

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def _compiling_is_told() -> Iterator[None]:
    with event.install_listener("numba:compile", _Teller()):
        yield


class EngineChip:
    """A simulated chip, or a batch of them, that keeps its state between decisions.

    Args:
        network: what to run.
        threads: how many threads share the members of a batch.
        path: how convolutions are computed: "automatic" takes the cheaper one for each
            connection and step, "events" walks messages, "product" multiplies densely where
            float32 is proven exact. It never changes a number.
        hold_frame: compute what a frame causes in its targets once a decision, not at each of
            the T steps in which the same frame is sent. It never changes a number or a count.

    Attributes:
        synops_walked: by connection, synapses met since the chip was made, counted one
            message at a time as they are walked; a held frame counts each time it is sent.

    Raises:
        BadNetworkError: the network breaks a rule.
        BadRequestError: no such path, or no thread.
    """

    name = "engine"

    def __init__(
        self,
        network: ChipNetwork,
        *,
        threads: int = 1,
        path: str = "automatic",
        hold_frame: bool = True,
    ) -> None:
        check_network(network)
        if threads < 1:
            raise BadRequestError(f"{threads} threads, at least 1 is needed")
        if path not in PATHS:
            raise BadRequestError(f"path {path!r}: {', '.join(PATHS)} exist")
        self.network = network
        self.synops_walked = {link.name: 0 for link in network.connections}
        self._layout = PlanBuilder(network)
        self._options = np.array([hold_frame, PATHS[path]], np.int64)
        self._threads = threads
        self._scratch: list[Scratch] = []
        self._pool: ThreadPoolExecutor | None = None
        self._batch = 0
        self._clock = 0
        self._state: State | None = None
        sources, names = self._layout.plan.sources, self._layout.names
        self._parts = [
            (name, int(row[FIRST]), int(row[FIRST] + row[NEURONS]), network.shape_of(name))
            for name, row in zip(names, sources, strict=True)
        ]
        readout = network.readout.population
        self._readout = self._lanes(readout)
        self._neurons = self._parts[-1][2]
        lanes = (0, 0, self._layout.sizes.lanes)
        self._no_trace = Trace(np.zeros(lanes, np.uint8), np.zeros(lanes, np.int32))

    def start(self, batch: int) -> None:
        """Put `batch` chips at rest, as after switching on.

        Raises:
            BadRequestError: no chip.
        """
        if batch < 1:
            raise BadRequestError(f"a batch of {batch}, at least 1 is needed")
        self._batch, self._clock = batch, 0
        self._state = new_state(self._layout.sizes, batch)

    def state(self) -> EngineState:
        """A copy of everything that the chips keep; see :meth:`restore`.

        Raises:
            BadRequestError: nothing was started yet.
        """
        if self._state is None:
            raise BadRequestError("no state yet: start(batch) or decide first")
        arrays = tuple(array.copy() for array in self._state)
        return EngineState(self.network.name, self._batch, self._clock, arrays)

    def restore(self, state: EngineState) -> None:
        """Go on from a state of this network, on this chip or on another one.

        Raises:
            BadRequestError: the state belongs to another network.
        """
        fresh = new_state(self._layout.sizes, state.batch)
        arrays: tuple[NDArray[Any], ...] = tuple(fresh)
        same = [a.shape == b.shape for a, b in zip(arrays, state.arrays, strict=True)]
        if state.network != self.network.name or not all(same):
            raise BadRequestError(
                f"a state of network {state.network!r} does not fit {self.network.name!r}"
            )
        for array, saved in zip(arrays, state.arrays, strict=True):
            array[...] = saved
        self._batch, self._clock, self._state = state.batch, state.clock, fresh

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Run the T + L steps of one decision; exactly what the reference answers.

        A batch of another size starts from new chips.

        Args:
            frames: uint8 (batch, *input shape).
            task: row of the threshold arrays, from the first step on.
            trace: record every spike and membrane.

        Raises:
            BadRequestError: wrong shape of frames, or no such task.
        """
        check_request(self.network, frames, task)
        if len(frames) != self._batch:
            self.start(len(frames))
        return self._advance(frames, task, range(self.network.steps_per_decision), trace)

    def close(self) -> None:
        """End the threads; safe to call twice."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    @property
    def bytes_used(self) -> int:
        """Bytes of all arrays of the engine: plan, state and the memory of its threads."""
        state = () if self._state is None else self._state
        arrays = [*self._layout.plan, *state, *(a for part in self._scratch for a in part)]
        return int(sum(array.nbytes for array in arrays))

    def _advance(self, frames: NDArray[np.uint8], task: int, steps: range, trace: bool) -> Decision:
        """Run some steps of a decision, counted from 0."""
        assert self._state is not None
        network, batch = self.network, len(frames)
        window = np.zeros((batch, self._neurons), np.int64)
        drain = np.zeros((batch, self._neurons), np.int64)
        walked = np.zeros((batch, len(network.connections)), np.int64)
        recorded = self._no_trace
        if trace:
            lanes = (len(steps), batch, self._layout.sizes.lanes)
            recorded = Trace(np.zeros(lanes, np.uint8), np.zeros(lanes, np.int32))
        shares = min(self._threads, batch)
        while len(self._scratch) < shares:
            self._scratch.append(new_scratch(self._layout.sizes, self._layout.plan))
        binary = network.input.payload_bits == 0
        flat = np.ascontiguousarray(frames).reshape(batch, -1)
        calls: list[tuple[Any, ...]] = []
        for share in range(shares):
            members = (batch * share // shares, batch * (share + 1) // shares)
            when = (network.time_steps, steps.start, steps.stop, self._clock - steps.start)
            request = np.array([*members, task, *when, binary], np.int64)
            memory = (self._layout.plan, self._state, self._scratch[share], recorded, flat)
            calls.append((*memory, window, drain, walked, request, self._options))
        with nullcontext() if run.signatures else _compiling_is_told():
            self._call(calls)
        self._clock += len(steps)
        for name, count in zip(self.synops_walked, walked.sum(0), strict=True):
            self.synops_walked[name] += int(count)
        shape = (batch, *network.shape_of(network.readout.population))
        membrane = self._state.membrane[:, self._readout].reshape(shape)
        values = membrane * network.readout.scale
        activity = Activity(self._by_source(window), self._by_source(drain))
        return Decision(values, activity, self._chip_trace(recorded) if trace else None)

    def _call(self, calls: list[tuple[Any, ...]]) -> None:
        """Run compiled code for each thread's share of the batch."""
        if len(calls) == 1:
            run(*calls[0])
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1)
        others = [self._pool.submit(run, *call) for call in calls[1:]]
        run(*calls[0])
        for other in others:
            other.result()

    def _by_source(self, counts: Int) -> dict[str, Int]:
        batch = len(counts)
        return {
            name: counts[:, first:last].reshape(batch, *shape)
            for name, first, last, shape in self._parts
        }

    def _lanes(self, name: str) -> Int:
        """Where the neurons of a population stand among all lanes."""
        names, sources = self._layout.names, self._layout.plan.sources
        before = int(sources[1 : names.index(name), SIZE].sum())
        return self._layout.lanes[name] + before

    def _chip_trace(self, trace: Trace) -> ChipTrace:
        spikes, membranes = {}, {}
        for population in self.network.populations:
            lanes = self._lanes(population.name)
            shape = (*trace.spikes.shape[:2], *population.shape)
            spikes[population.name] = trace.spikes[:, :, lanes].reshape(shape).astype(bool)
            membranes[population.name] = (
                trace.membranes[:, :, lanes].reshape(shape).astype(np.int64)
            )
        return ChipTrace(spikes, membranes)

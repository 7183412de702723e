"""The engine: a compiled simulator of chip networks, equal to the reference bit by bit.

It walks spikes, not synapses, so its cost follows activity as a chip's does, and it counts
the synapses that it walks. A whole decision is one call of compiled code; the code is kept
on disk (numba's cache), so a machine compiles it once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numba
import numpy as np
from numba.core import event
from numpy.typing import NDArray

from mtspark.core.arithmetic import MEMBRANE_LIMIT
from mtspark.core.backend import Activity, ChipTrace, Decision
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    Encoder,
    ReadoutKind,
    check_batch,
    check_network,
    fan_out,
)
from mtspark.core.errors import BackendMissingError, BadRequestError
from mtspark.core.interrupts import heeded_interrupts
from mtspark.sim.backends import check_request
from mtspark.sim.engine.counts import LaneCounts, LaneIndex
from mtspark.sim.engine.kernels.run import (
    KEPT_ON_DISK,
    MOST_COUNTED,
    Record,
    Scratch,
    State,
    new_scratch,
    new_state,
    run,
)
from mtspark.sim.engine.kernels.synapses import AUTOMATIC, EVENTS, PRODUCT, WINDOWS
from mtspark.sim.engine.layout import Request
from mtspark.sim.engine.plan import PlanBuilder

logger = logging.getLogger(__name__)

PATHS = {"automatic": AUTOMATIC, "events": EVENTS, "windows": WINDOWS, "product": PRODUCT}


@dataclass(frozen=True)
class EngineState:
    """A batch of chips between two decisions; a copy, so it may be kept and used again.

    Attributes:
        network: name of the network that it belongs to.
        plan: a number that differs from one network to another.
        batch: chips.
        clock: steps since they were switched on.
        arrays: their memory, in the engine's own layout.
        frame: uint8 (batch, values of the input), the last frame that each was sent.
    """

    network: str
    plan: str
    batch: int
    clock: int
    arrays: tuple[NDArray[Any], ...]
    frame: NDArray[np.uint8]


class _CompileNotice(event.Listener):  # type: ignore[misc]
    """Warns once that numba compiles the engine; loading it from the cache is silent."""

    def __init__(self) -> None:
        self.given = False

    def on_start(self, event: Any) -> None:
        if not self.given:
            self.given = True
            how_often = (
                "once on this machine"
                if KEPT_ON_DISK
                else "every time: no folder for it can be written, name one in NUMBA_CACHE_DIR"
            )
            logger.warning("compiling the engine, some 15 seconds, %s", how_often)

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def _notice_of_compiling() -> Iterator[None]:
    # Numba keeps and finds compiled code in callbacks from C, which swallow a Ctrl-C.
    with event.install_listener("numba:compile", _CompileNotice()), heeded_interrupts():
        yield


def _walked(link: Connection) -> Connection:
    """The connection with the zeros that the engine walks: kernels are stored whole."""
    return replace(link, kind=ConnectionKind.CONV) if link.kind.convolves else link


class EngineChip:
    """A simulated chip, or a batch of them, that keeps its state between decisions.

    Args:
        network: what to run.
        threads: how many threads share the members of a batch.
        path: how convolutions are computed: "automatic" takes the cheaper one for each
            connection and step, "events" walks message by message, "windows" adds up the
            messages in each output's window where these are plain runs, "product" multiplies
            densely where float32 is proven exact. It never changes a number.
        hold_frame: compute what a frame causes in its targets once a decision, not at each of
            the T steps in which the same frame is sent. It never changes a number or a count.

    Attributes:
        synops_walked: by connection, synapses met since the chip was made, counted one
            message at a time as they are walked; a held frame counts each time it is sent, and
            of a sparse convolution the zeros of its kernels, which are walked, too.

    Raises:
        BackendMissingError: JIT compilation is disabled.
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
        if numba.config.DISABLE_JIT:
            raise BackendMissingError(
                "NUMBA_DISABLE_JIT is set, and the engine is compiled code; unset it or use the "
                "backend reference"
            )
        check_network(network)
        if threads < 1:
            raise BadRequestError(f"threads {threads}: must be at least 1")
        if path not in PATHS:
            raise BadRequestError(f"path {path!r}: must be one of {', '.join(PATHS)}")
        self.network = network
        self._steps = network.steps_per_decision
        self.synops_walked = {link.name: 0 for link in network.connections}
        layout = PlanBuilder(network)
        self._plan, self._sizes = layout.plan, layout.sizes
        shapes = {name: network.shape_of(name) for name in layout.names}
        self._lane_index = LaneIndex(layout.plan, shapes)
        self._input_size = prod(network.input.shape)
        self._fans_of_frame = {
            link.name: fan_out(_walked(link), network.input.shape)[0].reshape(-1)
            for link in network.connections
            if link.source == INPUT and network.input.encoder is not Encoder.EVERY_STEP
        }
        self._keep_sums, self._path = hold_frame and network.input.held, PATHS[path]
        self._threads = threads
        self._scratch: list[Scratch] = []
        self._pool: ThreadPoolExecutor | None = None
        self._batch = 0
        self._clock = 0
        self._ran = False
        self._state: State | None = None
        self._frame = np.zeros((0, self._input_size), np.uint8)
        nothing = (0, 0, self._sizes.lanes)
        self._nothing = (np.zeros(nothing, np.uint8), np.zeros(nothing, np.int32))

    def start(self, batch: int) -> None:
        """Put `batch` chips at rest, as after switching on.

        Raises:
            BadRequestError: no chip.
        """
        if batch < 1:
            raise BadRequestError(f"a batch of {batch}: must be at least 1")
        self._batch, self._clock = batch, 0
        self._state = new_state(self._sizes, batch)
        self._frame = np.zeros((batch, self._input_size), np.uint8)

    def keep(self, members: NDArray[np.int64]) -> None:
        """Go on with some chips of the batch, in this order.

        Raises:
            BadRequestError: nothing was started yet, or no chip is kept.
        """
        if self._state is None or not len(members):
            raise BadRequestError("no chips to keep; call start(batch) first and keep at least one")
        fresh = new_state(self._sizes, len(members))
        arrays: tuple[NDArray[Any], ...] = tuple(fresh)
        before: tuple[NDArray[Any], ...] = tuple(self._state)
        for array, held in zip(arrays, before, strict=True):
            array[...] = held[members]
        self._batch, self._state = len(members), fresh
        self._frame = self._frame[members]

    def state(self) -> EngineState:
        """A copy of everything that the chips keep; see :meth:`restore`.

        Raises:
            BadRequestError: nothing was started yet.
        """
        if self._state is None:
            raise BadRequestError("no state yet: start(batch) or decide first")
        arrays = tuple(array.copy() for array in self._state)
        return EngineState(
            self.network.name,
            self._plan_hash,
            self._batch,
            self._clock,
            arrays,
            self._frame.copy(),
        )

    def restore(self, state: EngineState) -> None:
        """Go on from a state of this network, on this chip or on another one.

        Raises:
            BadRequestError: the state belongs to another network.
        """
        problem = f"a state of network {state.network!r} does not fit {self.network.name!r}"
        if state.plan != self._plan_hash or state.batch < 1:
            raise BadRequestError(problem)
        fresh = new_state(self._sizes, state.batch)
        arrays: tuple[NDArray[Any], ...] = tuple(fresh)
        wanted = [(array.shape, array.dtype) for array in arrays]
        if state.frame.shape != (state.batch, self._input_size) or state.frame.dtype != np.uint8:
            raise BadRequestError(f"{problem}: another frame")
        if wanted != [(array.shape, array.dtype) for array in state.arrays]:
            raise BadRequestError(f"{problem}: other shapes or types")
        if np.abs(state.arrays[0].astype(np.int64)).max(initial=0) > MEMBRANE_LIMIT:
            raise BadRequestError(f"{problem}: a membrane beyond {MEMBRANE_LIMIT}")
        for array, saved in zip(arrays, state.arrays, strict=True):
            array[...] = saved
        self._batch, self._clock, self._state = state.batch, state.clock, fresh
        self._frame = state.frame.copy()

    @cached_property
    def _plan_hash(self) -> str:
        """Of all arrays of the plan: another network has another one."""
        parts = [array.tobytes() for array in self._plan]
        kind = b"stateful" if self.network.stateful else b""
        return hashlib.sha256(b"".join([*parts, kind])).hexdigest()

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Run the T + L steps of one decision; exactly what the reference answers.

        A batch of another size starts from new chips; of a stateful network it is refused.

        Args:
            frames: uint8, or int8 of a signed input, (batch, *input shape), or (batch, T,
                *input shape) where the input is a series.
            task: row of the threshold arrays, from the first step on.
            trace: record every spike and membrane.

        Raises:
            BadRequestError: wrong shape of frames, or no such task.
        """
        return self.advance(frames, task, range(self._steps), trace=trace)

    def advance(
        self, frames: NDArray[np.uint8], task: int, steps: range, *, trace: bool = False
    ) -> Decision:
        """Run some steps of a decision; all of them, in parts one after another, are one.

        Args:
            frames, task, trace: as for :meth:`decide`, the same in every part.
            steps: which of the T + L steps, counted from 0, without gaps.

        Returns:
            What happened in these steps: membranes after the last one, spikes sent in them.

        Raises:
            BadRequestError: as for :meth:`decide`, or no such steps.
        """
        network = self.network
        check_request(network, frames, task)
        if not 0 <= steps.start < steps.stop <= self._steps or steps.step != 1:
            raise BadRequestError(
                f"steps {steps.start} to {steps.stop} by {steps.step}: a decision has "
                f"0 to {self._steps}, one by one"
            )
        batch = len(frames)
        check_batch(network, self._batch, batch)
        if steps.start and batch != self._batch:
            raise BadRequestError(
                f"{batch} frames from step {steps.start} on: {self._batch} chips run; a decision "
                "ends with the batch that it began with"
            )
        if batch != self._batch:
            self.start(batch)
        assert self._state is not None
        lanes = (len(steps), batch, self._sizes.lanes)
        seen = (np.zeros(lanes, np.uint8), np.zeros(lanes, np.int32)) if trace else self._nothing
        counted = np.zeros((2, *lanes[1:]), np.uint8)
        kept = np.zeros(counted.shape if len(steps) > MOST_COUNTED else (2, 0, 0), np.uint32)
        record = Record(*seen, counted, kept, np.zeros((batch, len(self.synops_walked)), np.int64))
        # Writable, though nothing writes it: numba compiles anew for arrays that are not.
        slices = np.require(frames, requirements=["C", "W"]).view(np.uint8)
        slices = slices.reshape(batch, 1 if network.input.held else network.time_steps, -1)
        self._run(record, slices, task, steps)
        self._clock += len(steps)
        messages, times = self._messages(slices, steps)
        self._count_walked(record, messages)
        within, outside = counted if not kept.size else kept + counted
        activity = Activity(
            LaneCounts(self._lane_index, within, messages, times),
            LaneCounts(self._lane_index, outside, None),
        )
        readout = network.readout
        if readout.kind is ReadoutKind.SPIKES:
            read: NDArray[Any] = activity.window[readout.population]
        else:
            read = self._lane_index.of_population(readout.population, self._state.membrane)
        return Decision(read * readout.scale, activity, self._chip_trace(record) if trace else None)

    def close(self) -> None:
        """End the threads; safe to call twice."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    @property
    def bytes_used(self) -> int:
        """Bytes of all arrays of the engine: plan, state and the memory of its threads."""
        state = () if self._state is None else self._state
        arrays = [*self._plan, *state, self._frame, *(a for part in self._scratch for a in part)]
        return int(sum(array.nbytes for array in arrays))

    def _run(self, record: Record, slices: NDArray[np.uint8], task: int, steps: range) -> None:
        """Run compiled code, each thread its share of the batch."""
        network, batch = self.network, len(slices)
        shares = min(self._threads, batch)
        while len(self._scratch) < shares:
            self._scratch.append(new_scratch(self._sizes, self._plan))
        calls: list[tuple[Any, ...]] = []
        for share in range(shares):
            request = Request(
                first_member=batch * share // shares,
                end_member=batch * (share + 1) // shares,
                task=task,
                time_steps=network.time_steps,
                first_step=steps.start,
                end_step=steps.stop,
                clock=self._clock - steps.start,
                binary=network.input.payload_bits == 0,
                held=network.input.held,
                keep_sums=self._keep_sums,
                path=self._path,
                stateful=self._steps if network.stateful else 0,
            )
            memory = (self._plan, self._state, self._scratch[share])
            calls.append((*memory, record, slices, np.array(request, np.int64)))
        if self._ran:
            self._call(calls)
        else:
            with _notice_of_compiling():
                self._call(calls)
            self._ran = True

    def _count_walked(self, record: Record, messages: NDArray[Any]) -> None:
        """Count the synapses that were met; a held frame meets its own when it is sent."""
        for name, count in zip(self.synops_walked, record.walked.sum(0).tolist(), strict=True):
            fan = self._fans_of_frame.get(name)
            met = count if fan is None else int((messages.sum(0, dtype=np.int64) * fan).sum())
            self.synops_walked[name] += met

    def _messages(self, slices: NDArray[np.uint8], steps: range) -> tuple[NDArray[Any], int]:
        """Messages of the input in these steps, and how often each was sent."""
        encoder, frame = self.network.input.encoder, slices[:, 0]
        if encoder is not Encoder.EVERY_STEP and steps.start:
            return np.zeros(frame.shape, bool), 1
        if encoder is Encoder.HELD:
            return frame != 0, 1
        if encoder is Encoder.CHANGES:
            before, self._frame = self._frame, frame.copy()
            return frame != before, 1
        sending = range(steps.start, max(steps.start, min(steps.stop, self.network.time_steps)))
        if self.network.input.held:
            return slices[:, 0] != 0, len(sending)
        part = slices[:, sending.start : sending.stop]
        return np.count_nonzero(part, axis=1).astype(np.uint32), 1

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

    def _chip_trace(self, record: Record) -> ChipTrace:
        names = [population.name for population in self.network.populations]
        spikes = {name: self._lane_index.of_population(name, record.spikes) for name in names}
        membranes = {name: self._lane_index.of_population(name, record.membranes) for name in names}
        return ChipTrace(
            {name: array.astype(bool) for name, array in spikes.items()},
            {name: array.astype(np.int64) for name, array in membranes.items()},
        )

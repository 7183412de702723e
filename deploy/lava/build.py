"""A chip network as connected Lava processes, in two variants.

The variant "ours" uses mtspark's processes, which switch tasks, keep the sum of a frame where the
encoder asks for it, and are fast enough to play.
The variant "stock" uses Lava's own Dense, Sparse and LIFReset for every synapse and every neuron;
only the processes that send frames in and record are ours. Stock is therefore the independent
proof. It is slower and holds the thresholds of one task for a whole run.
"""

from __future__ import annotations

import importlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import CURRENT_LIMIT, STATE_SHIFT
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    ConnectionKind,
    Encoder,
    Population,
    Reset,
    check_forgets,
    check_network,
    check_sent_every_step,
)
from mtspark.core.errors import BackendFailedError, BadNetworkError, BadRequestError
from mtspark.deploy.lava.shim import load_lava

INT32_LIMIT = 2**31
SINGLE_PRECISION_LIMIT = 2**24


def largest_sum(network: ChipNetwork, link: Connection) -> int:
    """Largest |sum of weight times input| that a connection can make, before its exponent."""
    largest_value = network.input.largest_message if link.source == INPUT else 1
    per_output = np.abs(link.weights).reshape(len(link.weights), -1).sum(axis=1)
    return int(per_output.max(initial=0)) * largest_value


def check_fits_lava(network: ChipNetwork, *, stock: bool = False) -> None:
    """Refuse a network that Lava, which adds in 32 bits and wraps currents once, could get wrong.

    Args:
        network: to be run.
        stock: on Lava's own parts, which have zero reset, one decay a population, no loop that
            could be silenced between decisions, and keep no sum of a frame.

    Raises:
        BadNetworkError: the network breaks a rule of its format, needs what stock parts do
            not have, or a sum or a current can leave 32 bits.
        BadRequestError: stock parts cannot hold the state of a stateful network.
    """
    check_network(network)
    if stock:
        _check_fits_stock(network)
    for link in network.connections:
        raw = largest_sum(network, link)
        if raw >= INT32_LIMIT:
            raise BadNetworkError(
                f"connection {link.name!r}: sums reach {raw}, Lava adds in 32 bits "
                f"(below {INT32_LIMIT}); use fewer inputs or smaller weights"
            )
    for population in network.populations:
        total = 0
        for link in network.connections:
            if link.target == population.name:
                raw = largest_sum(network, link)
                # A negative sum rounds away from zero when shifted right.
                total += raw << link.exponent if link.exponent >= 0 else (raw >> -link.exponent) + 1
        added = total << STATE_SHIFT
        # What one correction by 2^24 leaves over adds up until the next reset.
        excess = max(0, added - 2 * CURRENT_LIMIT) if np.min(population.current_decay) < 4095 else 0
        # Where state survives decisions, no reset comes.
        steps = INT32_LIMIT if network.stateful else network.steps_per_decision
        reach = CURRENT_LIMIT + added + steps * excess
        if reach >= INT32_LIMIT:
            raise BadNetworkError(
                f"population {population.name!r}: currents can reach {reach}, Lava keeps them in "
                f"32 bits (below {INT32_LIMIT}); lower the exponents of its connections"
            )
    if stock:
        # Last: only where nothing else is in the way does another encoder help.
        check_sent_every_step(network, "stock Lava")


def _check_fits_stock(network: ChipNetwork) -> None:
    remedy = "use the backend lava, whose parts are ours"
    check_forgets(network, "Lava's own LIF does not hold it between two decisions", remedy)
    for population in network.populations:
        if population.reset is not Reset.ZERO:
            raise BadNetworkError(
                f"population {population.name!r}: reset {population.reset.value!r}, Lava's own "
                f"LIF resets to zero; {remedy}"
            )
        if population.fires_at_threshold:
            raise BadNetworkError(
                f"population {population.name!r}: fires at its threshold, Lava's own LIF only "
                f"above; {remedy}"
            )
        if not (
            isinstance(population.current_decay, int) and isinstance(population.membrane_decay, int)
        ):
            raise BadNetworkError(
                f"population {population.name!r}: a decay for each neuron, Lava's own LIF has one "
                f"a population; {remedy}"
            )
    for link in network.connections:
        if link.recurrent or link.delay:
            what = "recurrent" if link.recurrent else f"delay {link.delay}"
            raise BadNetworkError(
                f"connection {link.name!r}: {what}, Lava's own Dense and Sparse run without; "
                f"{remedy}"
            )


class LavaChip:
    """A network as Lava processes, driven one decision at a time.

    Lava forks one process for each of them at the first decision, so run it in a process that can
    be killed together with all its children. Frames and records travel
    through anonymous shared memory: between runs Lava is idle and the memory is ours.

    Attributes:
        network: what was built.
        sent: how often each value of the input was sent in the last decision, int64 of its shape.
        spikes: by population, bool (steps, *shape), of the last decision.
        membranes: by recorded population, int32 of the same shape.
    """

    def __init__(
        self, network: ChipNetwork, *, stock: bool, task: int, trace: bool, hardware: bool = False
    ) -> None:
        """Build the processes; nothing runs before the first decision.

        Args:
            network: that :func:`check_fits_lava` accepts.
            stock: use Lava's own parts.
            task: row of thresholds that holds at first (stock: always).
            trace: record the membranes of all populations, not only of the readout.
            hardware: run the processes that the board has models for on the board
                (Loihi2HwCfg). Lava runs all others on the CPU, without a warning.

        Raises:
            BackendMissingError: Lava is not installed.
            BadNetworkError: the network does not fit.
        """
        check_fits_lava(network, stock=stock)
        load_lava()
        self.network = network
        self.stock = stock
        self.hardware = hardware
        self.task = task
        self._keeps_frame = network.input.encoder is not Encoder.EVERY_STEP
        # What a chip was told of the frame; the sums that follow from it belong to one game.
        self._told: NDArray[np.int32] = np.zeros(network.input.shape, np.int32)
        self.sent: NDArray[np.int64] = np.zeros(network.input.shape, np.int64)
        self.spikes: dict[str, NDArray[np.bool_]] = {}
        self.membranes: dict[str, NDArray[np.int32]] = {}
        series = () if network.input.held else (network.time_steps,)
        self._frame = shared_array((*series, *self._lava_shape(network.input.shape)), np.int32)
        self._neurons: dict[str, Any] = {}
        self._source = self._build_source()
        for population in network.populations:
            build = self._build_stock_neurons if stock else self._build_task_neurons
            self._neurons[population.name] = build(population)
        for link in network.connections:
            self._connect(link)
        recorded = (
            network.populations if trace else (network.population(network.readout.population),)
        )
        self._recorders = [
            self._build_recorder(population, population in recorded)
            for population in network.populations
        ]
        self._running = False

    def decide(self, frame: NDArray[np.uint8], task: int) -> None:
        """Run the steps of one decision; `spikes` and `membranes` then hold its records.

        Args:
            frame: of the input's shape, or (T, *shape) of a series, 0 to 255, or -128 to 127 of a
                signed input; binary inputs send 1 for nonzero values.
            task: whose thresholds hold from the first step on.

        Raises:
            BadRequestError: another task than the stock network was built for.
            BackendFailedError: one of Lava's processes raised an exception.
        """
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg

        configuration = Loihi2HwCfg if self.hardware else Loihi2SimCfg
        if task != self.task:
            self._switch(task)
        self._frame[...] = self._messages(frame).reshape(self._frame.shape)
        steps = RunSteps(num_steps=self.network.steps_per_decision)
        try:
            self._source.run(steps, run_cfg=configuration(select_tag="fixed_pt"))
        except RuntimeError as error:
            raise BackendFailedError(f"Lava stopped: {self._cause() or error}") from error
        self._running = True

    def _messages(self, frame: NDArray[np.uint8]) -> NDArray[np.int32]:
        """What of a frame is sent: all of it, or its changes; counts them in `sent`."""
        entry = self.network.input
        values = (frame if entry.payload_bits else frame != 0).astype(np.int32)
        if entry.encoder is Encoder.CHANGES:
            values, self._told = values - self._told, values
        sent = (values != 0).astype(np.int64)
        if not entry.held:
            sent = sent.sum(0)
        self.sent = sent * self.network.time_steps if entry.held and not self._keeps_frame else sent
        return values

    def _cause(self) -> str:
        """The first exception of Lava's processes, which its own message only counts."""
        messages = getattr(self._source.runtime, "_messaging_infrastructure", None)
        for actor in messages.actors if messages else []:
            if actor.exception:
                raised, _ = actor.exception
                return f"{type(raised).__name__}: {raised}"
        return ""

    def _switch(self, task: int) -> None:
        if self.stock:
            raise BadRequestError(
                f"stock Lava holds the thresholds of task {self.task} and cannot switch to "
                f"{task}; use the lava backend or another lava-stock one"
            )
        if not self._running:
            raise BadRequestError(f"first decision under task {task}, built for {self.task}")
        for neurons in self._neurons.values():
            neurons.task.set(np.array([task], np.int32))
        self.task = task

    def _lava_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Stock connections are flat, so everything is; ours keep their shape."""
        return (int(np.prod(shape)),) if self.stock else shape

    def _build_source(self) -> Any:
        from mtspark.deploy.lava.processes.processes import FrameSource

        return FrameSource(
            frame=self._frame,
            series=not self.network.input.held,
            steps=self.network.steps_per_decision,
            active_steps=1 if self._keeps_frame else self.network.time_steps,
        )

    def _build_task_neurons(self, population: Population) -> Any:
        from mtspark.deploy.lava.processes.processes import TaskLIF

        return TaskLIF(
            thresholds=population.thresholds,
            current_decay=population.current_decay,
            membrane_decay=population.membrane_decay,
            reset=population.reset.value,
            fires_at_threshold=population.fires_at_threshold,
            bias_mantissa=population.bias_mantissa,
            bias_exponent=population.bias_exponent,
            task=self.task,
            reset_interval=self.network.steps_per_decision,
            reset_offset=self.network.depths[population.name] + 1,
            stateful=self.network.stateful,
        )

    def _build_stock_neurons(self, population: Population) -> Any:
        from lava.proc.lif.process import LIFReset

        # Not a documented feature: LIFReset declares one threshold, but its CPU model takes
        # an array of them and compares neuron by neuron.
        return LIFReset(
            shape=(population.size,),
            du=population.current_decay,
            dv=population.membrane_decay,
            vth=population.thresholds[self.task].reshape(-1).astype(np.int32),
            bias_mant=population.bias_mantissa.reshape(-1).astype(np.int16),
            bias_exp=population.bias_exponent,
            reset_interval=self.network.steps_per_decision,
            reset_offset=self.network.depths[population.name] + 1,
        )

    def _connect(self, link: Connection) -> None:
        source = self._source if link.source == INPUT else self._neurons[link.source]
        synapses = self._stock_synapses(link) if self.stock else self._our_synapses(link)
        source.s_out.connect(synapses.s_in)
        synapses.a_out.connect(self._neurons[link.target].a_in)

    def _our_synapses(self, link: Connection) -> Any:
        from mtspark.deploy.lava.processes.processes import FrameSynapses, Synapses

        geometry = {"kernel": link.weights.shape[2:], **link.conv_fields}
        network, own = self.network, self.network.window(link.source)
        # State that survives decisions is silent outside of windows by itself.
        gated = link.recurrent and not network.stateful
        options: dict[str, Any] = {
            "weights": link.weights,
            "source_shape": network.shape_of(link.source),
            "target_shape": network.shape_of(link.target),
            "exponent": link.exponent,
            "conv": geometry if link.kind.convolves else None,
            "single_precision": largest_sum(network, link) < SINGLE_PRECISION_LIMIT,
            "delay": link.delay,
            "gate": (network.steps_per_decision, own.start, own.stop) if gated else None,
        }
        if link.source != INPUT or not self._keeps_frame:
            return Synapses(**options)
        window = network.window(link.target)
        return FrameSynapses(
            **options,
            steps=network.steps_per_decision,
            window=(window.start, window.stop),
            whole=network.input.encoder is Encoder.HELD,
        )

    def _stock_synapses(self, link: Connection) -> Any:
        from lava.proc.dense.process import Dense
        from lava.proc.sparse.process import Sparse
        from lava.utils.weightutils import SignMode

        graded = link.source == INPUT and self.network.input.payload_bits > 0
        options = {
            "weight_exp": link.exponent,
            "num_weight_bits": link.weight_bits,
            "sign_mode": SignMode[link.sign_mode.name],
            # One message bit means payloads, here 0 and 1: Sparse is four times faster so.
            "num_message_bits": self.network.input.payload_bits if graded else 1,
        }
        if link.kind is ConnectionKind.DENSE:
            return Dense(weights=link.weights.astype(np.int32), **options)
        source, target = self.network.shape_of(link.source), self.network.shape_of(link.target)
        return Sparse(weights=unrolled(link, source, target), **options)

    def _build_recorder(self, population: Population, with_membranes: bool) -> Any:
        from mtspark.deploy.lava.processes.processes import PortRecorder, RefRecorder

        steps = self.network.steps_per_decision
        lava_shape = (steps, *self._lava_shape(population.shape))
        spikes = shared_array(lava_shape, np.bool_)
        self.spikes[population.name] = spikes.reshape(steps, *population.shape)
        membranes = shared_array(lava_shape, np.int32) if with_membranes else None
        if membranes is not None:
            self.membranes[population.name] = membranes.reshape(steps, *population.shape)
        neurons = self._neurons[population.name]
        recorder: Any
        if self.stock and membranes is not None:
            recorder = RefRecorder(spikes=spikes, membranes=membranes)
            recorder.v_ref.connect_var(neurons.v)
        else:
            recorder = PortRecorder(spikes=spikes, membranes=membranes)
            if membranes is not None:
                neurons.v_out.connect(recorder.v_in)
        neurons.s_out.connect(recorder.s_in)
        return recorder


def shared_array(shape: tuple[int, ...], kind: Any) -> Any:
    """Zeros in memory that forked children share; it has no name, so nothing can be left over.

    Args:
        shape: of the array, not empty.
        kind: its numpy type.
    """
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype=kind).reshape(shape)


def unrolled(link: Connection, source: tuple[int, ...], target: tuple[int, ...]) -> Any:
    """A convolution or sparse connection as a sparse matrix, for Lava's Sparse.

    Args:
        link: of any kind but dense.
        source, target: shapes of its ends; (channels, rows, columns) for a convolution.

    Returns:
        scipy.sparse.csr_matrix, int32, (target size, source size); zero weights left out.
    """
    # Takes a second to load, and no other part of deploy needs it.
    csr_matrix: Any = importlib.import_module("scipy.sparse").csr_matrix
    if not link.kind.convolves:
        return csr_matrix(link.weights.astype(np.int32))
    out_per_group = target[0] // link.groups
    in_per_group = link.weights.shape[1]
    out, tap_in, tap_r, tap_c = (axis.reshape(-1) for axis in np.indices(link.weights.shape))
    values = link.weights.reshape(-1)
    out, tap_in, tap_r, tap_c, values = (
        axis[values != 0] for axis in (out, tap_in, tap_r, tap_c, values)
    )
    channel = out // out_per_group * in_per_group + tap_in
    rows, columns, entries = [], [], []
    for row in range(target[1]):
        at_row = row * link.stride[0] - link.padding[0] + tap_r * link.dilation[0]
        for column in range(target[2]):
            at_column = column * link.stride[1] - link.padding[1] + tap_c * link.dilation[1]
            inside = (
                (at_row >= 0) & (at_row < source[1]) & (at_column >= 0) & (at_column < source[2])
            )
            rows.append(((out * target[1] + row) * target[2] + column)[inside])
            columns.append(((channel * source[1] + at_row) * source[2] + at_column)[inside])
            entries.append(values[inside])
    shape = (int(np.prod(target)), int(np.prod(source)))
    positions = (np.concatenate(rows), np.concatenate(columns))
    return csr_matrix((np.concatenate(entries).astype(np.int32), positions), shape=shape)

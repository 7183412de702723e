"""The reference: a chip network step by step in plain NumPy, slow and obvious.

Written from the specification of Lava's fixed-point LIF and Dense (lava-nc 0.10.0), in chip
time. Every other simulator must equal it, spike for spike and membrane for membrane.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import (
    CURRENT_LIMIT,
    STATE_SHIFT,
    decay,
    saturate_membrane,
    shift,
    wrap_current,
)
from mtspark.core.arrays import AnyArray, Integers
from mtspark.core.backend import Activity, ChipTrace, Decision
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    Encoder,
    Population,
    ReadoutKind,
    Reset,
    check_batch,
    check_network,
)
from mtspark.core.errors import BadRequestError
from mtspark.core.geometry import conv_geometry

LARGEST_MESSAGE = 255
"""Magnitude of a graded message."""


class ReferenceChip:
    """A simulated chip that keeps its state from one decision to the next.

    Args:
        network: what to run.
        checked: refuse a network that breaks a rule; a broken chip may.

    Raises:
        BadNetworkError: the network breaks a rule.
    """

    name = "reference"

    def __init__(self, network: ChipNetwork, *, checked: bool = True) -> None:
        if checked:
            check_network(network)
        self.network = network
        self._synapses = {link.name: Synapses(link, network) for link in network.connections}
        self._batch = 0
        self._current: dict[str, Integers] = {}
        self._membrane: dict[str, Integers] = {}
        self._sent: dict[str, Integers] = {}
        self._fired: dict[str, Integers] = {}
        self._frame: Integers = np.zeros(0, dtype=np.int64)
        self._frame_sum: dict[str, Integers] = {}
        self._history: list[dict[str, Integers]] = []

    def start(self, batch: int) -> None:
        """Put `batch` chips at rest, as after switching on."""
        self._batch = batch
        for population in self.network.populations:
            rest = np.zeros((batch, *population.shape), dtype=np.int64)
            self._current[population.name] = rest
            self._membrane[population.name] = rest
            self._sent[population.name] = rest
            self._fired[population.name] = rest
        self._sent[INPUT] = np.zeros((batch, *self.network.input.shape), dtype=np.int64)
        # All values that a chip has been told of, and what they sum to behind each connection.
        self._frame = self._sent[INPUT]
        self._frame_sum = {
            link.name: np.zeros((batch, *self.network.shape_of(link.target)), dtype=np.int64)
            for link in self.network.connections
            if link.source == INPUT
        }
        # What was sent one step ago, two steps ago, ... as far back as any delay reaches.
        reach = 1 + max(link.delay for link in self.network.connections)
        self._history = [dict(self._sent)] * reach

    def keep(self, members: Integers) -> None:
        """Go on with some chips of the batch, in this order.

        Raises:
            BadRequestError: nothing was started yet, or no chip is kept.
        """
        if not self._batch or not len(members):
            raise BadRequestError("no chips to keep; call start(batch) first and keep at least one")
        self._batch = len(members)
        self._frame = self._frame[members]
        # New dictionaries: what was sent last is part of the history, too.
        self._current, self._membrane, self._fired, self._frame_sum, self._sent, *self._history = (
            {name: values[members] for name, values in held.items()}
            for held in (
                *(self._current, self._membrane, self._fired, self._frame_sum, self._sent),
                *self._history,
            )
        )

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Run the T + L steps of one decision.

        Thresholds of `task` hold from the first step on. Every population is set to rest at
        its own first step of the decision, so nothing of an earlier decision, or of another
        task, reaches the window. A batch of another size starts from new chips. Populations of a
        stateful network go on from where :meth:`start` or the decision before left them.

        Args:
            frames: uint8, or int8 of a signed input, (batch, *input shape), or (batch, T,
                *input shape) where the input is a series.
            task: row of the threshold arrays.
            trace: record every spike and membrane.

        Raises:
            BadRequestError: wrong shape of frames, no such task, or another number of frames
                than chips of a stateful network run.
        """
        check_request(self.network, frames, task)
        check_batch(self.network, self._batch, len(frames))
        payload = frames.astype(np.int64)
        if self.network.input.payload_bits == 0:
            payload = (payload != 0).astype(np.int64)
        return self._decide(payload, task, trace)

    def decide_on_sum(self, values: Integers, task: int) -> Decision:
        """Run a decision on what messages of changes add up to, which need not be a frame.

        Where some were lost, a value can lie outside of 0..255. The sums behind it then leave the
        range that export has proven, and wrap at 24 bits.

        Args:
            values: int64 (batch, *input shape), for each value the sum of its messages.
            task: row of the threshold arrays.

        Raises:
            BadRequestError: the network keeps no sum of changes, or as of :meth:`decide`.
        """
        entry = self.network.input
        if entry.encoder is not Encoder.CHANGES:
            raise BadRequestError(f"encoder {entry.encoder.value} keeps no sum of changes")
        check_request(self.network, np.zeros(values.shape, entry.dtype), task)
        return self._decide(values, task, trace=False)

    def close(self) -> None:
        """Nothing to release."""

    def _decide(self, payload: Integers, task: int, trace: bool) -> Decision:
        """Run one decision on values that were checked; see :meth:`decide`."""
        network = self.network
        if len(payload) != self._batch:
            self.start(len(payload))
        names = [population.name for population in network.populations]
        window = {name: np.zeros_like(self._sent[name]) for name in [INPUT, *names]}
        drain = {name: np.zeros_like(self._sent[name]) for name in [INPUT, *names]}
        slices = self._slices(payload)
        if network.input.encoder is not Encoder.EVERY_STEP:
            window[INPUT] += self._send_frame(payload) != 0
        spike_log: dict[str, list[Integers]] = {name: [] for name in names}
        membrane_log: dict[str, list[Integers]] = {name: [] for name in names}
        for step in range(network.steps_per_decision):
            self._step(step, slices, task)
            for name, sent in self._sent.items():
                own = network.window(name)
                counted = window if own.start <= step < own.stop else drain
                counted[name] += sent != 0
            if trace:
                for name in names:
                    spike_log[name].append(self._sent[name])
                    membrane_log[name].append(self._membrane[name])
        readout = network.readout
        read = window if readout.kind is ReadoutKind.SPIKES else self._membrane
        values = read[readout.population] * readout.scale
        recorded = None
        if trace:
            recorded = ChipTrace(
                spikes={name: np.stack(log).astype(bool) for name, log in spike_log.items()},
                membranes={name: np.stack(log) for name, log in membrane_log.items()},
            )
        return Decision(values, Activity(window, drain), recorded)

    def _slices(self, payload: Integers) -> Sequence[Integers]:
        """What the input sends in each of the T steps."""
        entry, steps = self.network.input, self.network.time_steps
        if entry.encoder is not Encoder.EVERY_STEP:
            return [np.zeros_like(payload)] * steps
        return [payload] * steps if entry.held else list(payload.swapaxes(0, 1))

    def _send_frame(self, payload: Integers) -> Integers:
        """Send a frame before the window opens; return the messages, whole or signed changes."""
        if self.network.input.encoder is Encoder.HELD:
            self._frame = np.zeros_like(payload)
            self._frame_sum = {
                name: np.zeros_like(total) for name, total in self._frame_sum.items()
            }
        messages = payload - self._frame
        self._frame = self._frame + messages
        self._frame_sum = {
            name: wrap_sum(total + self._synapses[name].weigh(messages))
            for name, total in self._frame_sum.items()
        }
        return messages

    def _step(self, step: int, slices: Sequence[Integers], task: int) -> None:
        """One chip step: everyone receives what was sent 1 + delay steps ago, then sends."""
        network, held = self.network, self.network.input.encoder is not Encoder.EVERY_STEP
        silent = np.zeros((self._batch, *network.input.shape), dtype=np.int64)
        sending: dict[str, Integers] = {
            INPUT: slices[step] if step < network.time_steps else silent
        }
        for population in network.populations:
            name = population.name
            arriving = np.zeros_like(self._membrane[name])
            own = network.window(name)
            if network.stateful and step != own.start:
                sending[name] = np.zeros_like(arriving)
                continue
            for link in network.connections:
                if link.target == name and self._delivers(link, step):
                    sent = self._history[link.delay][link.source]
                    arriving = arriving + self._synapses[link.name].deliver(sent)
                    if held and link.source == INPUT and own.start <= step < own.stop:
                        arriving = arriving + shift(self._frame_sum[link.name], link.exponent)
            fired = self._fired[name]
            if step == own.start and not network.stateful:
                self._current[name] = np.zeros_like(arriving)
                self._membrane[name] = np.zeros_like(arriving)
                fired = np.zeros_like(fired)
            self._current[name], self._membrane[name], sending[name] = integrate_and_fire(
                population, self._current[name], self._membrane[name], fired, arriving, task
            )
            self._fired[name] = sending[name]
        self._sent = sending
        self._history = [sending, *self._history[:-1]]

    def _delivers(self, link: Connection, step: int) -> bool:
        """A recurrent connection knows only the window of its source in this decision.

        Of a stateful network it knows all windows, outside of which nothing is sent.
        """
        if self.network.stateful:
            return True
        own = self.network.window(link.source)
        return not link.recurrent or own.start <= step - 1 - link.delay < own.stop


def wrap_sum(total: Integers) -> Integers:
    """Keep the lowest 24 bits, with their sign; the sum of a frame has no more, by proof."""
    return (total + CURRENT_LIMIT) % (2 * CURRENT_LIMIT) - CURRENT_LIMIT


def check_request(network: ChipNetwork, frames: NDArray[np.uint8], task: int) -> None:
    """Check what is asked of a chip before it runs.

    Raises:
        BadRequestError: wrong shape or type of frames, or no such task.
    """
    series = () if network.input.held else (network.time_steps,)
    wanted = (*series, *network.input.shape)
    if frames.dtype != network.input.dtype or frames.shape[1:] != wanted or not len(frames):
        raise BadRequestError(
            f"frames are {frames.dtype} {frames.shape}, this network takes {network.input.dtype} "
            f"(batch, {', '.join(map(str, wanted))})"
        )
    if not 0 <= task < len(network.tasks):
        raise BadRequestError(f"task {task}: this network has tasks 0 to {len(network.tasks) - 1}")


def integrate_and_fire(
    population: Population,
    current: Integers,
    membrane: Integers,
    fired: Integers,
    arriving: Integers,
    task: int,
) -> tuple[Integers, Integers, Integers]:
    """One step of the neurons: new current, new membrane, spikes (0 or 1).

    u <- wrap(T(u, du + 1) + (a << 6)); v <- saturate(T(v, dv) + u + bias);
    a spike where v > threshold << 6 (or equal, where the population says so), which sets v to 0.
    T rounds toward zero. The synaptic decay counts from du + 1, so du = 4095 forgets at once.
    Other resets: see :class:`Reset`.

    Args:
        population: the neurons.
        current: u, like all arrays (batch, *shape).
        membrane: v.
        fired: the spikes of the step before.
        arriving: a, summed over connections.
        task: row of the thresholds.
    """
    current = wrap_current(decay(current, population.current_decay + 1) + (arriving << STATE_SHIFT))
    bias = shift(population.bias_mantissa, population.bias_exponent)
    threshold = population.thresholds[task] << STATE_SHIFT
    last_quiet = threshold - population.fires_at_threshold
    above = membrane > last_quiet
    membrane = decay(membrane, population.membrane_decay) + current + bias
    if population.reset is Reset.SUBTRACT_LATE:
        membrane = membrane - fired * threshold
    membrane = saturate_membrane(membrane)
    if population.reset is Reset.SUBTRACT_GUARDED:
        spikes = membrane - above * threshold > last_quiet
    else:
        spikes = membrane > last_quiet
    if population.reset is Reset.ZERO:
        membrane = np.where(spikes, 0, membrane)
    elif population.reset in (Reset.SUBTRACT, Reset.SUBTRACT_GUARDED):
        membrane = membrane - spikes * threshold
    return current, membrane, spikes.astype(np.int64)


class Synapses:
    """One connection, its weights laid out for products of exact floats.

    float32 holds integers up to 2^24 exactly, float64 up to 2^53; the narrower one is used
    where the largest possible sum, and with it every partial sum, stays within it.
    """

    def __init__(self, link: Connection, network: ChipNetwork) -> None:
        self.link = link
        self.target_shape = network.shape_of(link.target)
        rows = np.abs(link.weights.reshape(len(link.weights), -1)).sum(1)
        largest = network.input.largest_message if link.source == INPUT else 1
        largest_sum = int(rows.max()) * largest
        self.dtype: type = np.float32 if largest_sum <= 2**24 else np.float64
        out = len(link.weights) // link.groups
        self.weights: list[AnyArray] = [
            link.weights[group * out : (group + 1) * out].reshape(out, -1).T.astype(self.dtype)
            for group in range(link.groups)
        ]

    def deliver(self, sent: Integers) -> Integers:
        """What arrives at the target: the shifted sum of weights times messages.

        Args:
            sent: messages of the source, (batch, *source shape), 0 where silent.

        Returns:
            (batch, *target shape).
        """
        return shift(self.weigh(sent), self.link.exponent)

    def weigh(self, sent: Integers) -> Integers:
        """The sum of weights times messages, before the shift; shapes as of :meth:`deliver`."""
        if not sent.any():
            return np.zeros((len(sent), *self.target_shape), dtype=np.int64)
        # Changes that add up over lost messages may be larger than the proof of `dtype` knows.
        proven = self.link.source != INPUT or int(np.abs(sent).max()) <= LARGEST_MESSAGE
        messages: AnyArray = sent.astype(self.dtype if proven else np.float64)
        if not self.link.kind.convolves:
            total = messages.reshape(len(sent), -1) @ self.weights[0]
        else:
            total = self._convolve(messages)
        return total.astype(np.int64).reshape(len(sent), *self.target_shape)

    def _convolve(self, messages: AnyArray) -> AnyArray:
        """Cross-correlation with OIHW weights: gather each output's inputs, then multiply."""
        geometry = conv_geometry(self.link, messages.shape[1:], self.link.weights.shape)
        assert geometry is not None, "the network is checked"
        per_group = geometry.channels_per_group
        views = geometry.patches(messages)
        batch, _, rows, columns = views.shape[:4]
        taps = views.transpose(0, 2, 3, 1, 4, 5)  # batch, row, column, channel, kernel y and x
        results = []
        for group, weights in enumerate(self.weights):
            channels = taps[:, :, :, group * per_group : (group + 1) * per_group]
            gathered = channels.reshape(batch * rows * columns, -1)
            total = (gathered @ weights).reshape(batch, rows, columns, -1)
            results.append(total.transpose(0, 3, 1, 2))
        return np.concatenate(results, axis=1)

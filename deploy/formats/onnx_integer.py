"""A chip network as an ONNX graph of integers: one chip step, all state explicit, any batch.

The graph does what the chip does in one step, to the bit. State (currents, membranes, the
messages still on their way) comes in and goes out; the caller keeps it between steps and
decisions, as :class:`mtspark.sim.backends.onnx.OnnxChip` does. Zeros are a chip at rest, before
the first decision of a game.

Under the encoders held and changes the messages of a frame leave in step 0 alone, and the sums
that they add up to behind each connection are state, too; see
:class:`mtspark.core.chip_network.Encoder`.

Arithmetic is int64, but for products of weights and messages, which are proven exact in floats:
in float32 where no sum can pass 2^24, in float64 otherwise. ONNX Runtime convolves in float32
only, so a convolution of graded messages is split over their bits until each part keeps within
2^24. ONNX divides integers toward zero, so every shift here divides a nonnegative number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from mtspark.core.arithmetic import CURRENT_LIMIT, DECAY_ONE, MEMBRANE_LIMIT, STATE_SHIFT
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    Decay,
    Encoder,
    Population,
    ReadoutKind,
    Reset,
    check_network,
)
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.files import NEXT, OnnxGraph, Port

FORMAT = "mtspark-integer-step"
VERSION = 1

EXACT_FLOAT32 = 2**24
"""Integers up to this, and sums that never pass it, are exact in float32."""

LIFT = 2**40
"""Added before a shift to the right, so that the division, too, rounds down."""


def integer_model(network: ChipNetwork, task: int | None = None) -> onnx.ModelProto:
    """Build the graph of one chip step.

    Inputs: ``input`` uint8, or int8 where it is signed, (batch, *input shape), the frame, or the
    slice of this step; ``step`` int64, counted from 0 in each decision; ``task`` int64, row of the
    thresholds; and the state. Outputs: ``values`` float64 (batch, *readout shape), the action
    values as of this step; and the next state. The spikes of a population P are
    ``next.sent.P.0``.

    Args:
        network: any chip network.
        task: bake in the thresholds of this row; the graph then has no input ``task``.

    Raises:
        BadNetworkError: the network breaks a rule, or a convolution is too wide to be exact.
        BadRequestError: there is no such task.
    """
    check_network(network)
    if task is not None and not 0 <= task < len(network.tasks):
        raise BadRequestError(f"task {task}: this network has tasks 0 to {len(network.tasks) - 1}")
    states = state_ports(network)
    step = _Step(network, task)
    step.build()
    frame = Port("input", network.input.dtype.name, network.input.shape)
    inputs = [frame, Port("step", "int64", batched=False)]
    if task is None:
        inputs.append(Port("task", "int64", batched=False))
    outputs = [Port("values", "float64", network.shape_of(network.readout.population))]
    return step.graph.model(
        [*inputs, *states],
        outputs + [state.renamed(NEXT + state.name) for state in states],
        describe(network, task),
    )


def state_ports(network: ChipNetwork) -> list[Port]:
    """The state of one chip, in the order of the graph's inputs.

    ``current.P`` and ``membrane.P`` of each population, ``sent.S.k``: what source S sent k + 1
    steps ago, and ``count.P``: spikes of the readout in its window, where these are read.
    Where a frame is kept, ``sent.input.k`` is int64, since changes are signed, ``sum.C`` is what
    connection C has added up of it, before its exponent, and under the encoder changes
    ``frame.input`` is the frame that was sent last.
    """
    kept = network.input.encoder is not Encoder.EVERY_STEP
    ports = []
    for population in network.populations:
        for kind in ("current", "membrane"):
            ports.append(Port(f"{kind}.{population.name}", "int64", population.shape))
    for source in (INPUT, *(population.name for population in network.populations)):
        kind = network.input.dtype.name if source == INPUT else "uint8"
        if kept and source == INPUT:
            kind = "int64"
        for lag in range(_reach(network, source)):
            ports.append(Port(f"sent.{source}.{lag}", kind, network.shape_of(source)))
    if network.input.encoder is Encoder.CHANGES:
        ports.append(Port(f"frame.{INPUT}", network.input.dtype.name, network.input.shape))
    for link in network.connections:
        if kept and link.source == INPUT:
            ports.append(Port(f"sum.{link.name}", "int64", network.shape_of(link.target)))
    if network.readout.kind is ReadoutKind.SPIKES:
        name = network.readout.population
        ports.append(Port(f"count.{name}", "int64", network.shape_of(name)))
    return ports


def describe(network: ChipNetwork, task: int | None) -> dict[str, Any]:
    """Return what a runner needs beside the graph, as JSON values."""
    encoder = network.input.encoder
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": network.name,
        "tasks": [entry.name for entry in network.tasks],
        "task": task,
        "time_steps": network.time_steps,
        "steps_per_decision": network.steps_per_decision,
        "held": network.input.held,
        **({"stateful": True} if network.stateful else {}),
        **(
            {}
            if encoder is Encoder.EVERY_STEP
            else {"encoder": encoder.value, "input_type": network.input.dtype.name}
        ),
        "input_shape": list(network.input.shape),
        "readout": network.readout.population,
        "depths": {entry.name: network.depths[entry.name] for entry in network.populations},
        "state": [[port.name, port.dtype, list(port.shape)] for port in state_ports(network)],
    }


def _reach(network: ChipNetwork, source: str) -> int:
    """How many steps back the messages of a source are still needed, at least one."""
    reach = 1 + max(
        (link.delay for link in network.connections if link.source == source), default=0
    )
    if not network.stateful or source == INPUT:
        return reach
    # With a late reset, what it sent in its window of the decision before.
    late = network.population(source).reset is Reset.SUBTRACT_LATE
    return max(reach, network.steps_per_decision) if late else reach


class _Step:
    """The nodes of one chip step."""

    def __init__(self, network: ChipNetwork, task: int | None) -> None:
        self.network, self.task = network, task
        self.graph = OnnxGraph()

    def build(self) -> None:
        network, graph = self.network, self.graph
        for population in network.populations:
            self._population(population)
        if network.input.encoder is Encoder.EVERY_STEP:
            message = "input"
            if network.input.payload_bits == 0:
                message = graph.cast(graph.cast("input", "bool"), "uint8")
            sending = graph.op("Less", "step", graph.constant(network.time_steps))
            silence = graph.constant(0, network.input.dtype)
            message = self._one_of(sending, message, silence)
        else:
            message = self._send_frame()
        self._remember(INPUT, message)
        self._read_out()

    def _send_frame(self) -> str:
        """Send a frame, or what changed of it, in the first step of a decision."""
        graph, last = self.graph, f"frame.{INPUT}"
        first = graph.op("Equal", "step", graph.constant(0))
        message = graph.cast("input", "int64")
        if self.network.input.encoder is Encoder.CHANGES:
            message = graph.op("Sub", message, graph.cast(last, "int64"))
            self._one_of(first, "input", last, result=NEXT + last)
        return graph.op("Where", first, message, graph.constant(0))

    def _one_of(self, first: str, one: str, other: str, result: str | None = None) -> str:
        """Choose of two inputs of the network; ONNX Runtime 1.23 does not for int8."""
        graph, dtype = self.graph, self.network.input.dtype
        if dtype != np.int8:
            return graph.op("Where", first, one, other, result=result)
        wide = graph.op("Where", first, graph.cast(one, "int64"), graph.cast(other, "int64"))
        return graph.cast(wide, "int8", result)

    def _remember(self, source: str, message: str) -> None:
        """Move the messages of a source one step on."""
        self.graph.op("Identity", message, result=f"{NEXT}sent.{source}.0")
        for lag in range(1, _reach(self.network, source)):
            self.graph.op(
                "Identity", f"sent.{source}.{lag - 1}", result=f"{NEXT}sent.{source}.{lag}"
            )

    def _population(self, population: Population) -> None:
        graph, name = self.graph, population.name
        zero = graph.constant(0)
        first = graph.op("Equal", "step", graph.constant(self.network.depths[name]))
        current, membrane = f"current.{name}", f"membrane.{name}"
        stateful, last = self.network.stateful, 0
        if stateful:
            last = self.network.depth
        else:
            current = graph.op("Where", first, zero, current)
            membrane = graph.op("Where", first, zero, membrane)
        threshold = self._thresholds(population)
        fires = "GreaterOrEqual" if population.fires_at_threshold else "Greater"
        above = graph.op(fires, membrane, threshold)
        current = self._decay(current, np.asarray(population.current_decay) + 1)
        for link in self.network.connections:
            if link.target == name:
                current = graph.op("Add", current, self._arriving(link, population.shape))
        current = self._wrap(current)
        if stateful:
            graph.op("Where", first, current, f"current.{name}", result=f"{NEXT}current.{name}")
        else:
            graph.op("Identity", current, result=f"{NEXT}current.{name}")
        membrane = graph.op("Add", self._decay(membrane, population.membrane_decay), current)
        bias = population.bias_mantissa << population.bias_exponent
        if bias.any():
            membrane = graph.op("Add", membrane, graph.constant(bias))
        if population.reset is Reset.SUBTRACT_LATE:
            fired = graph.cast(f"sent.{name}.{last}", "int64")
            if not stateful:
                fired = graph.op("Where", first, zero, fired)
            membrane = graph.op("Sub", membrane, graph.op("Mul", fired, threshold))
        membrane = self._saturate(membrane)
        tested = membrane
        if population.reset is Reset.SUBTRACT_GUARDED:
            guard = graph.op("Mul", graph.cast(above, "int64"), threshold)
            tested = graph.op("Sub", membrane, guard)
        spikes = graph.op(fires, tested, threshold)
        if population.reset is Reset.ZERO:
            membrane = graph.op("Where", spikes, zero, membrane)
        elif population.reset in (Reset.SUBTRACT, Reset.SUBTRACT_GUARDED):
            taken = graph.op("Mul", graph.cast(spikes, "int64"), threshold)
            membrane = graph.op("Sub", membrane, taken)
        elif population.reset not in (Reset.SUBTRACT_LATE, Reset.NONE):
            raise BadNetworkError(
                f"population {name!r}: ONNX has no reset {population.reset.value}"
            )
        if stateful:
            # Outside of its window it holds, and is silent.
            graph.op("Where", first, membrane, f"membrane.{name}", result=f"{NEXT}membrane.{name}")
            spikes = graph.op("And", first, spikes)
        else:
            graph.op("Identity", membrane, result=f"{NEXT}membrane.{name}")
        self._remember(name, graph.cast(spikes, "uint8"))

    def _thresholds(self, population: Population) -> str:
        """Thresholds of the task in membrane units."""
        values = population.thresholds << STATE_SHIFT
        if self.task is not None:
            return self.graph.constant(values[self.task])
        return self.graph.op("Gather", self.graph.constant(values), "task", axis=0)

    def _decay(self, value: str, factor: Decay) -> str:
        """value (4096 - factor) / 4096, rounded toward zero: of |v|, with the sign of v.

        The sign by a comparison: Sign of ONNX Runtime (1.31.1) errs on int64 beyond 32 bits.
        """
        graph, keep = self.graph, DECAY_ONE - np.asarray(factor, dtype=np.int64)
        if not keep.any():
            return graph.op("Mul", value, graph.constant(0))
        if (keep == DECAY_ONE).all():
            return value
        product = graph.op("Mul", graph.op("Abs", value), graph.constant(keep))
        rounded = graph.op("Div", product, graph.constant(DECAY_ONE))
        negative = graph.op("Less", value, graph.constant(0))
        return graph.op("Where", negative, graph.op("Neg", rounded), rounded)

    def _saturate(self, membrane: str) -> str:
        """Keep a membrane within its range.

        By comparisons: Min and Max of ONNX Runtime (1.31.1) err on int64 beyond 32 bits.
        """
        graph = self.graph
        for name, bound in (("Greater", MEMBRANE_LIMIT), ("Less", -MEMBRANE_LIMIT)):
            limit = graph.constant(bound)
            membrane = graph.op("Where", graph.op(name, membrane, limit), limit, membrane)
        return membrane

    def _wrap(self, current: str) -> str:
        """Correct an overflow once, by 2^24."""
        graph = self.graph
        limit, whole = graph.constant(CURRENT_LIMIT), graph.constant(2 * CURRENT_LIMIT)
        lowered = graph.op("Sub", current, whole)
        current = graph.op("Where", graph.op("Greater", current, limit), lowered, current)
        raised = graph.op("Add", current, whole)
        under = graph.op("LessOrEqual", current, graph.constant(-CURRENT_LIMIT))
        return graph.op("Where", under, raised, current)

    def _arriving(self, link: Connection, shape: tuple[int, ...]) -> str:
        """What a connection adds to the current: (weights . messages) << exponent << 6."""
        graph = self.graph
        message = f"sent.{link.source}.{link.delay}"
        if link.recurrent and not self.network.stateful:
            own = self.network.window(link.source)
            late = 1 + link.delay
            begun = graph.op("GreaterOrEqual", "step", graph.constant(own.start + late))
            going = graph.op("Less", "step", graph.constant(own.stop + late))
            within = graph.op("And", begun, going)
            message = graph.op("Where", within, message, graph.constant(0, np.uint8))
        if link.kind.convolves:
            total = self._convolve(link, message)
        else:
            total = self._multiply(link, message)
            total = graph.op("Reshape", total, graph.constant([-1, *shape]))
        if link.source == INPUT and self.network.input.encoder is not Encoder.EVERY_STEP:
            total = self._kept(link, total)
        if link.exponent < 0:
            lifted = graph.op("Add", total, graph.constant(LIFT))
            lowered = graph.op("Div", lifted, graph.constant(2**-link.exponent))
            total = graph.op("Sub", lowered, graph.constant(LIFT >> -link.exponent))
        gain = 2 ** (max(link.exponent, 0) + STATE_SHIFT)
        return graph.op("Mul", total, graph.constant(gain))

    def _kept(self, link: Connection, arrived: str) -> str:
        """Add to the sum of a connection; all of it arrives in each step of the target's window.

        A decision's messages arrive in the first of these steps, in which a held frame begins
        anew.
        """
        graph, own = self.graph, self.network.window(link.target)
        total = f"sum.{link.name}"
        if self.network.input.encoder is Encoder.HELD:
            first = graph.op("Equal", "step", graph.constant(own.start))
            total = graph.op("Where", first, graph.constant(0), total)
        total = graph.op("Add", total, arrived, result=f"{NEXT}sum.{link.name}")
        begun = graph.op("GreaterOrEqual", "step", graph.constant(own.start))
        going = graph.op("Less", "step", graph.constant(own.stop))
        within = graph.op("And", begun, going)
        return graph.op("Where", within, total, graph.constant(0))

    def _largest_message(self, link: Connection) -> int:
        return self.network.input.largest_message if link.source == INPUT else 1

    def _multiply(self, link: Connection, message: str) -> str:
        graph = self.graph
        worst = int(np.abs(link.weights).sum(1).max()) * self._largest_message(link)
        exact = "float32" if worst <= EXACT_FLOAT32 else "float64"
        flat = graph.op("Flatten", graph.cast(message, exact), axis=1)
        weights = graph.constant(link.weights.T, np.dtype(exact))
        return graph.cast(graph.op("MatMul", flat, weights), "int64")

    def _convolve(self, link: Connection, message: str) -> str:
        graph = self.graph
        worst = int(np.abs(link.weights.reshape(len(link.weights), -1)).sum(1).max())
        largest = self._largest_message(link)
        bits = largest.bit_length()
        width = next((n for n in range(bits, 0, -1) if worst * (2**n - 1) <= EXACT_FLOAT32), 0)
        if not width:
            raise BadNetworkError(
                f"connection {link.name!r}: weights of one output sum to {worst}, exact in "
                f"ONNX Runtime's float32 convolutions are {EXACT_FLOAT32}"
            )
        weights = graph.constant(link.weights, np.float32)
        pads = [*link.padding, *link.padding]
        geometry: dict[str, Any] = {
            "strides": link.stride,
            "dilations": link.dilation,
            "pads": pads,
        }
        total = ""
        for low in range(0, bits, width):
            part = message
            if width < bits:
                whole = graph.op("Div", graph.cast(message, "int64"), graph.constant(2**low))
                higher = graph.op("Div", whole, graph.constant(2**width))
                part = graph.op("Sub", whole, graph.op("Mul", higher, graph.constant(2**width)))
            sums = graph.op(
                "Conv", graph.cast(part, "float32"), weights, group=link.groups, **geometry
            )
            scaled = graph.op("Mul", graph.cast(sums, "int64"), graph.constant(2**low))
            total = graph.op("Add", total, scaled) if total else scaled
        return total

    def _read_out(self) -> None:
        """Action values as of this step, float64 as in the reference."""
        graph, readout = self.graph, self.network.readout
        name = readout.population
        read = f"{NEXT}membrane.{name}"
        if readout.kind is ReadoutKind.SPIKES:
            own = self.network.window(name)
            first = graph.op("Equal", "step", graph.constant(0))
            before = graph.op("Where", first, graph.constant(0), f"count.{name}")
            begun = graph.op("GreaterOrEqual", "step", graph.constant(own.start))
            going = graph.op("Less", "step", graph.constant(own.stop))
            within = graph.cast(graph.op("And", begun, going), "int64")
            spikes = graph.op("Mul", graph.cast(f"{NEXT}sent.{name}.0", "int64"), within)
            read = graph.op("Add", before, spikes, result=f"{NEXT}count.{name}")
        scale = graph.constant(readout.scale, np.float64)
        graph.op("Mul", graph.cast(read, "float64"), scale, result="values")

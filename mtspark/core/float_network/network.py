"""The float network: what every importer makes and every quantiser reads. NumPy only.

Time is layer-synchronous: within one step every population sees what its sources send in the
same step, unless the connection has a delay. (The chip's own time, where each synapse layer
costs a step, begins in ``deploy``.) One step of a population, all per neuron:

    current  i_t = current_keep * i_(t-1) + sum of incoming connections + bias_current
    membrane v_t = membrane_keep * v_(t-1) + gain * i_t + membrane_bias  [and the reset]
    spike    s_t = v_t > threshold (strictly; or v_t >= threshold, where the population says so)

A connection of delay k carries what its source sent in step t - k; before its first step a
source sent nothing. A loop needs delay: with delay 0 a source must be listed before its target.
A population without thresholds never fires and sends its membrane. The source CONSTANT sends
1 in every step, so a delayed bias is a dense connection from it. Reset kinds: see FloatReset.

API: FloatNetwork(name, input, populations, connections, output, tasks, dt, time_steps, notes).
mtspark.core.float_network.rules: check_float_network; merge_tasks joins networks that differ in
thresholds only. mtspark.core.float_network.handover: as plain values and back.
mtspark.core.float_network.simulator.run_float(network, series, task) runs a (T, batch, *shape)
series and returns every spike, membrane and current of every population, and the output's values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from mtspark.core.arrays import Floats
from mtspark.core.chip_network import INPUT
from mtspark.core.errors import BadNetworkError
from mtspark.core.geometry import ConvGeometry, ConvParameters, conv_geometry

CONSTANT = "constant"
"""Name of a source of one value that is 1 in every step."""


class FloatReset(str, Enum):
    """What a spike does to the membrane (theta is the threshold).

    zero: v becomes 0 in the step of the spike.
    zero_late: the whole membrane of the next step is 0, its input included (snntorch's
        Synaptic, RLeaky and RSynaptic with ``reset_mechanism="zero"`` and delay).
    subtract: v loses theta in the step of the spike.
    subtract_late: v loses theta in the next step, undecayed (snntorch's default).
    subtract_guarded: as subtract, but a neuron whose membrane was above theta at the end of the
        step before (after its reset) fires only above 2 theta; snntorch's ``reset_delay=False``.
    none: nothing.
    """

    ZERO = "zero"
    ZERO_LATE = "zero_late"
    SUBTRACT = "subtract"
    SUBTRACT_LATE = "subtract_late"
    SUBTRACT_GUARDED = "subtract_guarded"
    NONE = "none"


class FloatKind(str, Enum):
    """How the weights of a connection are laid out.

    dense: (targets, sources) over flattened shapes, row-major.
    conv: (out channels, in channels / groups, rows, columns), cross-correlation.
    diagonal: (neurons,), one factor for each pair of neurons of equal index.
    """

    DENSE = "dense"
    CONV = "conv"
    DIAGONAL = "diagonal"


class OutputKind(str, Enum):
    """What a run answers.

    membrane: the membrane after the last step. mean: that, divided by the number of steps.
    spikes: the number of spikes.
    """

    MEMBRANE = "membrane"
    MEAN = "mean"
    SPIKES = "spikes"


@dataclass(frozen=True)
class FloatPopulation:
    """Neurons; every array has the population's shape unless another is given.

    Attributes:
        name: unique in the network.
        shape: without batch, for example (neurons,) or (channels, rows, columns).
        membrane_keep: beta, what a membrane keeps from step to step, 0 to 1.
        current_keep: alpha, what a current keeps from step to step; 0 has no memory.
        gain: of the current into the membrane.
        thresholds: (tasks, *shape), or None where the neurons never fire.
        reset: what a spike does.
        bias_current: added to the current in every step.
        membrane_bias: added to the membrane in every step.
        initial_current, initial_membrane: before the first step.
        membrane_offset: to be added to a membrane to give the potential of the original.
        fires_at_threshold: a membrane equal to the threshold fires too.
    """

    name: str
    shape: tuple[int, ...]
    membrane_keep: Floats
    current_keep: Floats
    gain: Floats
    thresholds: Floats | None
    reset: FloatReset
    bias_current: Floats
    membrane_bias: Floats
    initial_current: Floats
    initial_membrane: Floats
    membrane_offset: Floats
    fires_at_threshold: bool = False

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))

    @property
    def spiking(self) -> bool:
        """Whether the neurons fire."""
        return self.thresholds is not None

    @property
    def has_current_memory(self) -> bool:
        """Whether any current outlasts its step."""
        return bool(np.any(self.current_keep))


@dataclass(frozen=True)
class FloatConnection(ConvParameters):
    """Synapses from one population, :data:`INPUT` or :data:`CONSTANT` to a population.

    Attributes:
        name: unique in the network.
        source, target: names.
        kind: layout of the weights.
        weights: float64.
        input_shape, output_shape: conv only, (channels, rows, columns); their sizes are those
            of source and target, whose own shapes may be flattened.
        stride, padding, dilation, groups: conv only.
        delay: in steps; a connection that closes a loop needs at least 1.
        notional_delay: part of `delay` that no file asked for: the step that a loop needs.
    """

    name: str
    source: str
    target: str
    kind: FloatKind
    weights: Floats
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    delay: int = 0
    notional_delay: int = 0

    @property
    def geometry(self) -> ConvGeometry | None:
        """Of a convolution; None where its kernel does not fit its image."""
        return conv_geometry(self, self.input_shape, self.weights.shape)


@dataclass(frozen=True)
class FloatInput:
    """The source of the series.

    Attributes:
        shape: of one step, without batch.
        scale: value of one payload unit: a chip sends integers, the network saw integer * scale.
        signed: these integers may be negative.
    """

    shape: tuple[int, ...]
    scale: float = 1.0
    signed: bool = False


@dataclass(frozen=True)
class FloatOutput:
    """What is read.

    Attributes:
        population: of it.
        kind: how.
        scale: an answer is this times what is read.
    """

    population: str
    kind: OutputKind
    scale: float = 1.0


@dataclass(frozen=True)
class FloatNetwork:
    """A spiking network in float64.

    Attributes:
        name: of the file or model it came from.
        input: the source of the series.
        populations: a source comes before its target, except over delayed connections.
        connections: in any order; several may join the same two populations.
        output: what is read.
        tasks: names; row i of every threshold array belongs to task i.
        dt: time step in the unit of the original's time constants, for information.
        time_steps: T of one decision, or 0 where the origin does not say.
        notes: choices that were made while reading, for the user, one sentence each.
        stateful: a step is a decision, and state survives it; a series is then an episode, and
            each of its steps has an answer: what is read after it, or the spikes of it.
    """

    name: str
    input: FloatInput
    populations: tuple[FloatPopulation, ...]
    connections: tuple[FloatConnection, ...]
    output: FloatOutput
    tasks: tuple[str, ...] = ("default",)
    dt: float = 1e-4
    time_steps: int = 0
    notes: tuple[str, ...] = ()
    stateful: bool = False

    def population(self, name: str) -> FloatPopulation:
        """Return a population by name.

        Raises:
            BadNetworkError: there is none.
        """
        for population in self.populations:
            if population.name == name:
                return population
        known = ", ".join(population.name for population in self.populations)
        raise BadNetworkError(f"{self.name}: no population {name!r}; there are {known}")

    def size_of(self, name: str) -> int:
        """Number of values that a source sends in a step."""
        if name == INPUT:
            return int(np.prod(self.input.shape))
        return 1 if name == CONSTANT else self.population(name).size

    def incoming(self, name: str) -> list[FloatConnection]:
        """Connections that end at a population."""
        return [link for link in self.connections if link.target == name]


def leaky_population(
    name: str,
    shape: tuple[int, ...],
    *,
    membrane_keep: Floats | float,
    gain: Floats | float = 1.0,
    thresholds: Floats | None = None,
    current_keep: Floats | float = 0.0,
    reset: FloatReset = FloatReset.ZERO,
    bias_current: Floats | float = 0.0,
    membrane_bias: Floats | float = 0.0,
    initial_current: Floats | float = 0.0,
    initial_membrane: Floats | float = 0.0,
    membrane_offset: Floats | float = 0.0,
    fires_at_threshold: bool = False,
) -> FloatPopulation:
    """Build a population, numbers standing for all of its neurons.

    Args:
        name: unique in the network.
        shape: of the population.
        thresholds: (tasks, *shape) or what broadcasts to it along the neurons; None: never fires.
        membrane_keep, gain, current_keep, reset, bias_current, membrane_bias, initial_current,
        initial_membrane, membrane_offset, fires_at_threshold: see :class:`FloatPopulation`.
    """

    def full(value: Floats | float) -> Floats:
        return np.broadcast_to(np.asarray(value, np.float64), shape).copy()

    if thresholds is not None:
        rows = np.asarray(thresholds, np.float64)
        rows = rows.reshape(1) if rows.ndim == 0 else rows
        thresholds = np.stack([full(row) for row in rows])
    return FloatPopulation(
        name=name,
        shape=shape,
        membrane_keep=full(membrane_keep),
        current_keep=full(current_keep),
        gain=full(gain),
        thresholds=thresholds,
        reset=reset,
        bias_current=full(bias_current),
        membrane_bias=full(membrane_bias),
        initial_current=full(initial_current),
        initial_membrane=full(initial_membrane),
        membrane_offset=full(membrane_offset),
        fires_at_threshold=fires_at_threshold,
    )

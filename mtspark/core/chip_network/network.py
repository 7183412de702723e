"""The chip network: integers only, everything that a backend needs, no torch and no Lava.

Time is chip time. A connection of delay k delivers in step t what its source sent in step
t - 1 - k, so a population at depth d (the sum of 1 + k over the connections from the input)
works on a decision in the steps d + 1 to d + T of that decision, and a decision of a network
of depth L takes T + L steps. Every population is set to rest at the first step of its window.

A recurrent connection closes a loop and has no part in depths. It too delivers what was sent
1 + k steps ago, but only what its source sent in its window of the current decision: seen from
source and target at their own windows, it lags by depth(source) + 1 + k - depth(target) steps.

A *stateful* network takes one frame a decision (T = 1), and its state survives decisions. A
population integrates and fires in its window alone, which is one step of each decision; in the
others it holds current and membrane and sends nothing. It is at rest only at the first decision
of an episode. A recurrent connection reaches over decisions: its 1 + k steps are
lag * (L + 1) + depth(target) - depth(source), and it brings what its source sent `lag` decisions
ago. N such decisions are one of an ordinary network of T = N whose series are these N frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtspark.core.chip_network.encoding import Encoder
from mtspark.core.environments import (
    GameProtocol,
    Task,
    named_task,
    protocol_with_sticky,
    task_index,
)
from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.geometry import ConvParameters

INPUT = "input"
"""Name of the source of frames."""
ANSWER_FACTOR = "answer_factor"
"""In the provenance of a network whose answers are a number times what is read of it; no graph has
it."""
GIVEN_FLAT = "given_flat"
"""In the provenance of a network whose origin takes flat inputs and shapes them itself."""


class SignMode(str, Enum):
    """Which signs the weights of a connection may have; never guessed from the values."""

    MIXED = "mixed"
    EXCITATORY = "excitatory"
    INHIBITORY = "inhibitory"


class ConnectionKind(str, Enum):
    """How the weights of a connection are laid out."""

    DENSE = "dense"
    CONV = "conv"
    SPARSE = "sparse"
    SPARSE_CONV = "sparse_conv"

    @property
    def convolves(self) -> bool:
        """Whether a kernel moves over an image."""
        return self in (ConnectionKind.CONV, ConnectionKind.SPARSE_CONV)

    @property
    def stores_zeros(self) -> bool:
        """Whether a weight of zero is a synapse, which takes memory and operations."""
        return self in (ConnectionKind.DENSE, ConnectionKind.CONV)

    def without_zeros(self, weights: NDArray[Any]) -> ConnectionKind:
        """The kind that keeps these weights, in chip units, with fewer synapses.

        A matrix is a list where fewer than half of its weights are not 0, a kernel where fewer
        than a third are: with its indices, a list of more would take more memory than a kernel
        that all places share.
        """
        least = 3 if self.convolves else 2
        if not self.stores_zeros or np.count_nonzero(weights) * least >= weights.size:
            return self
        return ConnectionKind.SPARSE_CONV if self.convolves else ConnectionKind.SPARSE


class Reset(str, Enum):
    """What a spike does to its membrane v; theta is the threshold in membrane units.

    Loihi 1 and Lava's LIF have ZERO. The others are small programs of a Loihi 2 neuron. The
    membrane that is recorded is v at the end of the step.

    * ZERO: v is set to 0 in the step of the spike.
    * SUBTRACT: v loses theta in the step of the spike.
    * SUBTRACT_LATE: v loses theta in the step after the spike, after its decay; snntorch's
      default.
    * SUBTRACT_GUARDED: as SUBTRACT, but a neuron whose membrane was above theta at the end of
      the step before (after its reset, before its decay) fires only above 2 theta; snntorch's
      ``reset_delay=False`` with ``reset_mechanism="subtract"``.
    * NONE: nothing.
    """

    ZERO = "zero"
    SUBTRACT = "subtract"
    SUBTRACT_LATE = "subtract late"
    SUBTRACT_GUARDED = "subtract guarded"
    NONE = "none"


class ReadoutKind(str, Enum):
    """What of a population is read at the end of a decision."""

    MEMBRANE = "membrane"
    SPIKES = "spikes"


Decay = int | NDArray[np.int64]
"""A decay of 4096, for the whole population or (an array of its shape) for each neuron."""


@dataclass(frozen=True)
class Population:
    """Leaky integrate-and-fire neurons.

    Attributes:
        name: unique in the network.
        shape: (neurons,) or (channels, height, width).
        current_decay: du of 4096; 4095 makes a current last one step.
        membrane_decay: dv of 4096; 4096 forgets at once, 0 never.
        thresholds: int64 mantissas of shape (tasks, *shape); a neuron fires when its
            membrane is strictly above threshold << 6.
        bias_mantissa: int64 of shape `shape`, added as mantissa << exponent at every step.
        bias_exponent: of all biases of the population.
        reset: what a spike does to the membrane.
        fires_at_threshold: a neuron fires where its membrane equals threshold << 6, too. Loihi 1
            and Lava's own LIF lack that. Where membranes are whole mantissas, neurons that reset to
            zero or not at all do the same with a threshold one lower.
    """

    name: str
    shape: tuple[int, ...]
    current_decay: Decay
    membrane_decay: Decay
    thresholds: NDArray[np.int64]
    bias_mantissa: NDArray[np.int64]
    bias_exponent: int = 0
    reset: Reset = Reset.ZERO
    fires_at_threshold: bool = False

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Connection(ConvParameters):
    """Synapses from one population, or the input, to another.

    Attributes:
        name: unique in the network.
        source: population name, or :data:`INPUT`.
        target: population name.
        kind: dense: weights (out, in) over flattened shapes (channel, row, column order);
            conv: weights (out, in / groups, height, width), cross-correlation;
            sparse, sparse_conv: as dense and conv, but where the weight is zero there is no
            synapse.
        weights: int64 in chip units: mixed -256..254 and even at 8 bits, excitatory 0..255,
            inhibitory -255..0.
        sign_mode: sets range and step of the weights.
        exponent: the sum over inputs is shifted by this, after summing, rounding down.
        weight_bits: 1 to 8; fewer bits mean coarser steps.
        stride, padding, dilation, groups: conv only.
        delay: further steps on the way, 0 to 62.
        recurrent: closes a loop, see the module text.
    """

    name: str
    source: str
    target: str
    kind: ConnectionKind
    weights: NDArray[np.int64]
    sign_mode: SignMode
    exponent: int = 0
    weight_bits: int = 8
    delay: int = 0
    recurrent: bool = False

    @property
    def stored_weights(self) -> int:
        """Weights that a chip keeps, each once: zeros only where the kind stores them."""
        stored = self.weights.size if self.kind.stores_zeros else np.count_nonzero(self.weights)
        return int(stored)


@dataclass(frozen=True)
class FrameInput:
    """The source of messages.

    Attributes:
        shape: (channels, height, width) or (values,).
        payload_bits: 0 sends binary spikes for nonzero values, 8 sends values 0..255.
        signed: the values are -128..127 instead; 0 is silent in either case.
        held: a decision is given one frame for all its T steps; otherwise a decision is
            given a series of T slices, one a step.
        scale: the float value that a message of 1 stands for; the chip never sees it.
        encoder: how one frame is sent; a series is sent step by step.
    """

    shape: tuple[int, ...]
    payload_bits: int
    held: bool = True
    scale: float = 1.0
    encoder: Encoder = Encoder.EVERY_STEP
    signed: bool = False

    @property
    def largest_message(self) -> int:
        """Magnitude that no message of the input exceeds."""
        if not self.payload_bits:
            return 1
        return int(2 ** (self.payload_bits - 1) if self.signed else 2**self.payload_bits - 1)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of a frame's values: int8 where they are signed, otherwise uint8."""
        return np.dtype(np.int8 if self.signed else np.uint8)


@dataclass(frozen=True)
class Readout:
    """How the end of a decision becomes action values.

    Attributes:
        population: one neuron for each action (or class).
        scale: float64 of the population's shape.
        kind: the values are the membranes after the last step of the decision (of a
            population that integrates and never fires), or the spikes in its window; each
            times `scale`.
    """

    population: str
    scale: NDArray[np.float64]
    kind: ReadoutKind = ReadoutKind.MEMBRANE


@dataclass(frozen=True)
class ChipNetwork:
    """A whole network in integers; see the module text for its sense of time.

    Attributes:
        name: of the agent it came from.
        input: the source of frames.
        populations: in an order in which sources come before targets.
        connections: likewise.
        readout: of the action values.
        tasks: row i of every threshold array belongs to task i.
        time_steps: T, how many frames or slices are sent for one decision.
        protocol: how ALE's games are played; None for a network that plays none of them.
        provenance: where it came from: file hashes, tool versions, quantisation settings.
        stateful: state survives decisions, see the module text.
    """

    name: str
    input: FrameInput
    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]
    readout: Readout
    tasks: tuple[Task, ...]
    time_steps: int
    protocol: GameProtocol | None
    provenance: dict[str, str] = field(default_factory=dict)
    stateful: bool = False

    @cached_property
    def depths(self) -> dict[str, int]:
        """Steps that a message takes from the input (0) to each population.

        Raises:
            BadNetworkError: branches of unequal depth meet, or a source comes after its target.
        """
        depths = {INPUT: 0}
        for population in self.populations:
            incoming = [
                link
                for link in self.connections
                if link.target == population.name and not link.recurrent
            ]
            unknown = [link.source for link in incoming if link.source not in depths]
            if not incoming or unknown:
                raise BadNetworkError(
                    f"population {population.name!r} has no input that is computed before it "
                    f"({unknown or 'no connection'}); list sources before targets and mark the "
                    "connections that close loops as recurrent"
                )
            reached = {depths[link.source] + 1 + link.delay for link in incoming}
            if len(reached) > 1:
                raise BadNetworkError(
                    f"branches of depths {sorted(reached)} meet at population "
                    f"{population.name!r}; delay the shorter ones"
                )
            depths[population.name] = reached.pop()
        for link in self.connections:
            if not link.recurrent or not {link.source, link.target} <= set(depths):
                continue
            if self.stateful:
                _check_reach(link, depths)
                continue
            lag = depths[link.source] + 1 + link.delay - depths[link.target]
            if lag < 1:
                raise BadNetworkError(
                    f"loop through {link.name!r} is tighter than its synapses: its messages come "
                    f"{1 - lag} steps too late; delay the loop by {1 - lag} steps in the model"
                )
        return depths

    @property
    def depth(self) -> int:
        """L, the largest depth of a population."""
        return max(self.depths.values())

    @property
    def steps_per_decision(self) -> int:
        """T + L."""
        return self.time_steps + self.depth

    def fires(self, name: str) -> bool:
        """Whether a population sends spikes; of a readout the membranes may be read instead."""
        return name != self.readout.population or self.readout.kind is ReadoutKind.SPIKES

    def window(self, name: str) -> slice:
        """The steps (as indices from 0) in which a source works on the current decision."""
        start = self.depths[name]
        return slice(start, start + self.time_steps)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of a population or of the input."""
        return self.input.shape if name == INPUT else self.population(name).shape

    def population(self, name: str) -> Population:
        """Return a population by name.

        Raises:
            BadRequestError: there is none.
        """
        for population in self.populations:
            if population.name == name:
                return population
        known = ", ".join(population.name for population in self.populations)
        raise BadRequestError(f"no population {name!r}; this network has {known}")

    @property
    def plays(self) -> bool:
        """Whether a task is a game or an environment."""
        return any(task.game for task in self.tasks)

    def protocol_with(self, sticky: float | None = None) -> GameProtocol | None:
        """How ALE's games are played; None where the tasks are environments.

        Args:
            sticky: another probability of sticky actions than the protocol's.

        Raises:
            BadRequestError: the network plays nothing, or sticky actions in an environment.
        """
        if not self.plays:
            raise BadRequestError(f"{self.name}: plays no game; give it recorded inputs instead")
        return protocol_with_sticky(self.protocol, sticky)

    def task_index(self, task: str) -> int:
        """Row of a task in the threshold arrays.

        Raises:
            BadRequestError: the network does not know the task.
        """
        return task_index(self.tasks, task)

    def task_name(self, task: str) -> str:
        """The name of a task that may be called as gymnasium calls its game.

        Raises:
            BadRequestError: the network does not know the task.
        """
        return named_task(self.tasks, task)


def _check_reach(link: Connection, depths: dict[str, int]) -> None:
    """Refuse a loop of a stateful network that does not bring what an earlier decision sent."""
    whole = max(depths.values()) + 1
    ahead = depths[link.target] - depths[link.source]
    lag, rest = divmod(1 + link.delay - ahead, whole)
    if rest or lag < 1:
        raise BadNetworkError(
            f"loop through {link.name!r} has a delay of {link.delay}, and its messages meet no "
            f"window of {link.target!r}; a decision takes {whole} steps: give it a delay of "
            f"{whole + ahead - 1} or a multiple of {whole} more"
        )

"""The chip network: integers only, everything that a backend needs, no torch and no Lava.

Time is chip time. A connection of delay k delivers in step t what its source sent in step
t - 1 - k, so a population at depth d (the sum of 1 + k over the connections from the input)
works on a decision in the steps d + 1 to d + T of that decision, and a decision of a network
of depth L takes T + L steps. Every population is set to rest at the first step of its window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BadNetworkError, BadRequestError
from mtspark.core.protocol import GameProtocol, Task, task_index

INPUT = "input"
"""Name of the source of frames."""


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


@dataclass(frozen=True)
class Population:
    """Leaky integrate-and-fire neurons that share their decays; a spike resets to zero.

    Attributes:
        name: unique in the network.
        shape: (neurons,) or (channels, height, width).
        current_decay: du of 4096; 4095 makes a current last one step.
        membrane_decay: dv of 4096; 4096 forgets at once, 0 never.
        thresholds: int64 mantissas of shape (tasks, *shape); a neuron fires when its
            membrane is strictly above threshold << 6.
        bias_mantissa: int64 of shape `shape`, added as mantissa << exponent at every step.
        bias_exponent: of all biases of the population.
    """

    name: str
    shape: tuple[int, ...]
    current_decay: int
    membrane_decay: int
    thresholds: NDArray[np.int64]
    bias_mantissa: NDArray[np.int64]
    bias_exponent: int = 0

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Connection:
    """Synapses from one population, or the input, to another.

    Attributes:
        name: unique in the network.
        source: population name, or :data:`INPUT`.
        target: population name.
        kind: dense: weights (out, in) over flattened shapes (channel, row, column order);
            conv: weights (out, in / groups, height, width), cross-correlation;
            sparse: as dense, but where the weight is zero there is no synapse.
        weights: int64 in chip units: mixed -256..254 and even at 8 bits, excitatory 0..255,
            inhibitory -255..0.
        sign_mode: sets range and step of the weights.
        exponent: the sum over inputs is shifted by this, after summing, rounding down.
        weight_bits: 1 to 8; fewer bits mean coarser steps.
        stride, padding, dilation: (rows, columns), conv only.
        groups: conv only.
        delay: further steps on the way, 0 to 62.
    """

    name: str
    source: str
    target: str
    kind: ConnectionKind
    weights: NDArray[np.int64]
    sign_mode: SignMode
    exponent: int = 0
    weight_bits: int = 8
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    delay: int = 0


@dataclass(frozen=True)
class FrameInput:
    """The source of frames: the whole frame is sent in each of the T steps of a decision.

    Attributes:
        shape: (channels, height, width) or (values,).
        payload_bits: 0 sends binary spikes for nonzero values, 8 sends values 0..255.
    """

    shape: tuple[int, ...]
    payload_bits: int


@dataclass(frozen=True)
class Readout:
    """How the end of a decision becomes action values.

    The membranes of `population` after the last step, times `scale`, are the values.

    Attributes:
        population: one neuron for each action; it integrates and never fires.
        scale: float64 of shape (actions,).
    """

    population: str
    scale: NDArray[np.float64]


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
        time_steps: T, how often a frame is sent for one decision.
        protocol: how the games are played.
        provenance: where it came from: file hashes, tool versions, quantisation settings.
    """

    name: str
    input: FrameInput
    populations: tuple[Population, ...]
    connections: tuple[Connection, ...]
    readout: Readout
    tasks: tuple[Task, ...]
    time_steps: int
    protocol: GameProtocol
    provenance: dict[str, str] = field(default_factory=dict)

    @cached_property
    def depths(self) -> dict[str, int]:
        """Steps that a message takes from the input (0) to each population.

        Raises:
            BadNetworkError: branches of unequal depth meet, or a source comes after its target.
        """
        depths = {INPUT: 0}
        for population in self.populations:
            incoming = [link for link in self.connections if link.target == population.name]
            unknown = [link.source for link in incoming if link.source not in depths]
            if not incoming or unknown:
                raise BadNetworkError(
                    f"population {population.name!r} has no input that is computed before it "
                    f"({unknown or 'no connection'}); list sources before targets, without loops"
                )
            reached = {depths[link.source] + 1 + link.delay for link in incoming}
            if len(reached) > 1:
                raise BadNetworkError(
                    f"branches of depths {sorted(reached)} meet at population "
                    f"{population.name!r}; delay the shorter ones"
                )
            depths[population.name] = reached.pop()
        return depths

    @property
    def depth(self) -> int:
        """L, the largest depth of a population."""
        return max(self.depths.values())

    @property
    def steps_per_decision(self) -> int:
        """T + L."""
        return self.time_steps + self.depth

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

    def task_index(self, task: str) -> int:
        """Row of a task in the threshold arrays.

        Raises:
            BadRequestError: the network does not know the task.
        """
        return task_index(self.tasks, task)


def check_network(network: ChipNetwork) -> None:
    """Check every rule of the representation and report all violations together.

    Raises:
        BadNetworkError: one line that lists each violation.
    """
    from mtspark.core.network_rules import violations

    found = violations(network)
    if found:
        raise BadNetworkError(f"{network.name}: " + "; ".join(found))

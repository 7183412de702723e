"""Faults to order: what breaks on a chip, drawn from a seed, exact to reproduce.

Permanent faults (stuck neurons, flipped bits) belong to one chip and are drawn from (seed,
chip). Passing ones (lost spikes, lost messages, a chip that dies) are drawn from (seed, chip,
decision). Every draw compares one uniform number with the rate, and a rate is no part of what
seeds the draw: what breaks at a low rate is also broken at every higher one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arithmetic import THRESHOLD_LIMIT
from mtspark.core.arrays import Booleans, Integers
from mtspark.core.backend import Decision
from mtspark.core.chip_network import ChipNetwork, Connection, SignMode
from mtspark.core.errors import BadRequestError, one_line
from mtspark.sim.backends import ReferenceChip

THRESHOLD_BITS = THRESHOLD_LIMIT.bit_length()


class FaultKind(str, Enum):
    """What can break, and what its rate is a share of."""

    STUCK_0 = "stuck-0"
    """Share of neurons whose output is silent."""
    STUCK_1 = "stuck-1"
    """Share of neurons whose output spikes in every step."""
    WEIGHT_BITS = "weight-bits"
    """Share of stored weight bits that are inverted."""
    THRESHOLD_BITS = "threshold-bits"
    """Share of the 17 bits of every threshold that are inverted."""
    DROPPED_SPIKES = "dropped-spikes"
    """Share of spikes that reach no synapse."""
    SPURIOUS_SPIKES = "spurious-spikes"
    """Chance that a neuron which did not spike in a step seems to have."""
    LOST_MESSAGES = "lost-messages"
    """Share of messages lost between host and chip: a frame on its way, or an answer."""
    CHIP_DEATH = "chip-death"
    """Chance that the chip dies in a decision; it comes back later."""
    LOST_CHANGES = "lost-changes"
    """Share of messages of changed values that are lost; the sum is wrong until a refresh."""


NETWORK_KINDS = (FaultKind.WEIGHT_BITS, FaultKind.THRESHOLD_BITS)
SPIKE_KINDS = (
    FaultKind.STUCK_0,
    FaultKind.STUCK_1,
    FaultKind.DROPPED_SPIKES,
    FaultKind.SPURIOUS_SPIKES,
)
CHIP_KINDS = (*NETWORK_KINDS, *SPIKE_KINDS)
"""Those that happen on the chip; the others are the host's to notice."""


@dataclass(frozen=True)
class Faults:
    """What breaks how often.

    Attributes:
        rates: by kind, 0 to 1; see :class:`FaultKind` for what each is a share of.
        seed: of all draws.
    """

    rates: dict[FaultKind, float] = field(default_factory=dict)
    seed: int = 0

    def rate(self, kind: FaultKind) -> float:
        """0 where nothing was ordered."""
        return self.rates.get(kind, 0.0)

    def any_of(self, kinds: Iterable[FaultKind]) -> bool:
        """Whether one of these kinds can happen."""
        return any(self.rate(kind) > 0 for kind in kinds)

    def generator(self, kind: FaultKind, *place: int) -> np.random.Generator:
        """Random numbers of one kind at one place (chip, or chip and decision)."""
        return np.random.default_rng([self.seed, list(FaultKind).index(kind), *place])

    def happens(self, kind: FaultKind, *place: int) -> bool:
        """One draw: whether a fault of this kind happens here."""
        rate = self.rate(kind)
        return rate > 0 and float(self.generator(kind, *place).random()) < rate


def parse_faults(orders: Sequence[str], seed: int) -> Faults:
    """Read orders such as ``dropped-spikes=0.01``.

    Raises:
        BadRequestError: unknown kind, a rate that is no share, a kind ordered twice, or a
            negative seed.
    """
    if not 0 <= seed < 2**30:
        raise BadRequestError(f"fault seed {seed}: 0 to {2**30 - 1} can be used")
    rates: dict[FaultKind, float] = {}
    for order in orders:
        name, _, text = order.partition("=")
        kind = fault_kind(name)
        if kind in rates:
            raise BadRequestError(f"fault {name} is ordered twice; once is the limit")
        rates[kind] = parse_rate(text, order)
    return Faults(rates, seed)


def fault_kind(name: str) -> FaultKind:
    """A kind by its name.

    Raises:
        BadRequestError: there is none.
    """
    try:
        return FaultKind(name)
    except ValueError:
        known = ", ".join(kind.value for kind in FaultKind)
        raise BadRequestError(f"unknown fault {one_line(name, 80)!r}; there are {known}") from None


def parse_rate(text: str, order: str) -> float:
    """A rate from 0 to 1.

    Raises:
        BadRequestError: it is none.
    """
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise BadRequestError(
            f"fault {one_line(order, 80)!r}: write KIND=RATE with a rate from 0 to 1"
        )
    return rate


def break_network(network: ChipNetwork, faults: Faults, chip: int) -> ChipNetwork:
    """The network as it lies in the memory of one faulty chip; the other faults leave it alone.

    Args:
        network: as it should be.
        faults: what is ordered.
        chip: number of the chip; others break elsewhere.
    """
    rate = faults.rate(FaultKind.WEIGHT_BITS)
    if rate:
        generator = faults.generator(FaultKind.WEIGHT_BITS, chip)
        links = tuple(_flip_weights(link, rate, generator) for link in network.connections)
        network = replace(network, connections=links)
    rate = faults.rate(FaultKind.THRESHOLD_BITS)
    if rate:
        generator = faults.generator(FaultKind.THRESHOLD_BITS, chip)
        populations = tuple(
            replace(
                population,
                thresholds=population.thresholds
                ^ _flips(population.thresholds.shape, THRESHOLD_BITS, rate, generator),
            )
            for population in network.populations
        )
        network = replace(network, populations=populations)
    return network


def _flip_weights(link: Connection, rate: float, generator: np.random.Generator) -> Connection:
    """Invert bits of the stored mantissas.

    A mantissa has as many bits as the connection's weights: two's complement for mixed signs
    (whose weights are even, so half of them is stored), a magnitude for the others. A synapse
    that a sparse connection does not have has no memory that could break.
    """
    mixed = link.sign_mode is SignMode.MIXED
    bits = link.weight_bits
    step = 2 ** (8 - bits + mixed)
    span = 2**bits
    magnitude = -link.weights if link.sign_mode is SignMode.INHIBITORY else link.weights
    stored = (magnitude // step) % span
    flipped = stored ^ _flips(stored.shape, bits, rate, generator)
    if mixed:
        flipped = np.where(flipped >= span // 2, flipped - span, flipped)
    weights = flipped * step
    if link.sign_mode is SignMode.INHIBITORY:
        weights = -weights
    if not link.kind.stores_zeros:
        weights = np.where(link.weights == 0, 0, weights)
    return replace(link, weights=weights)


def _flips(
    shape: tuple[int, ...], bits: int, rate: float, generator: np.random.Generator
) -> Integers:
    """Numbers whose set bits are the ones to invert."""
    inverted = np.zeros(shape, np.int64)
    for bit in range(bits):
        inverted |= (generator.random(shape, dtype=np.float32) < rate).astype(np.int64) << bit
    return inverted


class FaultyChip(ReferenceChip):
    """The reference with faults in its spikes and neurons; one chip at a time.

    A dropped spike reaches no synapse, but its neuron did fire and was reset. A spurious one
    reaches all synapses of a neuron that did not fire, and resets nothing. A stuck neuron
    computes on, and what it sends does not depend on it; it is not dropped either. What a
    reader of spikes sees and counts is what was sent in the end.

    Args:
        network: as it lies in this chip, see :func:`break_network`.
        faults: what is ordered.
        chip: number of the chip.
    """

    name = "reference with faults"

    def __init__(self, network: ChipNetwork, faults: Faults, chip: int) -> None:
        super().__init__(network, checked=False)
        self._faults = faults
        self._chip = chip
        self._silent = self._stuck(FaultKind.STUCK_0)
        self._stuttering = self._stuck(FaultKind.STUCK_1)
        self._drawn: dict[FaultKind, np.random.Generator] = {}

    def begin(self, decision: int) -> None:
        """Seed what happens in the next decision by its number in the episode."""
        passing = (FaultKind.DROPPED_SPIKES, FaultKind.SPURIOUS_SPIKES)
        self._drawn = {
            kind: self._faults.generator(kind, self._chip, decision)
            for kind in passing
            if self._faults.rate(kind)
        }

    def decide(self, frames: NDArray[np.uint8], task: int, *, trace: bool = False) -> Decision:
        """Run one decision; call :meth:`begin` first.

        Raises:
            BadRequestError: more than one frame, or as :meth:`ReferenceChip.decide`.
        """
        if len(frames) != 1:
            raise BadRequestError(f"{len(frames)} frames, a faulty chip takes one at a time")
        return super().decide(frames, task, trace=trace)

    def _step(self, step: int, slices: Sequence[Integers], task: int) -> None:
        # A neuron is reset by its own firing, whatever becomes of the message.
        super()._step(step, slices, task)
        sent = dict(self._sent)
        for population in self.network.populations:
            name = population.name
            if self.network.stateful and step != self.network.depths[name]:
                continue  # It holds, and nothing asks whether it fires.
            sent[name] = self._break(name, self._fired[name])
        self._sent = self._history[0] = sent

    def _break(self, name: str, fired: Integers) -> Integers:
        spikes = fired.astype(bool)
        if FaultKind.DROPPED_SPIKES in self._drawn:
            spikes = spikes & ~self._draw(FaultKind.DROPPED_SPIKES, fired.shape)
        if FaultKind.SPURIOUS_SPIKES in self._drawn:
            spikes = spikes | (self._draw(FaultKind.SPURIOUS_SPIKES, fired.shape) & (fired == 0))
        return ((spikes & ~self._silent[name]) | self._stuttering[name]).astype(np.int64)

    def _draw(self, kind: FaultKind, shape: tuple[int, ...]) -> Booleans:
        return self._drawn[kind].random(shape, dtype=np.float32) < self._faults.rate(kind)

    def _stuck(self, kind: FaultKind) -> dict[str, Booleans]:
        rate = self._faults.rate(kind)
        generator = self._faults.generator(kind, self._chip)
        return {
            population.name: generator.random(population.shape, dtype=np.float32) < rate
            for population in self.network.populations
        }

"""One simulated chip behind the protocol, of everybody, or of the host whose game it remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from mtspark.core.arrays import Integers
from mtspark.core.backend import AgentBackend, Decision
from mtspark.core.chip_network import ChipNetwork, Encoder, violations
from mtspark.core.errors import BadRequestError
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.hil.faults import (
    CHIP_KINDS,
    SPIKE_KINDS,
    FaultKind,
    Faults,
    FaultyChip,
    break_network,
)
from mtspark.sim.hil.options import ChipBackend

Build = Callable[[ChipNetwork], AgentBackend]
SIMULATED = (ChipBackend.ENGINE, ChipBackend.REFERENCE)
"""Backends whose faults the reference can simulate: they equal it."""


def chip_with_faults(
    broken: ChipNetwork, faults: Faults, number: int, build: Build
) -> AgentBackend:
    """Make a simulated chip whose spikes and neurons have faults, too.

    Args:
        broken: the network as it lies in the chip, see :func:`break_network`.
        faults: what is ordered.
        number: of the chip.
        build: makes one where the reference need not simulate what breaks.
    """
    # Flipped weights may make sums that no proof bounds; the reference wraps them.
    overflows = faults.any_of(CHIP_KINDS) and violations(broken)
    if faults.any_of(SPIKE_KINDS) or overflows:
        return FaultyChip(broken, faults, number)
    if broken.stateful and faults.rate(FaultKind.LOST_CHANGES):
        # What is left of a frame is none, and state cannot move from the engine to the reference.
        return ReferenceChip(broken)
    return build(broken)


class Cell:
    """A simulated chip; a faulty one is another one in every episode.

    Args:
        network: of the bundle.
        kind: what stands for the chip.
        faults: what breaks.
        build: makes it.
    """

    def __init__(
        self, network: ChipNetwork, kind: ChipBackend, faults: Faults, build: Build
    ) -> None:
        self._network = network
        self._kind = kind
        self._faults = faults
        self._build = build
        self._breaks = faults.any_of(CHIP_KINDS)
        self._backend: AgentBackend | None = None
        self._without_frame: ReferenceChip | None = None
        self._running = network
        self._number = 0
        self._decided: int | None = None

    def of_episode(self, number: int) -> AgentBackend:
        """Return the chip of an episode; where another one was played, its sums are at rest."""
        if self._backend is None or (self._breaks and number != self._number):
            self.close()
            network = break_network(self._network, self._faults, number)
            self._running = network
            if self._kind in SIMULATED:
                self._backend = chip_with_faults(network, self._faults, number, self._build)
            else:
                self._backend = self._build(network)
        elif number != self._number and self._network.input.encoder is Encoder.CHANGES:
            # The sum of a frame belongs to one game.
            self._backend.start(1)
        self._number = number
        return self._backend

    def begin(self, number: int) -> None:
        """Put the chip at rest: an episode begins, or goes on without what was remembered."""
        self.of_episode(number).start(1)
        self._decided = -1

    def forget(self) -> None:
        """Take what is remembered for that of no episode."""
        self._decided = None

    def remembers(self, number: int, decision: int) -> bool:
        """Whether the chip's state is of an episode, and of decisions before this one."""
        return self._decided is not None and number == self._number and decision > self._decided

    def decide(
        self,
        chip: AgentBackend,
        frame: NDArray[Any] | None,
        sums: Integers,
        row: int,
        decision: int,
    ) -> Decision:
        """Decide on what a host has told, which is no frame where changes were lost.

        The engine takes frames only; the reference, its equal, runs the others.

        Args:
            chip: of the episode.
            frame: a batch of one; None where what was told is none.
            sums: of what was told for each value, a batch of one.
            row: of the task.
            decision: its number.

        Raises:
            BadRequestError: what was told is no frame, and this chip takes nothing else.
        """
        if self._decided is not None:
            self._decided = decision
        if frame is not None:
            return chip.decide(frame, row)
        if not isinstance(chip, ReferenceChip):
            if self._kind not in SIMULATED or self._network.stateful:
                remedy = "reference" if self._network.stateful else "engine or reference"
                raise BadRequestError(
                    "changes that add up to no frame, as where some were lost; "
                    f"the backend {self._kind.value} cannot hold them, use {remedy}"
                )
            if self._without_frame is None:
                self._without_frame = ReferenceChip(self._running)
            chip = self._without_frame
        return chip.decide_on_sum(sums, row)

    def close(self) -> None:
        """Release the backend, and with it what it remembers; safe to call twice."""
        backend, self._backend = self._backend, None
        self._without_frame, self._decided = None, None
        if backend is not None:
            backend.close()

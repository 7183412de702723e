"""The chip's side of hardware in the loop: what answers, healthy or with ordered faults."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable

import numpy as np

from mtspark.core.backend import AgentBackend, Decision
from mtspark.core.chip_network import ChipNetwork, Encoder, check_forgets, violations
from mtspark.core.errors import BackendFailedError, BackendMissingError, BadRequestError
from mtspark.deploy.lava import installed_lava, load_lava
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.hil.faults import CHIP_KINDS, SPIKE_KINDS, Faults, FaultyChip, break_network
from mtspark.sim.hil.options import ChipBackend
from mtspark.sim.hil.protocol import (
    LARGEST_ANSWER,
    LARGEST_FRAME,
    Change,
    Decide,
    Decided,
    Hello,
    Unknown,
    Welcome,
)
from mtspark.sim.hil.told import CHANGE_BYTES, PLACE_BYTES, Told, check_question

Build = Callable[[ChipNetwork], AgentBackend]
SIMULATED = (ChipBackend.ENGINE, ChipBackend.REFERENCE)
"""Backends whose faults the reference can simulate: they equal it."""


def builder(backend: ChipBackend, task: int | None) -> Build:
    """How to make a chip from a network.

    Args:
        backend: what stands for the chip.
        task: of stock Lava and the board, which hold the thresholds of one task.

    Raises:
        BackendMissingError: the board was asked for and Intel's compiler is not installed.
    """
    if backend is ChipBackend.ENGINE:
        from mtspark.sim.engine import EngineChip

        return EngineChip
    if backend is ChipBackend.REFERENCE:
        return ReferenceChip
    hardware = backend is ChipBackend.LOIHI2
    if hardware:
        check_loihi_compiler()
    from mtspark.sim.backends import LavaBackend

    stock = backend is not ChipBackend.LAVA
    return lambda network: LavaBackend(network, stock=stock, task=task, hardware=hardware)


LOIHI_COMPILER = "lava.magma.compiler.subcompilers.nc.ncproc_compiler"
"""Lava looks for this module, too, to tell whether it can compile for a board."""


def check_loihi_compiler() -> None:
    """Lava can compile for a board; without that it would simulate on the CPU and not say so.

    Raises:
        BackendMissingError: Lava or Intel's compiler is missing.
    """
    if installed_lava() is None:
        raise BackendMissingError(
            "the backend loihi2 needs lava-nc and Intel's compiler; run `mtspark install-lava`"
        )
    load_lava()
    try:
        importlib.import_module(LOIHI_COMPILER)
    except ImportError as error:
        raise BackendMissingError(
            "the backend loihi2 needs Intel's compiler for Loihi (Lava's extension for members of "
            f"its research community), and {error.name} cannot be imported; use the backend lava"
        ) from error


def check_faults(backend: ChipBackend, faults: Faults) -> None:
    """Refuse faults that a backend cannot have.

    Raises:
        BadRequestError: faults in spikes, which only the reference simulates.
    """
    if faults.any_of(SPIKE_KINDS) and backend not in SIMULATED:
        raise BadRequestError(
            f"faults in spikes are simulated by the reference, not by {backend.value}; use "
            "the backend engine or reference"
        )


def check_answers_alone(network: ChipNetwork) -> None:
    """Refuse a network whose answers depend on what a lost message would have told it.

    Raises:
        BadRequestError: it is stateful.
    """
    check_forgets(network, "in hardware in the loop a decision may be late, lost or asked twice")


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
    return build(broken)


class Chip:
    """Answers the protocol's questions; a faulty chip is another one in every episode.

    Args:
        network: of the bundle.
        network_hash: sha256 of it.
        backend: what stands for the chip.
        faults: what breaks; only the kinds that happen on a chip matter here.
        task: name of the only task, for the backends that hold one.

    Raises:
        BadRequestError: unknown task, a network that plays no game, or faults in spikes that
            this backend cannot have.
        BackendMissingError: the backend is not installed.
    """

    def __init__(
        self,
        network: ChipNetwork,
        network_hash: str,
        backend: ChipBackend,
        faults: Faults,
        task: str | None = None,
    ) -> None:
        row = None if task is None else network.task_index(task)
        check_answers_alone(network)
        check_faults(backend, faults)
        self._spikes = faults.any_of(SPIKE_KINDS)
        self.network = network
        self._hash = network_hash
        self._kind = backend
        self._simulated = backend in SIMULATED
        self._build = builder(backend, row)
        self._faults = faults
        self._breaks = faults.any_of(CHIP_KINDS)
        self._name = FaultyChip.name if self._spikes else backend.value
        self._backend: AgentBackend | None = None
        self._without_frame: ReferenceChip | None = None
        self._running = network
        self._number = 0

    @property
    def largest_question(self) -> int:
        """Bytes of the longest message that may ask this chip something."""
        size = int(np.prod(self.network.input.shape))
        longest = min(size, LARGEST_FRAME)
        if self.network.input.encoder is Encoder.CHANGES:
            messages = min(size, LARGEST_FRAME // PLACE_BYTES)
            longest = max(longest, messages * (PLACE_BYTES + CHANGE_BYTES))
        return LARGEST_ANSWER + longest

    def warm_up(self, task: str) -> None:
        """Decide once on a black frame: compilation is over when the first question comes."""
        frame = bytes(int(np.prod(self.network.input.shape)))
        self.decide(Decide(0, task, 0, 0, frame), Told())

    def answer(self, message: Hello | Decide | Change, told: Told) -> Welcome | Decided | Unknown:
        """Answer a question that has the protocol's form.

        Args:
            message: the question.
            told: what the host that asks has told this chip before.

        Raises:
            BadRequestError: what it asks for does not exist.
            BackendFailedError: the backend stopped; the next question starts a new one.
        """
        if not isinstance(message, Hello):
            return self.decide(message, told)
        network = self.network
        broken = {k.value: self._faults.rate(k) for k in CHIP_KINDS if self._faults.rate(k)}
        words = ", ".join(f"{kind}={rate:g}" for kind, rate in broken.items())
        return Welcome(
            id=message.id,
            network=self._hash,
            backend=self._name,
            faults=f"{words}, seed {self._faults.seed}" if words else "",
            input=list(network.input.shape),
            actions=network.population(network.readout.population).size,
            tasks=[task.name for task in network.tasks],
        )

    def decide(self, question: Decide | Change, told: Told) -> Decided | Unknown:
        """Run one decision; see :meth:`answer`."""
        entry = self.network.input
        row = self.network.task_index(question.task)
        if isinstance(question, Change) and entry.encoder is not Encoder.CHANGES:
            raise BadRequestError(
                f"changes of a frame; the encoder of this network is {entry.encoder.value}, which "
                "takes whole frames"
            )
        check_question(question, entry.shape)
        if not told.hear(question, entry):
            return Unknown(question.id)
        chip = self._of_episode(question.episode)
        if isinstance(chip, FaultyChip):
            chip.begin(question.decision)
        started = time.perf_counter()
        try:
            values = self._run(chip, told, row).values[0]
        except BackendFailedError:
            self.close()
            raise
        seconds = time.perf_counter() - started
        return Decided(question.id, [float(value) for value in values.reshape(-1)], seconds)

    def close(self) -> None:
        """Release the backend; safe to call twice."""
        backend, self._backend = self._backend, None
        self._without_frame = None
        if backend is not None:
            backend.close()

    def _run(self, chip: AgentBackend, told: Told, row: int) -> Decision:
        """Decide on what was told, which is no frame where changes were lost.

        The engine takes frames only; the reference, its equal, runs the others.
        """
        entry = self.network.input
        frame = told.frame(entry)
        if frame is not None:
            return chip.decide(frame, row)
        if not isinstance(chip, ReferenceChip):
            if not self._simulated:
                raise BadRequestError(
                    "changes that add up to no frame, as where some were lost; "
                    f"the backend {self._kind.value} cannot hold them, use engine or reference"
                )
            if self._without_frame is None:
                self._without_frame = ReferenceChip(self._running)
            chip = self._without_frame
        return chip.decide_on_sum(told.values(entry.shape), row)

    def _of_episode(self, number: int) -> AgentBackend:
        if self._backend is None or (self._breaks and number != self._number):
            self.close()
            network = break_network(self.network, self._faults, number)
            self._running = network
            if self._simulated:
                self._backend = chip_with_faults(network, self._faults, number, self._build)
            else:
                self._backend = self._build(network)
        elif number != self._number and self.network.input.encoder is Encoder.CHANGES:
            # The sum of a frame belongs to one game.
            self._backend.start(1)
        self._number = number
        return self._backend

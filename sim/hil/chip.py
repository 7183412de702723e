"""The chip's side of hardware in the loop: what answers, healthy or with ordered faults."""

from __future__ import annotations

import importlib
import time

import numpy as np

from mtspark.core.chip_network import ChipNetwork, Encoder, check_forgets
from mtspark.core.errors import BackendFailedError, BackendMissingError, BadRequestError
from mtspark.deploy.lava import installed_lava, load_lava
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.hil.cell import SIMULATED, Build, Cell
from mtspark.sim.hil.faults import CHIP_KINDS, SPIKE_KINDS, Faults, FaultyChip
from mtspark.sim.hil.options import ChipBackend
from mtspark.sim.hil.protocol import (
    LARGEST_ANSWER,
    LARGEST_FRAME,
    Change,
    Decide,
    Decided,
    Forgotten,
    Hello,
    Question,
    Step,
    Unknown,
    Welcome,
)
from mtspark.sim.hil.told import CHANGE_BYTES, PLACE_BYTES, Told, check_question


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


STOCK = (ChipBackend.LAVA_STOCK, ChipBackend.LOIHI2)
"""Backends that run Lava's own processes."""
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


def check_state(
    network: ChipNetwork, *, backend: ChipBackend | None = None, overlap: bool = False
) -> None:
    """Refuse what cannot hold the state of a network between two decisions of an episode.

    Args:
        network: of a bundle; one that keeps no state is never refused.
        backend: what stands for the chip; None: that is not asked.
        overlap: the chip takes an observation before it is done with the one before.

    Raises:
        BadRequestError: it is stateful.
    """
    if backend is not None and backend in STOCK:
        check_forgets(
            network,
            f"Lava's own LIF, which the backend {backend.value} runs, does not hold it between two",
            "use the backend engine, reference or lava",
        )
    if overlap:
        check_forgets(
            network,
            "with overlap a decision would begin before that of the one before is there",
            "leave overlap out",
        )


class Chip:
    """Answers the protocol's questions; a faulty chip is another one in every episode.

    Where the network keeps state between decisions, each host has a chip of its own, which is
    gone with the host's connection.

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
        check_state(network, backend=backend)
        check_faults(backend, faults)
        self._spikes = faults.any_of(SPIKE_KINDS)
        self.network = network
        self._hash = network_hash
        self._kind = backend
        self._build = builder(backend, row)
        self._faults = faults
        self._name = FaultyChip.name if self._spikes else backend.value
        # Of a network that keeps state, the chip of the next host that comes.
        self._cell = self._new_cell()

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
        told = Told()
        stateful = self.network.stateful
        question = Step(0, task, 0, 0, frame, True) if stateful else Decide(0, task, 0, 0, frame)
        self.decide(question, told)
        if told.cell is not None:
            # Its first host takes it, and no game of that host was played on it.
            told.cell.forget()
            self._cell.close()
            self._cell, told.cell = told.cell, None

    def answer(
        self, message: Hello | Question, told: Told
    ) -> Welcome | Decided | Unknown | Forgotten:
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
        # A chip of its own is made now, and not in the first decision of a game.
        self._cell_of(told)
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

    def decide(self, question: Question, told: Told) -> Decided | Unknown | Forgotten:
        """Run one decision; see :meth:`answer`."""
        entry = self.network.input
        row = self.network.task_index(question.task)
        self._check_kind(question)
        check_question(question, entry.shape)
        cell = self._cell_of(told)
        begins = isinstance(question, Step) and question.begins
        goes_on = self.network.stateful and not begins
        if goes_on and not cell.remembers(question.episode, question.decision):
            return Forgotten(question.id)
        if not told.hear(question, entry):
            return Unknown(question.id)
        if begins:
            cell.begin(question.episode)
        chip = cell.of_episode(question.episode)
        if isinstance(chip, FaultyChip):
            chip.begin(question.decision)
        started = time.perf_counter()
        try:
            values = cell.decide(
                chip, told.frame(entry), told.values(entry.shape), row, question.decision
            ).values[0]
        except BackendFailedError:
            cell.close()
            raise
        seconds = time.perf_counter() - started
        return Decided(question.id, [float(value) for value in values.reshape(-1)], seconds)

    def close(self) -> None:
        """Release the backend; safe to call twice."""
        self._cell.close()

    def _cell_of(self, told: Told) -> Cell:
        """The chip that answers a host: one for all, or its own where state is kept."""
        if not self.network.stateful:
            return self._cell
        if told.cell is None:
            told.cell, self._cell = self._cell, self._new_cell()
        return told.cell

    def _new_cell(self) -> Cell:
        return Cell(self.network, self._kind, self._faults, lambda network: self._build(network))

    def _check_kind(self, question: Question) -> None:
        """Refuse a question that only another network could answer.

        Raises:
            BadRequestError: which.
        """
        encoder, stateful = self.network.input.encoder, self.network.stateful
        if isinstance(question, Change) and encoder is not Encoder.CHANGES:
            raise BadRequestError(
                f"changes of a frame; the encoder of this network is {encoder.value}, which "
                "takes whole frames"
            )
        if isinstance(question, Decide) and stateful:
            raise BadRequestError(
                "a decision alone; the state of this network survives decisions, so a host says "
                f"where an episode begins ({Step.kind!r})"
            )
        if isinstance(question, Step) and not stateful:
            raise BadRequestError(
                f"a step of an episode; this network keeps no state and takes {Decide.kind!r}"
            )

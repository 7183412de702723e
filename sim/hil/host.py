"""A chip to play with that may die: started, restarted, or reached at an address."""

from __future__ import annotations

import logging
import time

import numpy as np
from numpy.typing import NDArray

from mtspark.core.errors import BackendFailedError, BadRequestError
from mtspark.sim.hil.client import (
    ChipGoneError,
    ChipLink,
    ChipProcess,
    ChipSilentError,
    Dialled,
)
from mtspark.sim.hil.options import SILENCE_S
from mtspark.sim.hil.order import ChipOrder
from mtspark.sim.hil.protocol import BadPeerError, Decided, Forgotten, Unknown, Welcome
from mtspark.sim.hil.sender import Sending
from mtspark.sim.hil.stream import key_bytes
from mtspark.sim.hil.timing import Reply

log = logging.getLogger(__name__)

START_LIMIT_S = 600.0
"""For a chip's process to be ready: the engine may have to be compiled, on a busy machine."""
ANSWER_LIMIT_S = 120.0
"""For an answer of a chip of our own that is alive."""
FAR_LIMIT_S = 5.0
"""For an answer of a chip somewhere else."""
END_LIMIT_S = 5.0
"""For the process of a chip of our own to end that has hung up."""
RETRY_S = 0.2
"""How long a question waits for a chip that did not answer the last one."""
GIVE_UP_S = 30.0
"""After this time without a chip the game is given up."""
MOST_DEATHS = 3
"""A chip that dies this often without a single answer between is broken."""


class HostedChip:
    """A chip to play with: of our own (restarted when it dies) or at an address.

    Args:
        network_hash: what it must run.
        order: for a chip of our own.
        address: of a chip somewhere else.
        key: of that chip.
        silence_s: seconds in which a chip that starts may say nothing: one somewhere else until it
            answers, one of our own while its process does not work either.

    Attributes:
        welcome: what it says of itself.
        lost: how often it went away without having been ordered to.
        forgotten: how often it began again at rest within an episode, of a network that keeps
            state: what it remembered was gone.

    Raises:
        BackendFailedError: no chip, one that has another key, or runs another network.
        BadRequestError: an address or a key that is none.
    """

    def __init__(
        self,
        network_hash: str,
        *,
        order: ChipOrder | None = None,
        address: str = "",
        key: str = "",
        silence_s: float = SILENCE_S,
    ) -> None:
        self._hash = network_hash
        self._silence_s = silence_s
        self._order = order
        self._address = address
        self._dialled = None if order is not None else Dialled(address, key_bytes(key))
        self._process: ChipProcess | None = None
        self._link: ChipLink | None = None
        self._away_since: float | None = None
        self._unanswered_deaths = 0
        self.lost = 0
        self.forgotten = 0
        try:
            self.start()
            welcome = self.finish_start()
            assert welcome is not None
            self.welcome = welcome
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Begin to start or to connect, unless that is under way; does not wait."""
        if self._order is not None:
            if self._process is None or not self._process.alive():
                self._process = ChipProcess(self._order)
        else:
            assert self._dialled is not None
            self._link = ChipLink(self._dialled)

    def finish_start(self, wait_s: float | None = None) -> Welcome | None:
        """Wait until the chip is there.

        Args:
            wait_s: at most; None for as long as a start may take.

        Returns:
            Its welcome; None after `wait_s` without it.

        Raises:
            BackendFailedError: it did not start, or is another one.
        """
        try:
            welcome = self._greeted(wait_s)
        except ChipGoneError as error:
            # One of our own that says nothing does so for good.
            if wait_s is None or (self._process is not None and isinstance(error, ChipSilentError)):
                raise ChipGoneError(f"{error}{self._remedy(error)}") from error
            return None
        if welcome is None:
            return None
        assert self._link is not None
        if welcome.network != self._hash:
            raise BackendFailedError(
                f"{self._link.endpoint}: runs another network ({welcome.network[:16]!r}, not "
                f"{self._hash[:16]!r}); serve the same bundle"
            )
        if self._away_since is not None and self._address:
            log.warning("%s: answers again", self._address)
        self._away_since = None
        return welcome

    def _greeted(self, wait_s: float | None) -> Welcome | None:
        """Wait for the welcome; None where a chip of our own is not ready after `wait_s`."""
        if self._link is None:
            assert self._process is not None
            limit = START_LIMIT_S if wait_s is None else wait_s
            if not self._process.ready(limit, self._silence_s):
                if wait_s is not None:
                    return None
                raise BackendFailedError(f"the chip did not start within {limit:g} s")
            self._link = self._process.link
            self._link.silent = self.say_silent
        if self._process is not None:
            return self._link.greet(self._silence_s, self._process.idle_s)
        return self._link.greet(self._silence_s if wait_s is None else wait_s)

    def _remedy(self, error: ChipGoneError) -> str:
        """What happened to a chip that did not start, and what can be done, behind an error."""
        longer = f"or wait longer with --silence-s N (now {self._silence_s:g})"
        if self._process is not None:
            if not isinstance(error, ChipSilentError):
                return f" ({self._process.last_words()})"
            stopped = "was stopped" if self._process.stopped else "does nothing"
            return f": its process {self._process.pid} {stopped}; start it again, {longer}"
        if isinstance(error, ChipSilentError):
            return (
                "; what listens there is stopped (`kill -CONT` of its process lets it go on), "
                f"busy, or no chip; serve it again, {longer}"
            )
        return (
            "; nothing listens there; serve a chip with `mtspark hil DIR --serve`, check the "
            f"address, {longer}"
        )

    def decide(
        self, task: str, episode: int, decision: int, frame: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], float] | None:
        """Ask for a decision on a whole frame and wait for it.

        Returns:
            Action values and the simulation's time in seconds; None where the chip is gone.

        Raises:
            BackendFailedError: it refused, answered nonsense, or is gone for good.
        """
        reply = self.ask(task, episode, Sending(decision, frame))
        return None if reply is None else (reply.values, reply.host_s)

    def ask(self, task: str, episode: int, sending: Sending) -> Reply | None:
        """Ask for a decision on a frame, or on what changed of it, and wait for it.

        A chip that has not the frame which the changes count from is sent the whole one. One that
        has not the state of the decisions before begins again at rest, which is counted.

        Returns:
            The answer; None where the chip is gone.

        Raises:
            BackendFailedError: as of :meth:`decide`.
        """
        if not self._back():
            return None
        assert self._link is not None
        limit_s = FAR_LIMIT_S if self._address else ANSWER_LIMIT_S
        messages, repeated = sending.messages, False
        try:
            answer = self._put(sending, task, episode, limit_s)
            while (again := sending.again(answer)) is not None:
                if isinstance(answer, Forgotten):
                    # What a chip without its state was sent, it did not take.
                    self.forgotten, messages = self.forgotten + 1, 0
                repeated |= sending.changes is not None
                sending, messages = again, messages + again.messages
                answer = self._put(sending, task, episode, limit_s)
        except ChipGoneError as error:
            self._lose(error)
            return None
        if not isinstance(answer, Decided):
            raise BadPeerError(f"{self._link.endpoint}: {answer.kind!r} in answer to a whole frame")
        self._unanswered_deaths = 0
        return Reply(self.read(answer), answer.host_s, messages, repeated)

    def _put(
        self, sending: Sending, task: str, episode: int, limit_s: float
    ) -> Decided | Unknown | Forgotten:
        assert self._link is not None
        return self._link.decide(sending.question(self._link.next_id(), task, episode), limit_s)

    def read(self, answer: Decided) -> NDArray[np.float64]:
        """Action values of an answer.

        Raises:
            BadPeerError: too many or too few.
        """
        if len(answer.values) != self.welcome.actions:
            raise BadPeerError(
                f"an answer of {len(answer.values)} values; {self.welcome.actions} were announced"
            )
        return np.array(answer.values)

    @property
    def link(self) -> ChipLink | None:
        """The connection, for one who does not want to wait; None while there is none."""
        return self._link

    def ended(self) -> bool:
        """Whether a chip of our own died without having been told to; it is buried then."""
        if self._process is None or self._link is None or self._process.alive():
            return False
        self.die()
        return True

    def state(self) -> str:
        """What is known of a chip that does not answer, for the end of a sentence."""
        if self._process is None or not self._process.stopped:
            return ""
        pid = self._process.pid
        return f"; its process {pid} is stopped, `kill -CONT {pid}` lets it go on"

    def say_silent(self, limit_s: float) -> None:
        """Say that a chip does not answer, and how long it gets in all."""
        log.warning(
            "the chip has not answered for %g s, and gets %g s%s", SILENCE_S, limit_s, self.state()
        )

    def die(self) -> None:
        """Kill a chip of our own; the next question finds a new one.

        Raises:
            BadRequestError: the chip is not ours.
        """
        if self._process is None:
            raise BadRequestError(
                f"{self._address}: only a chip that mtspark hil started can be made to die"
            )
        self._hang_up()
        self._process.kill()

    def close(self) -> None:
        """End a chip of our own, hang up; safe to call twice."""
        self._hang_up()
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def __enter__(self) -> HostedChip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _back(self) -> bool:
        """Whether there is a chip to ask; starts one of our own again."""
        if self._order is not None:
            if self._link is None:
                self.start()
                self.finish_start()
            return True
        if self._away_since is None or self.finish_start(RETRY_S) is not None:
            return True
        if time.monotonic() - self._away_since > GIVE_UP_S:
            raise ChipGoneError(
                f"{self._address}: no answer from a chip for {GIVE_UP_S:g} s; is it served there?"
            )
        return False

    def _lose(self, error: ChipGoneError) -> None:
        self.lost += 1
        self._away_since = time.monotonic()
        if self._process is None:
            log.warning(
                "%s; the game goes on without it, and is given up after %g s", error, GIVE_UP_S
            )
            return
        if self._process.stopped or not self._process.ends(END_LIMIT_S):
            raise ChipGoneError(f"{error}{self.state()}") from error
        self._unanswered_deaths += 1
        if self._unanswered_deaths >= MOST_DEATHS:
            raise BackendFailedError(
                f"the chip's process ended {MOST_DEATHS} times in a row "
                f"({self._process.last_words()})"
            )
        self.die()

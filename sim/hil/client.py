"""The host's side of hardware in the loop: a connection, and a process to connect to."""

from __future__ import annotations

import errno
import json
import math
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from mtspark.core.errors import BackendFailedError
from mtspark.core.process import last_words, own_environment, own_module
from mtspark.sim.hil.address import places
from mtspark.sim.hil.idle import Idle
from mtspark.sim.hil.options import SILENCE_S
from mtspark.sim.hil.order import ChipOrder
from mtspark.sim.hil.protocol import (
    ANSWERED,
    LARGEST_ANSWER,
    BadPeerError,
    Decided,
    Forgotten,
    Hello,
    Question,
    Refused,
    Unknown,
    Welcome,
    decode,
    encode,
)
from mtspark.sim.hil.stream import (
    ZEROMQ_MARK,
    Channel,
    Role,
    StrangerError,
    read_from,
    write_to,
)

SLICE_S = 0.1
"""How often it is looked whether a chip of our own is still alive, and dialled for one that is not
there."""

HANG_UP_LIMIT_S = 1.0
"""For a chip of our own to end after we hung up, before it gets a signal."""
END_LIMIT_S = 20.0
"""For it to end after the signal: Lava's processes end with it."""


class ChipGoneError(BackendFailedError):
    """No answer: the chip is dead, away, or never was there."""


class ChipSilentError(ChipGoneError):
    """A chip that says nothing when it should start or greet."""


class Dialled:
    """Connections to a served chip, one after another, as often as one ends.

    Args:
        endpoint: tcp://HOST:PORT.
        key: of the chip.

    Raises:
        BadRequestError: an address that is none.
    """

    def __init__(self, endpoint: str, key: bytes) -> None:
        self.name = endpoint
        self.key: bytes | None = key
        self._places = places(endpoint)
        self._next = 0
        self._after_s = 0.0

    def __call__(self) -> socket.socket | None:
        """Begin to connect; None where that was tried just now."""
        now = time.monotonic()
        if now < self._after_s:
            return None
        self._after_s = now + SLICE_S
        family, place = self._places[self._next % len(self._places)]
        self._next += 1
        connected = socket.socket(family, socket.SOCK_STREAM)
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connected.connect_ex(place) not in (0, errno.EINPROGRESS):
            connected.close()
            return None
        return connected

    def close(self) -> None:
        """Nothing is held between two connections."""


class Paired:
    """The one connection to a chip of our own: a pair of sockets; nobody else reaches it.

    Args:
        connected: our end, which is closed with the connection.
    """

    name = "the chip"
    key: bytes | None = None

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._connected: socket.socket | None = connected

    def __call__(self) -> socket.socket | None:
        """Take it; None once it was taken."""
        connected, self._connected = self._connected, None
        return connected

    def close(self) -> None:
        """Close our end, unless it was taken."""
        connected = self()
        if connected is not None:
            connected.close()


class ChipLink:
    """A connection to a chip; asking is safe whoever is at the other end.

    Args:
        connect: gives a new connection, while there is none.
        alive: asked while waiting; no use to wait on when it says False.

    Attributes:
        silent: called once for a question that waits longer than :data:`SILENCE_S`, with the
            seconds that it will wait at most.
    """

    def __init__(self, connect: Dialled | Paired, alive: Callable[[], bool] = lambda: True) -> None:
        self.silent: Callable[[float], None] = lambda limit_s: None
        self.endpoint = connect.name
        self._connect = connect
        self._alive = alive
        self._asked = 0
        self._socket: socket.socket | None = None
        self._channel = self._new_channel()
        self._poll = select.poll()

    def greet(self, limit_s: float, idle_s: Callable[[], float] | None = None) -> Welcome:
        """Ask who is there.

        Args:
            limit_s: to wait in seconds.
            idle_s: how long the chip has done nothing, which counts instead of the time; None
                where nobody knows what it does.

        Raises:
            ChipGoneError: nobody within the limit.
            BackendFailedError: somebody who refuses, has another key, or does not speak the
                protocol.
        """
        answer = self._ask(Hello(self.next_id()), limit_s, idle_s)
        if not isinstance(answer, Welcome):
            raise BadPeerError(f"{self.endpoint}: {answer.kind!r} in answer to a hello")
        return answer

    def decide(self, question: Question, limit_s: float) -> Decided | Unknown | Forgotten:
        """Ask for a decision.

        Returns:
            It, or that the chip has not the frame or the state that the question builds on.

        Raises:
            ChipGoneError: no answer within the limit.
            BackendFailedError: a refusal, or an answer that is none.
        """
        answer = self._ask(question, limit_s)
        if not isinstance(answer, Decided | Unknown | Forgotten):
            raise BadPeerError(f"{self.endpoint}: {answer.kind!r} in answer to a frame")
        return answer

    def next_id(self) -> int:
        """Number of the next question."""
        self._asked += 1
        return self._asked

    def send(self, question: Hello | Question) -> bool:
        """Send without waiting; False where no chip is connected, or it does not keep up."""
        if self._socket is None or not self._channel.open or self._channel.unsent:
            return False
        self._channel.put(encode(question))
        try:
            write_to(self._socket, self._channel)
        except EOFError:
            self._hang_up()
            return False
        return True

    def receive(self, wait_s: float) -> Any:
        """The next answer, to whatever question, or None after a wait.

        Connects, where there is no connection.

        Raises:
            BackendFailedError: a refusal, or a message that is none of the protocol.
        """
        deadline = time.monotonic() + wait_s
        while True:
            message = self._read()
            left = deadline - time.monotonic()
            if message is not None or left <= 0:
                break
            self._wait(left)
        if message is None:
            return None
        try:
            answer = decode(message, ANSWERED)
        except BadPeerError as error:
            raise BadPeerError(f"{self.endpoint}: {error}") from error
        if isinstance(answer, Refused):
            raise BackendFailedError(f"{self.endpoint}: the chip refused: {answer.reason}")
        return answer

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._hang_up()
        self._connect.close()

    def _ask(
        self,
        question: Hello | Question,
        limit_s: float,
        idle_s: Callable[[], float] | None = None,
    ) -> Any:
        begun = time.monotonic()
        waited_s = idle_s or (lambda: time.monotonic() - begun)
        sent: socket.socket | None = None
        said = limit_s <= SILENCE_S
        while (left := limit_s - waited_s()) > 0 and self._alive():
            if not said and limit_s - left > SILENCE_S:
                said = True
                self.silent(limit_s)
            if sent is None and self.send(question):
                sent = self._socket
            answer = self.receive(min(left, SLICE_S if sent else 0.0))
            # An answer to a question that was given up may still come.
            if answer is not None and answer.id == question.id:
                return answer
            if sent is None:
                self._wait(min(left, SLICE_S))
            elif self._socket is not sent:
                raise ChipGoneError(f"{self.endpoint}: hung up without an answer")
        if self._alive() and self._takes_connections():
            raise ChipSilentError(f"{self.endpoint}: no answer from a chip within {limit_s:g} s")
        raise ChipGoneError(f"{self.endpoint}: no answer from a chip within {limit_s:g} s")

    def _takes_connections(self) -> bool:
        """Whether somebody is at the other end, who may say nothing."""
        try:
            return self._socket is not None and bool(self._socket.getpeername() or True)
        except OSError:
            return False

    def _read(self) -> bytes | None:
        """Go on with what can go on at once; a message, if one has become whole."""
        if self._socket is None:
            self._socket = self._connect()
            if self._socket is None:
                return None
            self._channel = self._new_channel()
            self._poll.register(self._socket, select.POLLIN | select.POLLOUT)
        try:
            try:
                write_to(self._socket, self._channel)
                message = read_from(self._socket, self._channel)
                write_to(self._socket, self._channel)
            except BadPeerError as error:
                self._hang_up()
                raise self._explained(error) from error
            wanted = select.POLLOUT if self._channel.unsent else 0
            self._poll.modify(self._socket, select.POLLIN | wanted)
        except EOFError:
            self._hang_up()
            return None
        return message

    def _wait(self, seconds: float) -> None:
        """Wait until something can go on, or for a while."""
        if self._socket is None:
            time.sleep(min(seconds, SLICE_S))
        else:
            self._poll.poll(math.ceil(1000 * seconds))

    def _explained(self, error: BadPeerError) -> BadPeerError:
        if not isinstance(error, StrangerError):
            return BadPeerError(f"{self.endpoint}: {error}")
        if error.first == ZEROMQ_MARK:
            return BadPeerError(
                f"{self.endpoint}: an older mtspark, or something else that speaks ZeroMQ; use the "
                "same mtspark on both sides"
            )
        if error.first:
            return BadPeerError(f"{self.endpoint}: no chip of this mtspark is served there")
        return BadPeerError(
            f"{self.endpoint}: its chip has another key; give the one that `mtspark hil "
            "--serve` printed there"
        )

    def _new_channel(self) -> Channel:
        return Channel(Role.HOST, self._connect.key, LARGEST_ANSWER)

    def _hang_up(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            self._poll.unregister(connected)
            connected.close()


class ChipProcess:
    """A chip of our own in another process, which ends when this one does, or hangs up.

    Args:
        order: what it shall be.

    Attributes:
        link: the connection to it.
        pid: its number.
    """

    def __init__(self, order: ChipOrder) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                own_module("mtspark.sim.hil.server", order.to_text(), str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # A line that is kept in a buffer would not wake who waits for the pipe.
                bufsize=0,
                stderr=self._log,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
                env=own_environment(),
            )
        self._ready = False
        self.link = ChipLink(Paired(ours), self.alive)
        self.pid = self._process.pid
        self._idle = Idle(self.pid)

    def ready(self, limit_s: float, silence_s: float) -> bool:
        """Wait until it can be asked; False where it cannot within the limit.

        Args:
            limit_s: to wait in seconds.
            silence_s: seconds in which it may neither work nor say that it still starts.

        Raises:
            ChipSilentError: it does nothing.
            BackendFailedError: it could not start.
        """
        deadline = time.monotonic() + limit_s
        while not self._ready:
            left = deadline - time.monotonic()
            if self._waits(min(max(left, 0.0), SLICE_S)):
                self._hear()
            elif self._idle.seconds() > silence_s:
                raise ChipSilentError("the chip did not start")
            elif left <= 0:
                return False
        return True

    def _waits(self, seconds: float) -> bool:
        """Wait for a line of it; whether there is one."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _hear(self) -> None:
        """Read a line: that it still starts, that it is ready, or why not."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            words = json.loads(line)
        except ValueError:
            words = None
        words = words if isinstance(words, dict) else {}
        if "ready" not in words and "starting" not in words:
            reason = words.get("error") or f"its process ended ({self.last_words()})"
            raise BackendFailedError(f"the chip did not start: {reason}")
        self._idle.heard()
        self._ready = "ready" in words

    def idle_s(self) -> float:
        """Seconds in which it has done nothing."""
        return self._idle.seconds()

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def stopped(self) -> bool:
        """Whether it was stopped (SIGSTOP, Ctrl-Z) and would go on; False where nobody knows."""
        return self._idle.stopped

    def ends(self, limit_s: float) -> bool:
        """Whether it runs no more, or not for long."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """The last line that it wrote on stderr."""
        self._process.poll()
        self._log.seek(0)
        return last_words(self._log.read().decode("utf-8", errors="replace"))

    def kill(self) -> None:
        """As when the power is cut; safe to call twice."""
        self.link.close()
        self._process.kill()
        self._release()

    def close(self) -> None:
        """Let it end; safe to call twice."""
        self.link.close()
        # Before it is ready it compiles perhaps, and hears nothing; Lava ends with its caller.
        if self._ready and not self.ends(HANG_UP_LIMIT_S):
            # In the middle of a long decision it does not see that we hung up.
            self._process.terminate()
            # One that is stopped would not heed the signal.
            self._process.send_signal(signal.SIGCONT)
            self.ends(END_LIMIT_S)
        self._process.kill()
        self._release()

    def _release(self) -> None:
        self._process.wait()
        for stream in (self._process.stdout, self._log):
            if stream is not None:
                stream.close()

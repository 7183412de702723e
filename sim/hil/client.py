"""The host's side of hardware in the loop: a connection, and a process to connect to."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import zmq

from mtspark.core.errors import BackendFailedError, BadRequestError
from mtspark.core.process import last_words, own_environment
from mtspark.sim.hil.protocol import (
    ANSWERED,
    BadPeerError,
    Decide,
    Decided,
    Hello,
    Refused,
    Welcome,
    decode,
    encode,
)
from mtspark.sim.hil.server import check_address, new_socket

SLICE_S = 0.1
"""How often it is looked whether a chip of our own is still alive."""


class ChipGoneError(BackendFailedError):
    """No answer: the chip is dead, away, or never was there."""


class ChipLink:
    """A connection to a chip's address; asking is safe whoever listens there.

    Args:
        endpoint: tcp://HOST:PORT.
        alive: asked while waiting; no use to wait on when it says False.
    """

    def __init__(self, endpoint: str, alive: Callable[[], bool] = lambda: True) -> None:
        check_address(endpoint)
        self.endpoint = endpoint
        self._alive = alive
        self._asked = 0
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(new_socket(zmq.DEALER))
        # A question is for a chip that is there, and never kept for one that comes later.
        self._socket.immediate = True
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise BadRequestError(f"{endpoint}: no address ({str(error).lower()})") from error

    def greet(self, limit_s: float) -> Welcome:
        """Ask who is there.

        Raises:
            ChipGoneError: nobody within the limit.
            BackendFailedError: somebody who refuses, or does not speak the protocol.
        """
        answer = self._ask(Hello(self.next_id()), limit_s)
        if not isinstance(answer, Welcome):
            raise BadPeerError(f"{self.endpoint}: {answer.kind!r} in answer to a hello")
        return answer

    def decide(self, question: Decide, limit_s: float) -> Decided:
        """Ask for a decision.

        Raises:
            ChipGoneError: no answer within the limit.
            BackendFailedError: a refusal, or an answer that is none.
        """
        answer = self._ask(question, limit_s)
        if not isinstance(answer, Decided):
            raise BadPeerError(f"{self.endpoint}: {answer.kind!r} in answer to a frame")
        return answer

    def next_id(self) -> int:
        """Number of the next question."""
        self._asked += 1
        return self._asked

    def send(self, question: Hello | Decide) -> bool:
        """Send without waiting; False where no chip is connected."""
        try:
            self._socket.send(encode(question), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self, wait_s: float) -> Any:
        """The next answer, to whatever question, or None after a wait.

        Raises:
            BackendFailedError: a refusal, or a message that is none of the protocol.
        """
        if not self._socket.poll(max(0, int(np.ceil(wait_s * 1000)))):
            return None
        parts = self._socket.recv_multipart()
        try:
            if len(parts) != 1:
                raise BadPeerError(f"a message of {len(parts)} parts; one is the limit")
            answer = decode(parts[0], ANSWERED)
        except BadPeerError as error:
            raise BadPeerError(f"{self.endpoint}: {error}") from error
        if isinstance(answer, Refused):
            raise BackendFailedError(f"{self.endpoint}: the chip refused: {answer.reason}")
        return answer

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._stack.close()

    def _ask(self, question: Hello | Decide, limit_s: float) -> Any:
        deadline = time.monotonic() + limit_s
        sent = False
        while (left := deadline - time.monotonic()) > 0 and self._alive():
            if not sent:
                self._socket.poll(int(1000 * min(left, SLICE_S)), zmq.POLLOUT)
                sent = self.send(question)
                continue
            answer = self.receive(min(left, SLICE_S))
            # An answer to a question that was given up may still come.
            if answer is not None and answer.id == question.id:
                return answer
        raise ChipGoneError(f"{self.endpoint}: no answer from a chip within {limit_s:g} s")


class ChipProcess:
    """A chip of our own in another process, which ends when this one does.

    Args:
        order: for :func:`mtspark.sim.hil.server.serve_for_owner`.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mtspark.sim.hil.server", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env=own_environment(),
        )
        self.pid = self._process.pid

    def endpoint(self, limit_s: float) -> str | None:
        """Its address once it is ready; None where it is not within the limit.

        Raises:
            BackendFailedError: it could not start.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit_s)[0]:
            return None
        line = self._process.stdout.readline()
        try:
            words = json.loads(line)
            return str(words["endpoint"])
        except (ValueError, KeyError):
            words = words if line.strip() and isinstance(words, dict) else {}
            reason = words.get("error") or f"its process ended ({self.last_words()})"
            raise BackendFailedError(f"the chip did not start: {reason}") from None

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line that it wrote on stderr."""
        self._process.poll()
        self._log.seek(0)
        return last_words(self._log.read().decode("utf-8", errors="replace"))

    def kill(self) -> None:
        """As when the power is cut; safe to call twice."""
        self._process.kill()
        self._release()

    def close(self) -> None:
        """Let it end; safe to call twice."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._release()

    def _release(self) -> None:
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

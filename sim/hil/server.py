"""The process that holds the chip: it answers whoever asks, one question at a time.

It outlives its hosts. Started by `mtspark hil` for one game it ends with that process, however
that one ends: its standard input is a pipe that closes then.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq

from mtspark.core.errors import BadRequestError, MtsparkError
from mtspark.sim.hil.chip import Chip
from mtspark.sim.hil.faults import FaultKind, Faults
from mtspark.sim.hil.options import ChipBackend
from mtspark.sim.hil.protocol import ASKED, LARGEST_MESSAGE, Refused, decode, encode, identity_of

ADDRESS = re.compile(r"tcp://[A-Za-z0-9.\-\[\]:*]+:(\d{1,5}|\*)")
MOST_WAITING = 64
"""Messages that ZeroMQ keeps for a slow side, before it drops."""
LONGEST_REASON = 500
LONGEST_WAIT_MS = 250
"""A signal that comes just before the wait begins does not end it: Python heeds it after this."""


def check_address(address: str) -> None:
    """Only TCP: it leaves no socket file behind, however a process ends.

    Raises:
        BadRequestError: something else.
    """
    match = ADDRESS.fullmatch(address)
    # ZeroMQ itself would take a larger number modulo 65536.
    if not match or (match[1] != "*" and int(match[1]) >= 2**16):
        raise BadRequestError(
            f"address {address[:80]!r}: write tcp://HOST:PORT, for example tcp://127.0.0.1:5555"
        )


@contextlib.contextmanager
def new_socket(kind: int) -> Iterator[Any]:
    """A ZeroMQ socket with our limits, and a context of its own; both end with the block."""
    context: Any = zmq.Context()
    socket = context.socket(kind)
    try:
        socket.linger = 0
        socket.maxmsgsize = LARGEST_MESSAGE
        socket.sndhwm = socket.rcvhwm = MOST_WAITING
        yield socket
    finally:
        socket.close()
        context.term()


def serve(
    chip: Chip,
    address: str,
    *,
    announce: Callable[[str], None],
    complain: Callable[[str], None],
    owner: int | None = None,
) -> None:
    """Answer questions until interrupted, or until the owner is gone.

    Args:
        chip: who decides.
        address: tcp://HOST:PORT; a port of * takes a free one.
        announce: called with the address once questions can come.
        complain: called with one line for every question that was refused.
        owner: handle that becomes readable (closes) when the server shall end.

    Raises:
        BadRequestError: the address cannot be served.
    """
    check_address(address)
    with new_socket(zmq.ROUTER) as socket:
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            raise BadRequestError(
                f"{address}: cannot be served ({str(error).lower()}); choose another port"
            ) from error
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        if owner is not None:
            poller.register(owner, zmq.POLLIN)
        announce(socket.last_endpoint.decode())
        while True:
            ready = dict(poller.poll(LONGEST_WAIT_MS))
            if owner in ready:
                return
            if socket not in ready:
                continue
            host, *parts = socket.recv_multipart()
            # A host that is gone, or does not read, is no reason to wait.
            with contextlib.suppress(zmq.Again):
                socket.send_multipart([host, _answer(chip, parts, complain)], zmq.NOBLOCK)


def _answer(chip: Chip, parts: list[bytes], complain: Callable[[str], None]) -> bytes:
    data = parts[0] if parts else b""
    try:
        if len(parts) != 1:
            raise BadRequestError(f"a message of {len(parts)} parts; one is the limit")
        return encode(chip.answer(decode(data, ASKED)))
    except MtsparkError as error:
        reason = "".join(c if c.isprintable() else "?" for c in str(error))[:LONGEST_REASON]
        complain(f"refused: {reason}")
        return encode(Refused(identity_of(data), reason))


def serve_for_owner(order: dict[str, Any]) -> None:
    """Serve the process that started this one; tell it the address, or why not, in one line.

    Args:
        order: bundle (folder), network (its expected sha256), task, backend, rates and seed of
            faults.
    """
    from mtspark.deploy.bundle import load_bundle

    # What libraries print must not be taken for the announcement, nor fill its pipe.
    announcement = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def announce(**words: str) -> None:
        announcement.write(json.dumps(words) + "\n")
        announcement.close()

    chip = None
    try:
        bundle = load_bundle(Path(order["bundle"]))
        if bundle.network_hash != order["network"]:
            raise BadRequestError(f"{bundle.folder}: changed since it was read; start again")
        rates = {FaultKind(name): rate for name, rate in order["rates"].items()}
        faults = Faults(rates, order["seed"])
        backend = ChipBackend(order["backend"])
        chip = Chip(bundle.network, bundle.network_hash, backend, faults, order["task"])
        chip.warm_up(order["task"])
        serve(
            chip,
            "tcp://127.0.0.1:*",
            announce=lambda endpoint: announce(endpoint=endpoint),
            complain=lambda line: print(line, file=sys.stderr),
            owner=0,
        )
    except MtsparkError as error:
        with contextlib.suppress(ValueError, OSError):
            announce(error=str(error))
        raise SystemExit(2) from None
    finally:
        if chip is not None:
            chip.close()


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: through the blocks that clean up."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    end_on_sigterm()
    with contextlib.suppress(KeyboardInterrupt):
        serve_for_owner(json.loads(sys.argv[1]))

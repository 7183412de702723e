"""The process that holds the chip: it answers whoever has the key, one question at a time.

Served on TCP it outlives its hosts. Started by `mtspark hil` for one game it has one host, at the
other end of a pair of sockets, and ends when that end closes, however its host ended.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from mtspark.core.errors import BadRequestError, MtsparkError
from mtspark.core.interrupts import heeded_interrupts
from mtspark.sim.hil.address import address_of, listen
from mtspark.sim.hil.chip import Chip
from mtspark.sim.hil.order import ChipOrder
from mtspark.sim.hil.protocol import ASKED, BadPeerError, Refused, decode, encode
from mtspark.sim.hil.stream import (
    ZEROMQ_GREETING,
    ZEROMQ_MARK,
    Channel,
    Role,
    StrangerError,
    read_from,
    refusal_for_zeromq,
    write_to,
)
from mtspark.sim.hil.told import Told

MOST_STRANGERS = 32
"""Connections that have not shown the key; one more, and one is closed: the oldest of the address
that has most of them."""
MOST_HOSTS = 32
"""Connections that have; one more, and the one that was silent longest is closed."""
STRANGER_LIMIT_S = 5.0
"""For each part of the proof, and for a peer that is turned away to hang up."""
PATIENCE_BYTES = 2**20
"""What a peer that is turned away may still send: it is dropped."""
LONGEST_REASON = 500
LONGEST_WAIT_S = 0.25
"""A signal that comes just before the wait begins does not end it: Python heeds it after this."""
BEAT_S = 1.0
"""How often a process that starts says so to its owner."""
OLD_HOST = "this chip asks for a key, which your mtspark does not know; use the same mtspark here"


class Server:
    """Answers questions that come over sockets; what a peer can make it hold is bounded.

    Args:
        chip: who decides.
        complain: called with one line for what was refused; more and more rarely, if it is much.
    """

    def __init__(self, chip: Chip, complain: Callable[[str], None]) -> None:
        self._chip = chip
        self._largest = chip.largest_question
        self._complaints = Complaints(complain)
        self._selector = selectors.DefaultSelector()
        self._peers: list[_Peer] = []

    def serve_all(self, listener: socket.socket, key: bytes) -> None:
        """Answer all who connect and have the key, until interrupted."""
        self._selector.register(listener, selectors.EVENT_READ)
        while True:
            # Before the others are attended to, which may take long: what came in time counts.
            now = time.monotonic()
            for entry, _ in self._selector.select(LONGEST_WAIT_S):
                if entry.fileobj is listener:
                    self._accept(listener, key)
                else:
                    self._attend(entry.data)
            for peer in [one for one in self._peers if now > one.deadline_s]:
                self._close(peer)

    def serve_one(self, connected: socket.socket) -> None:
        """Answer the other end of a pair of sockets, until it hangs up."""
        self._add(connected, None, "the host")
        while self._peers:
            for entry, _ in self._selector.select(LONGEST_WAIT_S):
                self._attend(entry.data)

    def close(self) -> None:
        """Hang up on everybody; safe to call twice."""
        while self._peers:
            self._close(self._peers[0])
        self._selector.close()

    def _accept(self, listener: socket.socket, key: bytes) -> None:
        try:
            connected, place = listener.accept()
        except OSError as error:
            # Others are gone already, or nobody is there after all; that is no reason to wait.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._complaints.add("accept", f"a connection failed ({error.strerror})")
                time.sleep(LONGEST_WAIT_S)
            return
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._add(connected, key, str(place[0]))
        strangers = [peer for peer in self._peers if not peer.channel.open]
        if len(strangers) > MOST_STRANGERS:
            # One place that connects again and again must not push out a slow host of another.
            crowd = Counter(peer.name for peer in strangers)
            self._close(max(strangers, key=lambda peer: crowd[peer.name]))

    def _add(self, connected: socket.socket, key: bytes | None, name: str) -> None:
        connected.setblocking(False)
        peer = _Peer(connected, Channel(Role.CHIP, key, self._largest), name)
        self._peers.append(peer)
        self._selector.register(connected, selectors.EVENT_READ, peer)

    def _close(self, peer: _Peer) -> None:
        self._peers.remove(peer)
        self._selector.unregister(peer.connected)
        peer.connected.close()
        peer.told.close()

    def _attend(self, peer: _Peer) -> None:
        """Read what a peer has sent until a message is whole; answer it; write what fits."""
        if peer not in self._peers:
            # Closed while another was attended to.
            return
        with contextlib.suppress(EOFError):
            if peer.leaving:
                self._listen_no_more(peer)
            elif not peer.channel.unsent:
                self._read(peer)
            write_to(peer.connected, peer.channel)
            # Who does not read its answer is not asked for the next question.
            wanted = selectors.EVENT_WRITE if peer.channel.unsent else selectors.EVENT_READ
            self._selector.modify(peer.connected, wanted, peer)
            return
        self._close(peer)

    def _read(self, peer: _Peer) -> None:
        was_open = peer.channel.open
        try:
            message = read_from(peer.connected, peer.channel)
        except BadPeerError as error:
            self._turn_away(peer, error)
            return
        if message is not None:
            peer.channel.put(self._answer(message, peer))
        if peer.channel.open:
            peer.deadline_s, peer.heard_s = float("inf"), time.monotonic()
            if not was_open:
                self._make_room(peer)
        elif peer.channel.unsent:
            peer.deadline_s = time.monotonic() + STRANGER_LIMIT_S

    def _make_room(self, newest: _Peer) -> None:
        hosts = [peer for peer in self._peers if peer.channel.open and peer is not newest]
        if len(hosts) >= MOST_HOSTS:
            silent = min(hosts, key=lambda peer: peer.heard_s)
            self._complaints.add("full", f"{silent.name}: hung up on, {MOST_HOSTS} hosts are there")
            self._close(silent)

    def _turn_away(self, peer: _Peer, error: BadPeerError) -> None:
        """Say why, where that can be understood, and wait for the peer to hang up."""
        peer.leaving, peer.deadline_s = True, time.monotonic() + STRANGER_LIMIT_S
        if not isinstance(error, StrangerError):
            self._complaints.add("refused", f"refused: {peer.name}: {error}")
            peer.channel.put(encode(Refused(0, _printable(str(error)))))
            return
        if error.first != ZEROMQ_MARK:
            self._complaints.add("stranger", f"turned away: {peer.name}: {error}")
            raise EOFError
        self._complaints.add("old", f"turned away: {peer.name}: speaks ZeroMQ, as mtspark 0.1 did")
        at_once, peer.last_word = refusal_for_zeromq(OLD_HOST)
        peer.channel.unsent += at_once

    def _listen_no_more(self, peer: _Peer) -> None:
        """Drop what a peer sends that was turned away, for a while.

        Closed at once, with bytes unread, a connection would lose the reason that is on its way.
        """
        try:
            dropped = len(peer.connected.recv(2**16))
            peer.patience_bytes -= dropped
            if not dropped or peer.patience_bytes < 0:
                raise EOFError
            if peer.patience_bytes < PATIENCE_BYTES - len(ZEROMQ_GREETING):
                peer.channel.unsent += peer.last_word
                peer.last_word = b""
        except BlockingIOError:
            return
        except OSError as error:
            raise EOFError from error

    def _answer(self, data: bytes, peer: _Peer) -> bytes:
        identity = 0
        try:
            question = decode(data, ASKED)
            identity = question.id
            return encode(self._chip.answer(question, peer.told))
        except MtsparkError as error:
            reason = _printable(str(error))
            self._complaints.add("refused", f"refused: {peer.name}: {reason}")
            return encode(Refused(getattr(error, "identity", identity), reason))


class Complaints:
    """Passes lines on; of many of one kind the 10th, 20th, ... 100th, 200th, and so on.

    A peer must not be able to fill a disk with what is said of it.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._counts: dict[str, int] = {}

    def add(self, kind: str, line: str) -> None:
        """Say it, or count it."""
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count < 10:
            self._say(_printable(line))
        elif len(str(count).rstrip("0")) == 1:
            self._say(_printable(f"{line} ({count:,} of that kind so far)"))


class _Peer:
    """One connection.

    Attributes:
        connected: its socket.
        channel: what it has said and shall hear.
        name: for complaints.
        told: what it has told the chip of its game.
        leaving: it was turned away.
        patience_bytes: that it may still send then.
        last_word: what it hears once it has sent more than a greeting.
        deadline_s: when it is closed, whatever it does.
        heard_s: when it last sent something.
    """

    def __init__(self, connected: socket.socket, channel: Channel, name: str) -> None:
        self.connected = connected
        self.channel = channel
        self.name = name
        self.told = Told()
        self.leaving = False
        self.patience_bytes = PATIENCE_BYTES
        self.last_word = b""
        self.heard_s = time.monotonic()
        self.deadline_s = float("inf") if channel.open else self.heard_s + STRANGER_LIMIT_S


def serve(
    chip: Chip,
    address: str,
    key: bytes,
    *,
    announce: Callable[[str], None],
    complain: Callable[[str], None],
) -> None:
    """Answer all who have the key until interrupted.

    Args:
        chip: who decides.
        address: tcp://HOST:PORT; a port of * takes a free one.
        key: that a host must have.
        announce: called with the address once questions can come.
        complain: called with one line for what was refused.

    Raises:
        BadRequestError: the address cannot be served.
    """
    with listen(address) as listener, contextlib.closing(Server(chip, complain)) as server:
        announce(address_of(listener))
        server.serve_all(listener, key)


def serve_for_owner(order: ChipOrder, connected: socket.socket) -> None:
    """Serve the process that started this one; tell it that this is ready, or why not, in one line.

    Args:
        order: what the chip is.
        connected: end of a pair of sockets, whose other end the owner holds.
    """
    from mtspark.deploy.bundle import load_bundle

    # What libraries print must not be taken for the announcement, nor fill its pipe.
    announcement = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with contextlib.ExitStack() as stack:
        stack.enter_context(connected)
        beat = _Beat(announcement)
        stack.callback(beat.end)
        try:
            bundle = load_bundle(Path(order.bundle))
            if bundle.network_hash != order.network:
                raise BadRequestError(f"{bundle.folder}: changed since it was read; start again")
            chip = Chip(
                bundle.network, bundle.network_hash, order.backend, order.faults, order.task
            )
            stack.callback(chip.close)
            chip.warm_up(order.task)
            server = stack.enter_context(contextlib.closing(Server(chip, _complain)))
            beat.end(ready="")
            server.serve_one(connected)
        except MtsparkError as error:
            with contextlib.suppress(ValueError, OSError):
                beat.end(error=str(error))
            raise SystemExit(2) from None


class _Beat(threading.Thread):
    """Tells the owner that this process still starts, until it is said how that ended.

    What compiles shows that it works; what waits for a process of Lava's, or for a board, does not.

    Args:
        announcement: where the owner reads; closed at the end.
    """

    def __init__(self, announcement: TextIO) -> None:
        super().__init__(daemon=True)
        self._announcement = announcement
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        """Say so now and then."""
        with contextlib.suppress(OSError):
            while not self._ended.wait(BEAT_S):
                self._say(starting="")

    def end(self, **words: str) -> None:
        """Say how the start ended, once; nothing is said after it."""
        if not self._ended.is_set():
            self._ended.set()
            self.join()
            with contextlib.closing(self._announcement):
                if words:
                    self._say(**words)

    def _say(self, **words: str) -> None:
        self._announcement.write(json.dumps(words) + "\n")
        self._announcement.flush()


def _complain(line: str) -> None:
    print(line, file=sys.stderr)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: through the blocks that clean up."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:LONGEST_REASON]


if __name__ == "__main__":
    end_on_sigterm()
    with contextlib.suppress(KeyboardInterrupt), heeded_interrupts():
        serve_for_owner(ChipOrder.from_text(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))

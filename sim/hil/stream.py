"""How messages travel: a stream of lengths and bytes that only holders of a key can write to.

A chip of our own answers over a pair of sockets that no third process can reach, and needs no
key. A served chip listens on TCP, where anybody may connect, so both sides prove first that they
know the key that `--serve` printed:

    host -> chip   hello: MAGIC, 32 random bytes
    chip -> host   MAGIC, 32 random bytes, proof
    host -> chip   proof
    both           length (4 bytes, big-endian), message, tag (16 bytes)

A proof is the HMAC-SHA256, under the key, of a side's name and both random numbers. Tags are
keyed BLAKE2b over the number of a message and the message, under a key of this connection and
direction. So nobody without the key sends a message, changes one, or plays one again. Messages
are not encrypted: they are frames of a game and what to press.

ZeroMQ carried the messages before. Whoever speaks its CURVE can still send an endless message of
parts that its limits do not count, on the chip's side and on the host's, and only a limit on the
memory of both processes would end that. Here a side reads what it expects next and no more: while
a stranger has not shown the key, at most 80 bytes; afterwards one message, whose length is checked
before it is read. What is not read waits with its sender.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import secrets
import socket
from collections.abc import Callable, Generator
from enum import Enum

from mtspark.core.errors import BadRequestError
from mtspark.sim.hil.protocol import BadPeerError, Refused, encode

MAGIC = b"mtspark-stream/1"
NONCE_BYTES = 32
PROOF_BYTES = 32
TAG_BYTES = 16
LENGTH_BYTES = 4
KEY_BYTES = 16
ZEROMQ_MARK = b"\xff"
"""What ZeroMQ says first; no text begins with it."""


class StrangerError(BadPeerError):
    """The other side does not know the key, or is no mtspark at all.

    Attributes:
        first: byte that it sent, where that was wrong already.
    """

    def __init__(self, text: str, first: bytes = b"") -> None:
        super().__init__(text)
        self.first = first


class Role(Enum):
    """A side of a connection."""

    HOST = b"host"
    CHIP = b"chip"


def new_key() -> str:
    """Draw a key for a served chip."""
    return secrets.token_hex(KEY_BYTES)


def key_bytes(text: str) -> bytes:
    """Read a key as `--serve` prints it.

    Raises:
        BadRequestError: no such key; the message does not repeat it.
    """
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadRequestError(
            f"the key has {2 * KEY_BYTES} hexadecimal digits, and what was given has not; take the "
            "one that `mtspark hil --serve` printed"
        )
    return key


class Channel:
    """One side of a connection. It neither reads nor writes: it is fed, and says what to send.

    Args:
        role: which side this is.
        key: of the chip; None for a pair of sockets, which needs no proof and no tags.
        largest: bytes of a message that this side takes.

    Attributes:
        open: whether messages can be sent: the other side has shown the key.
        unsent: what is to be written next; the owner takes away what it has written.
    """

    def __init__(self, role: Role, key: bytes | None, largest: int) -> None:
        self._role = role
        self._key = key
        self._largest = largest
        self._tags: tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]] | None = None
        self._part = bytearray()
        self._whole: bytes | None = None
        self.open = key is None
        self.unsent = bytearray()
        self._reading = self._read()
        self._length = next(self._reading)

    @property
    def wanted(self) -> int:
        """How many bytes may be fed now; never more than the next part lacks."""
        return self._length - len(self._part)

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes, at most as many as are wanted.

        Returns:
            The message that they complete, if they do.

        Raises:
            StrangerError: the other side does not know the key.
            BadPeerError: it does, and breaks a limit. Nothing may be fed after an error.
        """
        self._part += data
        while not self.wanted:
            part, self._part = bytes(self._part), bytearray()
            self._length = self._reading.send(part)
        whole, self._whole = self._whole, None
        return whole

    def put(self, message: bytes) -> None:
        """Have a message sent; the channel must be open."""
        tag = b"" if self._tags is None else self._tags[0](message)
        self.unsent += len(message).to_bytes(LENGTH_BYTES, "big") + message + tag

    def _read(self) -> Generator[int, bytes, None]:
        """Ask for one part after another; see the module."""
        if self._key is not None:
            yield from self._meet(self._key)
        tag_bytes = 0 if self._tags is None else TAG_BYTES
        self.open = True
        while True:
            length = int.from_bytes((yield LENGTH_BYTES), "big")
            if length > self._largest:
                raise BadPeerError(f"a message of {length:,} bytes; {self._largest:,} is the limit")
            body = yield length + tag_bytes
            message, tag = body[:length], body[length:]
            if self._tags is not None and not hmac.compare_digest(tag, self._tags[1](message)):
                raise BadPeerError("a message that was changed on its way")
            self._whole = message

    def _meet(self, key: bytes) -> Generator[int, bytes, None]:
        own = secrets.token_bytes(NONCE_BYTES)
        here = self._role
        there = Role.CHIP if here is Role.HOST else Role.HOST
        if here is Role.HOST:
            self.unsent += MAGIC + own
        first = yield 1
        rest = b"" if first != MAGIC[:1] else (yield len(MAGIC) - 1)
        if first + rest != MAGIC:
            raise StrangerError(f"no {there.name.lower()} of this mtspark speaks there", first)
        other = yield NONCE_BYTES
        both = own + other if here is Role.HOST else other + own
        if here is Role.CHIP:
            self.unsent += MAGIC + own + _digest(key, here.value + both)
        proof = yield PROOF_BYTES
        if not hmac.compare_digest(proof, _digest(key, there.value + both)):
            raise StrangerError("the other side has another key")
        if here is Role.HOST:
            self.unsent += _digest(key, here.value + both)
        self._tags = (
            _tagger(_digest(key, b"from " + here.value + both)),
            _tagger(_digest(key, b"from " + there.value + both)),
        )


def _digest(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _tagger(key: bytes) -> Callable[[bytes], bytes]:
    """Return what gives the tag of each message, in the order in which they travel."""
    number = 0

    def tag(message: bytes) -> bytes:
        nonlocal number
        digest = hashlib.blake2b(number.to_bytes(8, "big"), key=key, digest_size=TAG_BYTES)
        digest.update(message)
        number += 1
        return digest.digest()

    return tag


def read_from(connected: socket.socket, channel: Channel) -> bytes | None:
    """Read until a message is whole or nothing more is there; the socket does not block.

    Returns:
        A message; None where there is none yet.

    Raises:
        EOFError: the other side hung up.
        BadPeerError: as of :meth:`Channel.feed`.
    """
    while True:
        try:
            data = connected.recv(min(channel.wanted, 2**18))
        except OSError as error:
            _check_hung_up(error)
            return None
        if not data:
            raise EOFError
        message = channel.feed(data)
        if message is not None:
            return message


def write_to(connected: socket.socket, channel: Channel) -> None:
    """Write what is unsent, as far as the other side takes it; the socket does not block.

    Raises:
        EOFError: the other side hung up.
    """
    try:
        while channel.unsent:
            del channel.unsent[: connected.send(channel.unsent)]
    except OSError as error:
        _check_hung_up(error)


def _check_hung_up(error: OSError) -> None:
    """Raise EOFError, unless a socket only is not ready, or not connected yet."""
    if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOTCONN):
        raise EOFError from error


ZEROMQ_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
"""ZMTP 3.0 without security, https://rfc.zeromq.org/spec/23/."""
ZEROMQ_READY = b"\x04\x1c" + b"\x05READY" + b"\x0bSocket-Type\0\0\0\x06ROUTER"


def refusal_for_zeromq(reason: str) -> tuple[bytes, bytes]:
    """What makes a host of mtspark 0.1 print a reason instead of waiting in vain.

    Returns:
        What to send at once, and what when the host has sent more than a greeting; always the
        same bytes, whatever it says.
    """
    # 0.1 knows version 1, and would show nothing but the number of another one.
    message = encode(Refused(0, reason), version=1)
    return ZEROMQ_GREETING + ZEROMQ_READY, b"\x02" + len(message).to_bytes(8, "big") + message

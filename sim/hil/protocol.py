"""What host and chip say to each other: five messages, MessagePack over ZeroMQ.

The host (a DEALER socket) asks, the chip (a ROUTER socket) answers every message with one of
the same `id`. Nothing is kept between two questions: each names its task, episode and
decision, so a chip that died and came back, or another host, goes on as if nothing happened.

    host -> chip   hello    id
    chip -> host   welcome  id, network (sha256), backend, faults, input (shape), actions, tasks
    host -> chip   decide   id, task, episode, decision, frame (bytes)
    chip -> host   decided  id, values (a float an action), host_s
    chip -> host   refused  id, reason

Every message also carries the protocol's name and version. A peer is not trusted: sizes,
types, ranges and names are checked before anything is used.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import msgpack

from mtspark.core.errors import BackendFailedError
from mtspark.core.files import Bytes, Count, Number, Text, first_problem

PROTOCOL = "mtspark-hil"
VERSION = 1
LARGEST_FRAME = 2**24
LARGEST_MESSAGE = LARGEST_FRAME + 2**14
"""ZeroMQ drops a peer that sends more, before it is read."""
LONGEST_TEXT = 1000
LONGEST_LIST = 4096


class BadPeerError(BackendFailedError):
    """The other side said something that the protocol does not have."""


@dataclass(frozen=True)
class Hello:
    """A host asks who is there."""

    kind: ClassVar[str] = "hello"
    id: Count


@dataclass(frozen=True)
class Welcome:
    """The chip says what it is.

    Attributes:
        id: of the question.
        network: sha256 of its network.
        backend: what simulates it.
        faults: what breaks on it, in words; empty where nothing does.
        input: shape of a frame.
        actions: length of its answers.
        tasks: names of the tasks that it knows.
    """

    kind: ClassVar[str] = "welcome"
    id: Count
    network: Text
    backend: Text
    faults: Text
    input: list[Count]
    actions: Count
    tasks: list[Text]


@dataclass(frozen=True)
class Decide:
    """A frame to decide on.

    Attributes:
        id: of the question.
        task: name of the task.
        episode: number of the game, which seeds faults.
        decision: number in the episode, likewise.
        frame: uint8 pixels in row-major order.
    """

    kind: ClassVar[str] = "decide"
    id: Count
    task: Text
    episode: Count
    decision: Count
    frame: Bytes


@dataclass(frozen=True)
class Decided:
    """Action values, and how long the simulation took on the chip's computer."""

    kind: ClassVar[str] = "decided"
    id: Count
    values: list[Number]
    host_s: Number


@dataclass(frozen=True)
class Refused:
    """Why the chip did not do what it was asked; id 0 where that could not be read."""

    kind: ClassVar[str] = "refused"
    id: Count
    reason: Text


Message = Hello | Welcome | Decide | Decided | Refused
ASKED: tuple[type[Any], ...] = (Hello, Decide)
ANSWERED: tuple[type[Any], ...] = (Welcome, Decided, Refused)


def encode(message: Message) -> bytes:
    """One message as bytes."""
    named = {entry.name: getattr(message, entry.name) for entry in fields(message)}
    return bytes(
        msgpack.packb({"protocol": PROTOCOL, "version": VERSION, "kind": message.kind, **named})
    )


def decode(data: bytes, expected: tuple[type[Any], ...]) -> Any:
    """Read and check one message from a peer that is not trusted.

    Args:
        data: as it came.
        expected: kinds of messages that may come here.

    Raises:
        BadPeerError: one line that says what is wrong with it.
    """
    try:
        content = msgpack.unpackb(
            data,
            strict_map_key=True,
            max_str_len=LONGEST_TEXT,
            max_bin_len=LARGEST_FRAME,
            max_array_len=LONGEST_LIST,
            max_map_len=32,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException, UnicodeDecodeError, RecursionError) as error:
        raise BadPeerError(
            f"a message of {len(data)} bytes that is no MessagePack within the limits of "
            f"{PROTOCOL} ({type(error).__name__}); is the peer mtspark hil?"
        ) from error
    if not isinstance(content, dict) or content.get("protocol") != PROTOCOL:
        raise BadPeerError(f"a message that is not of {PROTOCOL}; is the peer mtspark hil?")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise BadPeerError(
            f"the peer speaks version {_shown(version)} of {PROTOCOL}, this side {VERSION}; use "
            "the same mtspark on both"
        )
    by_name = {kind.kind: kind for kind in expected}
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in by_name:
        raise BadPeerError(f"a message of kind {_shown(kind)}; {', '.join(by_name)} may come here")
    return _checked(by_name[kind], content)


def identity_of(data: bytes) -> int:
    """The id of a message that may be damaged, for its refusal; 0 where there is none."""
    try:
        content = msgpack.unpackb(data, max_array_len=LONGEST_LIST, max_map_len=32, max_ext_len=0)
        identity = content.get("id")
    except Exception:
        # Whatever a stranger's bytes make of the reader, the answer is the same.
        return 0
    return identity if first_problem(Count, identity) is None else 0


def _checked(kind: type[Any], content: dict[str, Any]) -> Any:
    given = {entry.name: content.get(entry.name) for entry in fields(kind)}
    problem = first_problem(kind, given)
    if problem is not None:
        raise BadPeerError(
            f"a message {kind.kind!r} whose {problem.place} is {_shown(problem.value)}, not "
            f"{problem.wanted}"
        )
    unknown = set(content) - set(given) - {"protocol", "version", "kind"}
    if unknown:
        raise BadPeerError(
            f"a message {kind.kind!r} with unknown fields {_shown(sorted(map(str, unknown)))}"
        )
    return kind(**given)


def _shown(value: Any) -> str:
    """A stranger's value, short; the console escapes what is not printable."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return repr(value)[:60]

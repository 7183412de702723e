"""What host and chip say to each other: nine messages, each one MessagePack map.

The host asks, the chip answers every message with one of the same `id`.

    host -> chip   hello    id
    chip -> host   welcome  id, network (sha256), backend, faults, input (shape), actions, tasks
    host -> chip   decide   id, task, episode, decision, frame (bytes)
    host -> chip   step     id, task, episode, decision, frame (bytes), begins
    host -> chip   change   id, task, episode, decision, since, places, changes (bytes both)
    chip -> host   decided  id, values (a float an action), host_s
    chip -> host   unknown  id
    chip -> host   forgotten  id
    chip -> host   refused  id, reason

`decide` carries a whole frame, and needs nothing of earlier. `change`, which only a network of the
encoder `changes` takes, carries a signed message for each value that changed: its place in the
frame (unsigned 32 bits) and what it changed by (signed 16 bits, -255 to 255, not 0), both little
endian, places ascending. It counts from the frame of the decision `since` of the same episode. A
chip keeps one such frame for each connection, that of the last question, whichever kind it was. It
answers `unknown` where that is another one, and the host sends the whole frame.

`step` is the `decide` of a network whose state survives decisions. Its first one of an episode
`begins`: the chip is put at rest before it decides. Any other, and every `change` of such a
network, goes on from the state that the decisions before it left. A chip has such a state for each
connection, of one episode. It answers `forgotten` where that is another one, or none (it was
started again, or the connection is a new one), and decides nothing; the host may begin again.

Version 1 had no `change` and no `unknown`, and version 2 neither `step` nor `forgotten`. These two
are marked with version 3, all others with 2, so that a peer of version 2 works on wherever nothing
is remembered. A side refuses a message of a version that it does not know by name.

Every message also carries the protocol's name and version. `stream` carries it, and lets nobody
send one who lacks the key. A peer that has it is not trusted either: a message is read once,
field by field, and a field is a number, a text, bytes, or a list of numbers and texts. Their
count and lengths are bounded before they are built, so that no message makes many or deep
objects; then types, ranges and names are checked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_origin, get_type_hints

import msgpack

from mtspark.core.errors import BackendFailedError, one_line
from mtspark.core.files import Bytes, Count, Flag, Number, Text, first_problem

PROTOCOL = "mtspark-hil"
VERSION = 3
"""The newest that this side knows."""
VERSIONS = (2, VERSION)
LARGEST_FRAME = 2**24
LARGEST_ANSWER = 2**16
"""Bytes of any message without its frame or changes; an answer has none."""
LARGEST_CHANGE = 255
PLACE_TYPE, CHANGE_TYPE = "<u4", "<i2"
"""NumPy's names of how places and changes are written."""
LONGEST_TEXT = 1000
LONGEST_LIST = 4096
MOST_FIELDS = 16


class BadPeerError(BackendFailedError):
    """The other side said something that the protocol does not have.

    Attributes:
        identity: id of the message, for its refusal; 0 where that could not be read.
    """

    identity = 0


@dataclass(frozen=True)
class Hello:
    """A host asks who is there."""

    kind: ClassVar[str] = "hello"
    version: ClassVar[int] = 2
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
    version: ClassVar[int] = 2
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
    version: ClassVar[int] = 2
    id: Count
    task: Text
    episode: Count
    decision: Count
    frame: Bytes


@dataclass(frozen=True)
class Step:
    """A frame of an episode, for a network whose state survives decisions.

    Attributes:
        id, task, episode, decision, frame: as of :class:`Decide`.
        begins: the chip is put at rest first; else it goes on from the decision before.
    """

    kind: ClassVar[str] = "step"
    version: ClassVar[int] = 3
    id: Count
    task: Text
    episode: Count
    decision: Count
    frame: Bytes
    begins: Flag


@dataclass(frozen=True)
class Change:
    """What changed of a frame since an earlier one.

    Attributes:
        id, task, episode, decision: as of :class:`Decide`.
        since: number of the decision whose frame this one is compared with.
        places: of the values that changed, in row-major order; 4 bytes each.
        changes: what is to be added to them; 2 bytes each.
    """

    kind: ClassVar[str] = "change"
    version: ClassVar[int] = 2
    id: Count
    task: Text
    episode: Count
    decision: Count
    since: Count
    places: Bytes
    changes: Bytes


@dataclass(frozen=True)
class Unknown:
    """The chip has not the frame that changes count from; it asks for the whole one."""

    kind: ClassVar[str] = "unknown"
    version: ClassVar[int] = 2
    id: Count


@dataclass(frozen=True)
class Forgotten:
    """The chip has not the state that a decision goes on from; it has decided nothing."""

    kind: ClassVar[str] = "forgotten"
    version: ClassVar[int] = 3
    id: Count


@dataclass(frozen=True)
class Decided:
    """Action values, and how long the simulation took on the chip's computer."""

    kind: ClassVar[str] = "decided"
    version: ClassVar[int] = 2
    id: Count
    values: list[Number]
    host_s: Number


@dataclass(frozen=True)
class Refused:
    """Why the chip did not do what it was asked; id 0 where that could not be read."""

    kind: ClassVar[str] = "refused"
    version: ClassVar[int] = 2
    id: Count
    reason: Text


Question = Decide | Step | Change
Message = Hello | Welcome | Question | Decided | Unknown | Forgotten | Refused
ASKED: tuple[type[Any], ...] = (Hello, Decide, Step, Change)
ANSWERED: tuple[type[Any], ...] = (Welcome, Decided, Unknown, Forgotten, Refused)
_LISTS = {
    name
    for kind in (*ASKED, *ANSWERED)
    for name, hint in get_type_hints(kind).items()
    if get_origin(hint) is list
}
"""Names of the fields that hold a list, in whatever message."""


def encode(message: Message, version: int | None = None) -> bytes:
    """One message as bytes.

    Args:
        message: what is said.
        version: that it is marked with; None: the oldest that has it, as a peer expects. Another
            one only for a peer that knows no newer.
    """
    named = {entry.name: getattr(message, entry.name) for entry in fields(message)}
    return bytes(
        msgpack.packb(
            {
                "protocol": PROTOCOL,
                "version": message.version if version is None else version,
                "kind": message.kind,
                **named,
            }
        )
    )


def decode(data: bytes, expected: tuple[type[Any], ...]) -> Any:
    """Read and check one message from a peer that is not trusted.

    Args:
        data: as it came.
        expected: kinds of messages that may come here.

    Raises:
        BadPeerError: one line that says what is wrong with it.
    """
    content: dict[str, Any] = {}
    try:
        _read_fields(data, content)
        return _message(content, expected)
    except BadPeerError as error:
        if first_problem(Count, content.get("id")) is None:
            error.identity = int(content["id"])
        raise


def _read_fields(data: bytes, content: dict[str, Any]) -> None:
    """Read the fields of a message into `content`, as far as they are within the limits."""
    reader = msgpack.Unpacker(
        max_buffer_size=max(1, len(data)),
        max_str_len=LONGEST_TEXT,
        max_bin_len=LARGEST_FRAME,
        # A list is read element by element; none stands in a list, nor anything else deep.
        max_array_len=0,
        max_map_len=0,
        max_ext_len=0,
    )
    try:
        reader.feed(data)
        count = reader.read_map_header()
        if count > MOST_FIELDS:
            raise BadPeerError(f"a message of {count} fields; {MOST_FIELDS} is the limit")
        for _ in range(count):
            name = reader.unpack()
            if not isinstance(name, str) or name in content:
                raise ValueError
            content[name] = _read_list(reader, name) if name in _LISTS else reader.unpack()
        if reader.tell() != len(data):
            raise ValueError
    except (ValueError, msgpack.UnpackException) as error:
        raise BadPeerError(
            f"a message of {len(data)} bytes that is no MessagePack map of flat fields within the "
            f"limits of {PROTOCOL} ({type(error).__name__}); is the peer mtspark hil?"
        ) from error


def _read_list(reader: Any, name: str) -> list[Any]:
    length = reader.read_array_header()
    if length > LONGEST_LIST:
        raise BadPeerError(f"a message with {length} parts in {name}; {LONGEST_LIST} is the limit")
    return [reader.unpack() for _ in range(length)]


def _message(content: dict[str, Any], expected: tuple[type[Any], ...]) -> Any:
    if content.get("protocol") != PROTOCOL:
        raise BadPeerError(f"a message that is not of {PROTOCOL}; is the peer mtspark hil?")
    version = content.get("version")
    if type(version) is not int or version not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        raise BadPeerError(
            f"the peer speaks version {_shown(version)} of {PROTOCOL}, this side {known}; use "
            "the same mtspark on both"
        )
    by_name = {kind.kind: kind for kind in expected if kind.version <= version}
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in by_name:
        raise BadPeerError(f"a message of kind {_shown(kind)}; {', '.join(by_name)} may come here")
    return _checked(by_name[kind], content)


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
    return one_line(repr(value), 60)

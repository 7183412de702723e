"""Plain values as bytes: what a process that read a hostile file hands over.

Numbers, texts, lists, tuples, dicts and numeric arrays, as one JSON header and the arrays'
bytes. Decoding runs no code of the sender, who may be a file that took the process over, and the
objects that a header makes are counted before it is parsed.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from mtspark.core.errors import BadFileError

_KINDS = "biuf"
_TYPE = re.compile(r"[<|][biuf][1248]")
_OBJECT_BYTES, _ITEM_BYTES = 320, 48
"""Memory of a list or dict of the header, parsed and made plain, and of a number or text in one:
at most, but for the texts' own letters."""
_PREFIX = 8
_ALIGNED = 64
"""Arrays, and the first of them, start at multiples of so many bytes."""

Piece = bytes | memoryview


def encode(value: Any) -> list[Piece]:
    """Pieces of bytes, to be joined: length of the header, header, arrays (uncopied).

    Raises:
        BadFileError: a value of another kind.
    """
    arrays: list[Piece] = []
    header = json.dumps(_tagged(value, arrays, [0])).encode()
    header += b" " * (-(_PREFIX + len(header)) % _ALIGNED)
    return [len(header).to_bytes(_PREFIX, "little"), header, *arrays]


def decode(data: bytes | bytearray, memory_bytes: int = 2**30) -> Any:
    """The value again; arrays are views of `data`, writable where that is a bytearray.

    Args:
        data: as it was sent.
        memory_bytes: that its lists, dicts, numbers and texts may take.

    Raises:
        BadFileError: not made by :func:`encode`, or more than the memory holds.
    """
    length = int.from_bytes(data[:_PREFIX], "little")
    text = data[_PREFIX : _PREFIX + length]
    objects = text.count(b"[") + text.count(b"{")
    needed = 2 * len(text) + _OBJECT_BYTES * objects + _ITEM_BYTES * text.count(b",")
    if needed > memory_bytes:
        raise BadFileError(
            f"its values need about {needed:,} bytes of memory; {memory_bytes:,} is the limit; if "
            "you trust the file, raise it with `mtspark --limit memory_bytes=N ...`"
        )
    try:
        return _plain(json.loads(text), memoryview(data)[_PREFIX + length :])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise BadFileError(f"damaged hand-over: {type(error).__name__}") from error


def _tagged(value: Any, arrays: list[Piece], end: list[int]) -> Any:
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"f": str(value)}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
            raise BadFileError(f"an array of {array.dtype} cannot be handed over")
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        data = plain.view(np.uint8).data if plain.size else b""
        start, gap = end[0], -plain.nbytes % _ALIGNED
        end[0] += plain.nbytes + gap
        arrays += [data, bytes(gap)]
        tag = "a" if isinstance(value, np.ndarray) else "n"
        return {tag: [array.dtype.newbyteorder("<").str, list(array.shape), start, plain.nbytes]}
    if isinstance(value, dict):
        if any(type(key) not in (str, int) for key in value):
            raise BadFileError("keys must be texts or whole numbers")
        return {"d": [[key, _tagged(item, arrays, end)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        tag = "l" if isinstance(value, list) else "t"
        return {tag: [_tagged(item, arrays, end) for item in value]}
    raise BadFileError(f"a value of type {type(value).__name__} cannot be handed over")


def _plain(value: Any, data: memoryview) -> Any:
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "d":
        return {key: _plain(item, data) for key, item in content}
    if tag == "l":
        return [_plain(item, data) for item in content]
    if tag == "t":
        return tuple(_plain(item, data) for item in content)
    if tag == "f":
        return float(content)
    kind, shape, start, length = content
    if tag not in ("a", "n") or not _TYPE.fullmatch(kind):
        raise ValueError(tag)
    array = np.frombuffer(data[start : start + length], np.dtype(kind)).reshape(shape)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if tag == "a" else array[()]

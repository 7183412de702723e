"""TOML files of strangers: recipes, chip descriptions, price cards."""

from __future__ import annotations

import sys
from datetime import date, time
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadFileError, one_line
from mtspark.core.files.limits import FileLimits, check_file_size, over
from mtspark.core.files.sandbox import read_guarded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST_INTEGER = 2**63 - 1
"""TOML promises 64 bits; Python would read any number of digits, and not print them again."""
LAYOUT = "\n\t"
"""Control characters that a text of several lines has."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, in a limited process of its own: the parser's time has no bound.

    Raises:
        BadFileError: missing, over a limit, no TOML, or a value that no file of mtspark has.
    """

    def read(limits: FileLimits) -> dict[str, Any]:
        size = check_file_size(path, limits)
        if size > limits.text_bytes:
            raise over("text_bytes", f"{path}", size, limits)
        try:
            return parse_toml(path.read_text(encoding="utf-8"), limits)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise BadFileError(f"{path}: cannot be read ({reason})") from error
        except UnicodeDecodeError as error:
            raise BadFileError(f"{path}: is not UTF-8 text") from error
        except ValueError as error:
            raise BadFileError(f"{path}: not TOML: {one_line(error)}") from error

    content: dict[str, Any] = read_guarded(str(path), read)
    return content


def parse_toml(text: str, limits: FileLimits) -> dict[str, Any]:
    """Read TOML and check what its parser does not: depth, number, integers, texts.

    Args:
        text: of the file.
        limits: of depth, of objects and of the length of a name.

    Raises:
        ValueError: not TOML, or a value that no file of mtspark has.
        RecursionError: nested far too deeply.
    """
    content = tomllib.loads(text)
    _check(content, "", limits, [0], 0)
    return content


def _check(value: Any, place: str, limits: FileLimits, seen: list[int], depth: int) -> None:
    seen[0] += 1
    if seen[0] > limits.objects:
        raise ValueError(f"more than {limits.objects:,} values")
    if depth > limits.depth:
        raise ValueError(f"nested more than {limits.depth} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            if len(key) > limits.name_length or not key.isprintable():
                raise ValueError(f"{place or 'the file'}: a name that cannot be shown")
            _check(inner, f"{place}.{key}".lstrip("."), limits, seen, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, place, limits, seen, depth + 1)
    elif isinstance(value, str):
        if not all(letter.isprintable() or letter in LAYOUT for letter in value):
            raise ValueError(f"{place}: a text with control characters")
    elif isinstance(value, (date, time)):
        raise ValueError(f"{place}: a date or a time, which no field of mtspark is")
    elif isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        raise ValueError(f"{place}: a whole number of more than 64 bits")

from __future__ import annotations

from pathlib import Path

import pytest

from mtspark.core.errors import BadFileError
from mtspark.core.files.limits import FileLimits, Policy, set_policy
from mtspark.core.files.toml import parse_toml, read_toml


def test_a_sound_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('a = 1\nb = [1.5, inf]\nc = "two\\nlines"\n[t]\nyes = true\n')
    content = read_toml(path)
    assert content == {"a": 1, "b": [1.5, float("inf")], "c": "two\nlines", "t": {"yes": True}}


HOSTILE = {
    "deep array": ("a = " + "[" * 100_000, "nested too deeply"),
    "deep table": ("a = " + "{b=" * 100_000, "nested too deeply"),
    "deep": ("a = " + "[" * 20 + "]" * 20, "nested more than 16 deep"),
    "long key": (".".join("a" * 40) + " = 1", "nested more than 16 deep"),
    "many digits": ("a = " + "7" * 5000, "not TOML"),
    "many hex digits": ("a = 0x" + "f" * 50_000, "a: a whole number of more than 64 bits"),
    "one more than 64 bits": (f"a = {2**63}", "a: a whole number of more than 64 bits"),
    "many values": ("a = [" + "1," * 30_000 + "]", "more than 20,000 values"),
    "escape": ('a = "\\u001b[2J"', "a: a text with control characters"),
    "escape in a name": ('"\\u001b[2J" = 1', "a name that cannot be shown"),
    "long name": (f"{'a' * 300} = 1", "a name that cannot be shown"),
    "a date": ("a = 2026-11-28", "a: a date or a time"),
    "torn": ("a = ", "not TOML"),
}


@pytest.mark.parametrize(("text", "says"), HOSTILE.values(), ids=HOSTILE)
def test_what_no_field_can_be_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(BadFileError) as caught:
        read_toml(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def test_bytes_that_are_no_text_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"a = \xff")
    with pytest.raises(BadFileError, match="is not UTF-8 text"):
        read_toml(tmp_path / "a.toml")
    for name in ("none.toml", "."):
        with pytest.raises(BadFileError):
            read_toml(tmp_path / name)


def test_the_parser_has_no_more_time_than_the_limit(tmp_path: Path) -> None:
    """A name of many parts takes it the square of their number; tomli refuses 1,000 and more."""
    path = tmp_path / "a.toml"
    path.write_text("".join(f"a{line}." + "a." * 600 + "a = 1\n" for line in range(800)))
    set_policy(Policy(FileLimits(seconds=1)))
    try:
        with pytest.raises(BadFileError, match=r"took more than 1 s|needs more than"):
            read_toml(path)
    finally:
        set_policy(None)


def test_limits_are_those_of_the_caller() -> None:
    with pytest.raises(ValueError, match="more than 3 values"):
        parse_toml("a = [1, 2, 3]", FileLimits(objects=3))

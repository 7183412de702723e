"""The options of every command that say how files are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtspark.core.files import sandbox
from mtspark.core.files.limits import set_policy


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    set_policy(None)


def test_a_limit_holds_for_the_command(
    played: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--limit", "text_bytes=10", "report", played) == 2
    error = capsys.readouterr().err
    assert "10 is the limit" in error
    assert error.count("\n") == 1
    assert call("report", played) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("report", "{}", "--limit", "text_bytes=10"),
        ("report", "--limit=text_bytes=10", "{}"),
        ("--limit", "array_bytes=1G", "report", "{}", "--limit", "text_bytes=10"),
    ],
)
def test_it_may_stand_behind_the_command(
    words: tuple[str, ...],
    played: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*(word.format(played) for word in words)) == 2
    assert "10 is the limit" in capsys.readouterr().err


def test_a_limit_needs_a_value_and_words_behind_dashes_are_no_options(
    played: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", played, "--limit") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'--limit': needs NAME=N" in line
    assert call("report", played, "--trust=1") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'--trust' does not take a value" in line
    assert call("report", "--", "--trust") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--trust/manifest.json: no such file" in line


def test_a_wrong_limit_lists_them(
    played: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--limit", "size=10", "report", played) == 2
    assert "array_bytes" in capsys.readouterr().err


def test_trust_reads_in_this_process(
    played: Path, call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[str] = []
    plain = sandbox._in_a_child
    monkeypatch.setattr(
        sandbox, "_in_a_child", lambda *given: (children.append(given[0]), plain(*given))[1]
    )
    assert call("report", played) == 0
    assert children
    for words in (("--trust", "report", played), ("report", played, "--trust")):
        children.clear()
        assert call(*words) == 0
        assert not children

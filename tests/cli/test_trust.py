"""The options before a command that say how files are read."""

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
    children.clear()
    assert call("--trust", "report", played) == 0
    assert not children

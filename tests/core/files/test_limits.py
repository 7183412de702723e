from __future__ import annotations

from pathlib import Path

import pytest

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.core.files.limits import (
    FileLimits,
    Policy,
    changed_limits,
    check_file_size,
    chosen_policy,
    current_policy,
    limits_from_environment,
    set_policy,
)


def test_limits_are_changed_by_name() -> None:
    changed = changed_limits(FileLimits(), ["array_bytes=2G", "seconds=7", "memory_bytes=64m"])
    assert (changed.array_bytes, changed.seconds) == (2 * 2**30, 7)
    assert changed.memory_bytes == 64 * 2**20
    assert changed.objects == FileLimits().objects


@pytest.mark.parametrize("setting", ["nothing=1", "seconds", "seconds=0", "seconds=-1", "depth=x"])
def test_a_wrong_limit_is_refused_by_name(setting: str) -> None:
    with pytest.raises(BadRequestError, match=setting.split("=")[0]):
        changed_limits(FileLimits(), [setting])


def test_the_environment_sets_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    set_policy(None)
    monkeypatch.setenv("MTSPARK_LIMIT_DEPTH", "3")
    assert limits_from_environment().depth == 3
    assert current_policy().limits.depth == 3
    monkeypatch.setenv("MTSPARK_LIMIT_DEPTH", "deep")
    with pytest.raises(BadRequestError, match="depth"):
        current_policy()


def test_what_a_caller_says_comes_first() -> None:
    set_policy(Policy(FileLimits(depth=4), trust=True))
    try:
        assert chosen_policy(None, None) == Policy(FileLimits(depth=4), trust=True)
        assert chosen_policy(FileLimits(depth=5), False) == Policy(FileLimits(depth=5), False)
    finally:
        set_policy(None)
    assert current_policy() == Policy(FileLimits())


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(BadFileError, match=r"--limit file_bytes=N"):
        check_file_size(path, FileLimits())


@pytest.mark.parametrize("name", ["missing", "folder", "a\0b"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadFileError):
        check_file_size(tmp_path / name, FileLimits())

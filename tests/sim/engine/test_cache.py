"""One damaged file in the cache of compiled code stops nothing and changes no number."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

from mtspark.sim.engine.kernels import cache as caches
from mtspark.sim.engine.kernels.cache import keep_on_disk
from mtspark.workflows import doctor

ANSWER = 3 * 5 + 7


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return what a fresh process would have: a function that nothing is compiled for yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    source = tmp_path / "small.py"
    source.write_text("def small(one, other):\n    return 3 * one + other\n")

    def fresh() -> Any:
        spec = importlib.util.spec_from_file_location("small", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        dispatcher = numba.njit(nogil=True)(module.small)
        assert keep_on_disk(dispatcher)
        return dispatcher

    return fresh


def files(tmp_path: Path) -> list[Path]:
    return sorted(
        path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".nbi", ".nbc")
    )


def hits(dispatcher: Any) -> int:
    return sum(dispatcher.stats.cache_hits.values())


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(bytes(content))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "text": lambda path: path.write_bytes(b"not a pickle at all" * 10),
    "first bit": lambda path: flip(path, 0),
    "a bit of the code": lambda path: flip(path, 0.5),
    "last bit": lambda path: flip(path, 1),
    "a folder": a_folder,
}


@pytest.mark.parametrize("which", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_dropped_and_compiled_again(
    start: Callable[[], Any],
    tmp_path: Path,
    which: str,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = start()
    assert first(5, 7) == ANSWER
    again = start()
    assert again(5, 7) == ANSWER
    assert hits(again) == 1
    assert again._cache.damaged() == []
    (path,) = [path for path in files(tmp_path) if path.suffix == which]
    DAMAGES[damage](path)
    assert start()._cache.damaged() == [path]
    with caplog.at_level(logging.WARNING):
        mended = start()
        assert mended(5, 7) == ANSWER
        assert hits(mended) == 0
    # Numba itself takes a data file that it cannot open for one that is gone.
    if (which, damage) != (".nbc", "a folder"):
        assert "is damaged" in caplog.text
    if damage != "a folder":
        last = start()
        assert last(5, 7) == ANSWER
        assert hits(last) == 1


def test_a_full_disk_keeps_nothing_and_stops_nothing(
    start: Callable[[], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caches._SummedFiles, "_write", full)
    assert start()(5, 7) == ANSWER
    assert "cannot be kept in" in caplog.text
    assert "no space left on device" in caplog.text
    assert files(tmp_path) == []


@pytest.mark.parametrize("which", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "a bit of the code", "a folder"])
def test_a_damaged_file_that_is_not_ours_to_remove_stops_nothing(
    start: Callable[[], Any],
    tmp_path: Path,
    which: str,
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of another user, in a folder such as /tmp."""
    assert start()(5, 7) == ANSWER
    (path,) = [path for path in files(tmp_path) if path.suffix == which]
    DAMAGES[damage](path)

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "unlink", refused)
    monkeypatch.setattr(os, "replace", refused)
    assert start()(5, 7) == ANSWER


def test_the_doctor_sees_a_damaged_file_and_how_to_remove_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtspark.sim.engine.kernels.run import run

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    sound = doctor.check_engine()
    assert sound.status == "ok"
    folder = Path(sound.found.removeprefix("compiled code is cached in "))
    assert tmp_path in folder.parents
    damaged = folder / Path(run._cache._cache_file._index_path).name
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"damaged")
    finding = doctor.check_engine()
    assert (finding.status, finding.found) == ("broken", f"damaged compiled code: {damaged}")
    assert finding.fix == f"rm -r {damaged}"
    shutil.rmtree(tmp_path)
    assert doctor.check_engine().status == "ok"

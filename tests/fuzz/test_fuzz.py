"""A short run of the fuzzer; the long one is ``python -m tests.fuzz.fuzz``."""

from __future__ import annotations

import importlib
import os
import resource
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mtspark.core.files.limits import set_policy

KINDS = ("nir", "net", "pt", "onnx", "bundle")
FILES = 8


@pytest.fixture
def fuzz() -> Any:
    yield importlib.import_module("tests.fuzz.fuzz")
    set_policy(None)


@pytest.mark.slow
def test_only_errors_of_mtspark_come_out(fuzz: ModuleType, tmp_path: Path) -> None:
    seeds = fuzz.make_seeds(tmp_path / "seeds")
    assert tuple(seeds) == KINDS
    total: Counter[str] = Counter()
    for number in range(len(KINDS)):
        # A number beyond those of the long run's batches: other files than there.
        found = fuzz.fuzz_batch(10_000_000 + number, seeds, tmp_path, FILES)
        total.update(found["counts"])
        assert found["largest_mb"] < 4096
        bad = [entry for entry in found["found"] if entry["result"] in ("escaped", "unforeseen")]
        assert not bad
    for kind in KINDS:
        made = sum(count for name, count in total.items() if name.startswith(f"{kind} "))
        assert made >= FILES
        assert total[f"{kind} refused"]


@pytest.mark.slow
def test_every_seed_is_sound(fuzz: ModuleType, tmp_path: Path) -> None:
    reader = importlib.import_module("tests.fuzz.read")
    for kind, paths in fuzz.make_seeds(tmp_path).items():
        for path in paths:
            assert reader.read_file(kind, path).result == "read", path


def test_an_error_that_is_none_of_ours_is_found(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = importlib.import_module("tests.fuzz.read")

    def broken(kind: str, path: Path) -> None:
        raise KeyError("nobody expected this")

    monkeypatch.setattr(reader, "_read", broken)
    outcome = reader.read_file("nir", tmp_path / "x.nir")
    assert outcome.result == "escaped"
    assert "nobody expected this" in outcome.text


def test_reading_is_charged_for_itself_alone(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = importlib.import_module("tests.fuzz.read")
    made = np.ones(2**26)
    del made
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    outcome = reader.read_file_apart("nir", tmp_path / "none.nir")
    assert outcome.result == "refused"
    assert 0 < outcome.megabytes < own - 256
    monkeypatch.setattr(reader, "_read", lambda kind, path: os._exit(3))
    assert reader.read_file_apart("nir", tmp_path / "none.nir").result == "escaped"

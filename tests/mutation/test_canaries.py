"""The canaries of ``python tests/mutation/canaries.py`` still sit on the lines that they sat on."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_canary_fits_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    canaries = importlib.import_module("canaries")
    for canary in canaries.CANARIES:
        source = (ROOT / "mtspark" / canary.file).read_text()
        mutated = canary.mutated(source)
        assert mutated != source, canary.name
        compile(mutated, canary.file, "exec")
        assert all((ROOT / test).is_file() for test in canary.tests)
    assert len({canary.name for canary in canaries.CANARIES}) == len(canaries.CANARIES)

"""Outputs in any encoding: no command ends in a traceback for a letter that cannot be printed."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtspark.cli.main import COMMANDS

Answer = tuple[int, bytes, bytes]


@pytest.fixture(params=["ascii", "latin-1", "utf-8"])
def told(
    request: pytest.FixtureRequest, call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Answer]:
    """Run a command whose outputs have an encoding; its exit code and what it wrote."""

    def run(*arguments: object) -> Answer:
        raw = io.BytesIO(), io.BytesIO()
        outputs = [io.TextIOWrapper(one, request.param, "strict") for one in raw]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", outputs[0])
            patch.setattr(sys, "stderr", outputs[1])
            code = call(*arguments)
            for output in outputs:
                output.flush()
        return code, raw[0].getvalue(), raw[1].getvalue()

    return run


def test_helps_are_printed(told: Callable[..., Answer]) -> None:
    for command in COMMANDS:
        code, out, _ = told(command, "--help")
        assert code == 0
        assert command.encode() in out


@pytest.mark.slow
def test_tables_bars_and_names_are_printed(
    told: Callable[..., Answer], played: Path, tmp_path: Path
) -> None:
    """The folder's name has a letter of another encoding, and one that is of none."""
    folder = tmp_path / os.fsdecode(b"\xc3\xa9\xff\xe2\x86\x92")
    shutil.copytree(played, folder)
    for arguments, expected in [
        (("report", folder), b"J"),
        (("map", folder), b"core"),
        (("run", folder, "--task", "pong", "--max-decisions", 2), b"wrote"),
        (("diff", folder, "--against", "reference", "--decisions", 1), b"1 decision"),
    ]:
        code, out, err = told(*arguments)
        assert code in (0, 1), err
        assert expected in out
        assert b"Traceback" not in out + err
    code, out, err = told("run", folder)
    assert (code, out) == (2, b"")
    assert len(err.splitlines()) == 1
    assert told("report", folder, "-o", tmp_path / "page.html", "--max-decisions", 2)[0] == 0
    assert "→" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_units_stay_units_and_columns_stay_below_each_other(
    call: Callable[..., int], played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    for encoding in ("utf-8", "ascii"):
        raw = io.BytesIO()
        output = io.TextIOWrapper(raw, encoding, "strict")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", output)
            assert call("report", played) == 0
            output.flush()
        texts.append(raw.getvalue().decode(encoding))
    rich, plain = (text.splitlines() for text in texts)
    assert any("\u00b5J" in line for line in rich)
    assert any("uJ" in line for line in plain)
    assert [len(line) for line in rich] == [len(line) for line in plain]

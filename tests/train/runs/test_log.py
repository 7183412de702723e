"""A log that a run did not write, or that is damaged: nothing of it goes without a word."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mtspark.core.errors import BadFileError, BadRequestError
from mtspark.train.runs.early import check_writable
from mtspark.train.runs.log import trim_log

RECORDS = [b'{"steps": 8}\n', b'{"steps": 16}\n', b'{"steps": 24}\n']
STRANGE = [
    b"not json\n",
    b'{"other": 8}\n',
    b'{"steps": "\xff"}\n',
    b'{"steps": NaN}\n',
    b'{"steps": null}\n',
    b'{"steps": 1' + b"0" * 400 + b"}\n",
    b"[" * 100_000 + b"\n",
    b"\x1b[31m\n",
    b"\n",
]


@pytest.mark.parametrize("torn", [b"", b'{"steps": 3', b"{"])
def test_what_a_killed_run_has_logged_too_much_goes_without_a_word(
    tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"".join(RECORDS) + torn)
    trim_log(tmp_path, "steps", 16)
    assert (tmp_path / "log.jsonl").read_bytes() == b"".join(RECORDS[:2])
    assert not caplog.records
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("strange", STRANGE)
def test_a_damaged_line_is_told_and_the_log_as_it_was_is_kept(
    tmp_path: Path, strange: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    content = RECORDS[0] + strange + RECORDS[1] + RECORDS[2]
    (tmp_path / "log.jsonl").write_bytes(content)
    trim_log(tmp_path, "steps", 16)
    assert (tmp_path / "log.jsonl").read_bytes() == b"".join(RECORDS[:2])
    assert (tmp_path / "log.jsonl.damaged").read_bytes() == content
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{tmp_path / 'log.jsonl'}: 1 of its 4 lines are no records of a run")


@pytest.mark.parametrize("strange", STRANGE)
def test_a_log_that_no_run_wrote_is_refused_and_left(tmp_path: Path, strange: bytes) -> None:
    (tmp_path / "log.jsonl").write_bytes(strange * 2)
    with pytest.raises(BadFileError, match="is no log of a training run; move it elsewhere"):
        trim_log(tmp_path, "steps", 16)
    # Without a checkpoint beside it, before anything begins.
    with pytest.raises(BadRequestError, match="a log without the run that wrote it"):
        check_writable(tmp_path)
    assert (tmp_path / "log.jsonl").read_bytes() == strange * 2
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_log_whose_run_is_gone_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(RECORDS))
    with pytest.raises(BadRequestError, match="which a new run would replace; move it elsewhere"):
        check_writable(tmp_path)
    # One that was killed before its first checkpoint has logged an update at most.
    for killed in (b"", RECORDS[0], b'{"steps": 8', b'{"epoch": 1}\n'):
        log.write_bytes(killed)
        check_writable(tmp_path)
    log.write_bytes(b"".join(RECORDS))
    (tmp_path / "resume.pt").write_bytes(b"PK")
    check_writable(tmp_path)

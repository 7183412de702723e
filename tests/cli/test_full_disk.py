"""Disks and temporary folders that are full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest


@pytest.mark.slow
def test_an_export_needs_no_temporary_folder(
    checkpoint: Path,
    call: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")

    for name in ("mkdtemp", "mkstemp"):
        monkeypatch.setattr(tempfile, name, full)
    folder = tmp_path / "a.deploy"
    assert call("export", checkpoint, "-o", folder, "--formats", "nir,onnx") == 0
    assert call("export", folder / "graph.pong.nir", "-o", tmp_path / "b.deploy") == 0


def test_no_temporary_folder_at_all_is_one_line(
    played: Path,
    call: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What Python's tempfile raises where every folder that it tries is full."""

    def none(*_: Any, **__: Any) -> NoReturn:
        raise FileNotFoundError(
            errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"
        )

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    capsys.readouterr()
    assert call("diff", played, "--against", "onnx", "--decisions", 1) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no usable temporary directory found" in line
    assert "TMPDIR" in line


SCRIPT = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 99
head -c 65536 /dev/zero > "$1/fill" 2>/dev/null
TMPDIR="$1" "$2" -m mtspark.cli export "$3" -o "$4" --formats nir,onnx >/dev/null || exit 1
rm "$1/fill"
"$2" -m mtspark.cli export "$3" -o "$1/a.deploy" && exit 3
ls -A "$1" > "$5"
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount of its own")
def test_an_export_to_a_full_disk_is_one_line_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path
) -> None:
    """A real disk of 64 kB: full as the temporary folder, then too small for the bundle."""
    disk, left = tmp_path / "disk", tmp_path / "left.txt"
    disk.mkdir()
    command = "-c 'from mtspark.cli.main import main; main()'"
    script = SCRIPT.replace("-m mtspark.cli", command)
    names = map(str, (disk, sys.executable, checkpoint, tmp_path / "b.deploy", left))
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.deploy" / "manifest.json").is_file()
    assert done.stderr.splitlines()[-1].startswith(f"error: {disk}/a.deploy: cannot be written")
    assert "no space left on device" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert left.read_text() == ""

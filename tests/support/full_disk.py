"""Runs commands on a disk that is full, in a process with mounts of its own.

    unshare -rm python -m tests.support.full_disk ORDER.json ANSWER.json

The order names the disk (an empty folder), its size, and the cases: what lies on the disk before,
how much room is left, variables of the environment, and the command.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NO_MOUNT = 99
FILL = ".fill"


def state(disk: Path) -> dict[str, str]:
    """Digest of every file on the disk, the filler excepted."""
    return {
        str(path.relative_to(disk)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(disk.rglob("*"))
        if path.is_file() and path.name != FILL
    }


def fill(disk: Path, room: int) -> None:
    """Leave so many bytes of room."""
    with (disk / FILL).open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**16))
        size = file.tell()
        file.truncate(max(size - room, 0))


def run(words: list[str]) -> tuple[int, str, str]:
    """Run mtspark in this process; its exit code, output and errors."""
    from mtspark.cli import main as cli

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["mtspark", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc(file=err)
            code = -1
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for a block; temporary folders are chosen anew in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", None)
        yield


def case(disk: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Run one case."""
    for entry in disk.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name, source in given.get("copied", {}).items():
        if Path(source).is_dir():
            shutil.copytree(source, disk / name)
        else:
            shutil.copy(source, disk / name)
    for name, text in given.get("texts", {}).items():
        (disk / name).write_text(text, encoding="utf-8")
    for words in given.get("first", []):
        assert run(words)[0] == 0, words
    fill(disk, given.get("room", 0))
    before = state(disk)
    with environment(given.get("variables", {})):
        code, out, err = run(given["words"])
    return {"code": code, "out": out, "err": err, "before": before, "after": state(disk)}


def main() -> None:
    """Mount the disk and run all cases."""
    asked, answer = map(Path, sys.argv[1:])
    order = json.loads(asked.read_text(encoding="utf-8"))
    disk = Path(order["disk"])
    mount = ["mount", "-t", "tmpfs", "-o", f"size={order['size']}", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        raise SystemExit(NO_MOUNT)
    os.environ["COLUMNS"] = "80"
    answers = {name: case(disk, given) for name, given in order["cases"].items()}
    answer.write_text(json.dumps(answers, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

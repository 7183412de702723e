"""Outputs that cannot be written: what is under way goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import contextlib, os, sys
from mtspark.cli.start import open_outputs
open_outputs()
for step in range(3):
    print("step", step, file=sys.stderr)
with open("result", "w") as file:
    # As a library in C does it, which does not mind.
    with contextlib.suppress(OSError):
        os.write(2, b"warning")
    file.write(str(file.fileno()))
print("done")
sys.stdout.flush()
"""


@pytest.mark.parametrize("output", ["a pipe that closes", "a full disk", "2>&-", ">&- 2>&-"])
def test_work_goes_on_where_its_messages_cannot_be_written(output: str, tmp_path: Path) -> None:
    redirected = output if "&" in output else ""
    read, write = os.pipe()
    os.close(read)
    with Path("/dev/full").open("w") as full, os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, WORK],
            stderr=full if output == "a full disk" else pipe,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 0
    assert done.stdout == ("" if output.startswith(">") else "done\n")
    # Nobody who writes to a standard stream writes into the file.
    assert (tmp_path / "result").read_text().isdecimal()
    assert int((tmp_path / "result").read_text()) > 2

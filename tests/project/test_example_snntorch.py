"""The snntorch example runs, and says what is true of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "snntorch_model.py"


@pytest.mark.slow
def test_the_example_compares_its_layers() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for layer in ("lif1", "lif2", "lif3"):
        assert f"{layer}: 0 of " in done.stdout
        assert f"{layer} on the chip: " in done.stdout
    assert "same class for" in done.stdout

"""Names in a Python file, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtspark.core.files.python import names_in


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import torch\n", ""),
        ("_own = 1\n", ""),
        ("net = 1\n", "in it is net"),
        ("def make(): ...\nclass Net: ...\nnet: int = make()\n", "in it are make, Net and net"),
        ("a = b = 1\na = 2\n(c, d) = 1, 2\n", "in it are a and b"),
        ("".join(f"n{i} = 0\n" for i in range(9)), "in it are n0, n1, n2, n3, n4, n5 and 3 more"),
        ("def (:\n", ""),
        ("x = '\0'\n", ""),
        ("(" * 5000, ""),
    ],
)
def test_what_a_file_has_names_for(source: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(source)
    assert names_in(path) == says


def test_a_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert names_in(tmp_path / "none.py") == ""

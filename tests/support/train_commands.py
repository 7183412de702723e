"""Calls of ``mtspark train``, as its users make them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mtspark.cli._console import run_program
from mtspark.cli.main import app


def call(folder: Path | None, *arguments: object, recipe: str = "pong-waiting") -> int:
    """Train by a recipe into a folder, or where none is given."""
    into = [] if folder is None else ["-o", str(folder)]
    words = ["train", recipe, *into, *map(str, arguments)]
    command = partial(app, words, prog_name="mtspark")
    with pytest.raises(SystemExit) as end:
        run_program(command)
    return int(end.value.code or 0)

"""Recipes, chip descriptions and price cards with changed bytes: read, or refused in one line."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtspark.core.errors import MtsparkError
from mtspark.core.files.limits import FileLimits, Policy, set_policy
from mtspark.core.files.sandbox import BUG
from mtspark.deploy.chips.model import load_chip
from mtspark.sim.energy.cards import load_card
from mtspark.train.config.recipe import config_of

ROOT = Path(__file__).parent.parent.parent
READERS: dict[str, Callable[[str], Any]] = {
    "deploy/chips/loihi1.toml": load_chip,
    "sim/energy/price_cards/loihi1_sanafe.toml": load_card,
    "train/config/recipes/three-games.toml": config_of,
    "train/config/recipes/pong-dqn.toml": config_of,
}
TOKENS = (
    b"[",
    b"]",
    b"{",
    b"=",
    b'"',
    b"\x1b",
    b"\xff",
    b"9" * 30,
    b"-1",
    b"nan",
    b"0x" + b"f" * 99,
)


@pytest.fixture(autouse=True)
def in_this_process() -> Iterator[None]:
    """Without a child for each file, so that more of them can be read."""
    set_policy(Policy(FileLimits(), trust=True))
    yield
    set_policy(None)


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    generator, path = random.Random(name), tmp_path / "a.toml"
    seed = (ROOT / name).read_bytes()
    for _ in range(60):
        data = bytearray(seed)
        for _ in range(generator.choice((1, 1, 2, 5))):
            at = generator.randrange(len(data))
            end = at + generator.choice((0, 1, 5, 30))
            data[at:end] = generator.choice(TOKENS)
        path.write_bytes(data)
        text = ""
        try:
            READERS[name](str(path))
        except MtsparkError as error:
            text = str(error)
        assert "\n" not in text
        assert BUG not in text, bytes(data)

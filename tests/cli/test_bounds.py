"""No option that counts is without an upper bound."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any, get_args

import pytest

from mtspark.cli.main import COMMANDS

CHECKED_LATER = {
    ("export", "weight_bits"),  # against the chip's
    ("export", "time_steps"),  # against the limit of files
    ("run", "sample"),  # as a seed
    *((command, "seed") for command in COMMANDS),  # by the game, or the generator of frames
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_whole_number_has_an_upper_bound(name: str) -> None:
    module, function = COMMANDS[name].split(":")
    options = signature(getattr(import_module(module), function), eval_str=True).parameters
    for option, parameter in options.items():
        kind, *about = get_args(parameter.annotation) or (None,)
        if kind in (int, int | None) and (name, option) not in CHECKED_LATER:
            assert about[0].max is not None, option


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("run", ("--episodes", 10**9), "10000000"),
        ("run", ("--max-decisions", 10**12), "10000000"),
        ("run", ("--task", "pong", "--seed", 10**12), "seed 1000000000000: must be 0 to"),
        ("run", ("--task", "pong", "--sample", 2**63), f"sample {2**63}: must be 0 to"),
        ("run", ("--task", "pong", "--sample", -1), "sample -1: must be 0 to"),
        ("diff", ("--decisions", 10**9), "100000"),
        ("diff", ("--seed", -1), "seed -1: must be 0 to"),
        ("explain", ("--decisions", 10**9), "100000"),
        ("hil", ("--fault-seed", -1), "--fault-seed"),
        ("eval", ("--episodes", 10**12), "10000000"),
        ("run", ("--episodes", "7" * 5000), "--episodes"),
    ],
)
def test_a_number_without_end_is_one_line(
    played: Any,
    call: Any,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: tuple[Any, ...],
    says: str,
) -> None:
    more = {"diff": ("--against", "reference")}.get(command, ())
    capsys.readouterr()
    assert call(command, played, *more, *options) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert says in line

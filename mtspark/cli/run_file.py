"""Reading a run's file: everything that the tables show is checked before they show it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtspark.cli.show.runs import COUNTED
from mtspark.core.files.sandbox import read_text_guarded
from mtspark.sim.results import FORMAT, VERSION

Check = Callable[[Any], bool]
LARGEST = 2**62
"""Counts of a run stay far below; a longer number in a file is no count."""

NEVER_EMPTY = ("episodes", "layers")


def read_run(path: Path) -> dict[str, Any]:
    """Read the file of one run.

    Raises:
        BadFileError: unreadable, no JSON, or a field is missing or cannot be one of a run.
    """

    def parse(text: str) -> dict[str, Any]:
        run = json.loads(text, parse_float=_finite, parse_constant=_finite)
        _compare(run, RUN, "")
        return dict(run)

    refusal = "not a run of mtspark: {}; delete it"
    run: dict[str, Any] = read_text_guarded(path, parse, refusal)
    return run


def _compare(value: Any, expected: Any, where: str) -> None:
    """Compare a value with a check, an object of checks, or a list of one kind of items."""
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'the file'} is no object of named fields")
        for key, inner in expected.items():
            if key not in value:
                raise ValueError(f"{_below(where, key)} is missing")
            _compare(value[key], inner, _below(where, key))
    elif isinstance(expected, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} is no list")
        if not value and where in NEVER_EMPTY:
            raise ValueError(f"{where} is empty")
        for index, item in enumerate(value):
            _compare(item, expected[0], f"{where}[{index}]")
    elif not expected(value):
        raise ValueError(f"{where} cannot be {repr(value)[:40]}")


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _positive(value: Any) -> bool:
    return _count(value) and value > 0


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST


def _number_or_none(value: Any) -> bool:
    return value is None or _number(value)


def _yes_or_no(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    # Control characters and lone surrogates must not reach the terminal.
    return isinstance(value, str) and value.isprintable()


def _just(constant: Any) -> Check:
    return lambda value: type(value) is type(constant) and value == constant


def _shape_of_a_run() -> dict[str, Any]:
    term = {
        "term": _text,
        "count_per_decision": _number_or_none,
        "price_pj": _number_or_none,
        "energy_j_per_decision": _number_or_none,
        "note": _text,
    }
    bill = {
        **dict.fromkeys(("card", "source", "evidence", "scope", "static_note"), _text),
        "hypothetical": _yes_or_no,
        "hypothetical_because": [_text],
        "terms": [term],
        "dynamic_j_per_decision": _number,
        "static_j_per_decision": _number_or_none,
    }
    layer = {
        "name": _text,
        "neurons": _positive,
        **dict.fromkeys((*COUNTED, "spikes_window", "silent_neurons"), _count),
    }
    return {
        "format": _just(FORMAT),
        "version": _just(VERSION),
        **dict.fromkeys(("date", "backend", "task", "network_sha256"), _text),
        "protocol": {"sticky_action_probability": _number},
        "steps_per_decision": _positive,
        "episodes": [{"return": _number, "finished": _yes_or_no}],
        "distinct_episodes": _positive,
        "mean_return": _number,
        "decisions": _positive,
        "input_events": {"total": _count},
        "layers": [layer],
        "energy": [bill],
        "host_time": {"decisions_per_s": _number},
    }


RUN = _shape_of_a_run()
"""What every file of a run holds, of what is read here; it may hold more."""

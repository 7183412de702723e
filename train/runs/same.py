"""Whether a saved run is the one that a configuration describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from mtspark.core.errors import BadRequestError
from mtspark.train.config import AblationSettings, ImageConfig, TrainConfig

FREE = (
    *("total_steps", "threads", "checkpoint_every_steps", "device", "compiled"),
    "offline.data",
)
"""Fields that may change between two starts of a run: they set where it ends, how fast it is and
how often it is saved; what is learned differs at most by rounding. Recorded data may have moved;
that they are the same is seen when they are read."""
DIFFERENCES, VALUE_LENGTH = 4, 60
"""What a refusal shows: differences at most, and characters of a value."""


def check_same_run(
    saved: Any, config: TrainConfig | ImageConfig | AblationSettings, folder: Path
) -> None:
    """Check that a saved run has this configuration.

    A field that the saved configuration lacks is younger than the run and has its default.

    Args:
        saved: its configuration, as plain values.
        config: this run's.
        folder: of the saved run.

    Raises:
        BadRequestError: they differ in what is learned; the fields are named.
    """
    stored = saved if isinstance(saved, dict) else {}
    before = dict(_leaves(_completed(stored, config, type(config)()), ""))
    now = dict(_leaves(_plain(config), ""))
    different = [
        name
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and name not in FREE
    ]
    if different:
        raise BadRequestError(
            f"{folder}: holds a run with another configuration; choose another folder"
            f"{_way_on(config, different, folder)} "
            f"({_listed(different, before, now)})"
        )


def _listed(names: list[str], before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first differences, and how many more there are."""
    shown = [
        f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in names[:DIFFERENCES]
    ]
    more = len(names) - len(shown)
    return "; ".join([*shown, f"{more} more"] if more else shown)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= VALUE_LENGTH else f"{text[:VALUE_LENGTH]}..."


def _way_on(config: Any, different: list[str], folder: Path) -> str:
    """How to go on from the run's weights, where another run can."""
    fits = not any(name == "games" or name.startswith("network.") for name in different)
    agent = folder / "agent.pt"
    if not isinstance(config, TrainConfig) or not fits or not agent.exists():
        return ""
    return f", or go on from its weights there with --set start_from={agent}"


def _completed(saved: Any, value: Any, standard: Any) -> Any:
    """Fill in the fields that a saved value lacks.

    Args:
        saved: plain values.
        value: what it is compared with; its classes say which fields there are.
        standard: an instance with the defaults, or `MISSING`.
    """
    if is_dataclass(value) and isinstance(saved, dict):
        completed = dict(saved)
        for entry in fields(value):
            default = _default(entry) if standard is MISSING else getattr(standard, entry.name)
            if entry.name in saved:
                inner = saved[entry.name], getattr(value, entry.name), default
                completed[entry.name] = _completed(*inner)
            elif default is not MISSING:
                completed[entry.name] = _plain(default)
        return completed
    if isinstance(value, tuple) and isinstance(saved, (list, tuple)) and len(saved) == len(value):
        return [_completed(*pair, MISSING) for pair in zip(saved, value, strict=True)]
    return saved


def _default(entry: Any) -> Any:
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def _plain(value: Any) -> Any:
    """A configuration, or a value in one, as JSON holds it."""
    return json.loads(json.dumps(value, default=asdict))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Values by their path: ``table.field``."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}".lstrip("."))

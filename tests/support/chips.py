"""Small chips for tests of mapping and latency."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mtspark.deploy.chips.model import ChipModel, Figure, TimeSet, load_chip


def chip(base: str = "loihi1", **limits: Any) -> ChipModel:
    """A chip that ships with mtspark, with other limits; None takes a limit away."""
    model = load_chip(base)
    changed = dict(model.limits)
    for name, value in limits.items():
        changed.pop(name, None)
        if value is not None:
            changed[name] = Figure(value, "units", "a test", "made up")
    return replace(model, limits=changed)


def timed(model: ChipModel, **times: Any) -> ChipModel:
    """A chip with one set of times of our own, in nanoseconds."""
    figures = {name: Figure(value, "ns", "a test", "made up") for name, value in times.items()}
    return replace(model, times=(TimeSet("ours", "made up", figures),))

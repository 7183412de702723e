"""The two sentences with which a command begins: does it work, what does it cost."""

from __future__ import annotations

from collections.abc import Iterable

from mtspark.cli._console import console

MORE = "(--details: counts, bill, what an estimate is)"


def print_verdict(sentences: Iterable[str], *, more: bool | str = True) -> None:
    """Print sentences, each on lines of its own.

    Args:
        sentences: empty ones are left out.
        more: name the option that shows the rest; or the line that does so.
    """
    for sentence in sentences:
        if sentence:
            console.print(sentence)
    if more:
        console.print(MORE if more is True else more, style="dim")


def print_estimate() -> None:
    """Say once what an estimate is."""
    console.print(
        "Estimate: events counted in an exact simulation, times published prices and times of "
        "single events; no neuromorphic hardware was measured."
    )

"""Options that every command which plays games has."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from mtspark.cli._console import MOST

if TYPE_CHECKING:
    from mtspark.core.environments import Task

Seed = Annotated[int, typer.Option(help="Of the first game; the next has seed + 1.")]
MaxDecisions = Annotated[
    int | None,
    typer.Option(min=1, max=MOST, help="Cut every game off after this many decisions."),
]
Sticky = Annotated[
    float | None, typer.Option(help="Sticky action probability (default: the agent's own).")
]
Sample = Annotated[
    int | None,
    typer.Option(
        min=0, max=2**63 - 1, help="Draw actions with this seed instead of taking the best."
    ),
]
Temperature = Annotated[
    float, typer.Option(help="With --sample: values are divided by it before the softmax.")
]


def print_seed_notes(tasks: Iterable[Task], executor: str | None) -> None:
    """Say on stderr which environments that were played do not follow from their seed.

    With an executor they are where its workers are, and nothing is said.
    """
    if executor is not None:
        return
    from mtspark.core.environments import seed_note

    for note in filter(None, map(seed_note, tasks)):
        print(f"note: {note}", file=sys.stderr)

"""Options that every command which plays games has."""

from __future__ import annotations

from typing import Annotated

import typer

from mtspark.cli._console import MOST

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

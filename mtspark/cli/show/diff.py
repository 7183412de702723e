"""Whether two sides of a comparison are equal, and where they first differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from mtspark.cli._console import console
from mtspark.core.digits import percent

if TYPE_CHECKING:
    from mtspark.workflows.diff import DiffResult


def print_diff(result: DiffResult) -> None:
    """Print how much was compared, the share that differs by layer, and the first difference."""
    agreement = result.agreement
    names = escape(f"{result.expected} against {result.against}")
    what = f"{names}, {agreement.decisions} decisions"
    actions = agreement.action_agreement
    if actions is not None:
        console.print(
            f"{what}: [bold]{percent(actions)}[/bold] of the actions agree; spike "
            f"counts of {agreement.different:,} of {agreement.compared:,} neurons differ",
            markup=True,
        )
    elif result.equal:
        console.print(
            f"{what}: all [bold]{agreement.compared:,}[/bold] spikes and membranes are equal",
            markup=True,
        )
    else:
        console.print(
            f"{what}: [bold red]{agreement.different:,}[/bold red] of {agreement.compared:,} "
            "spikes and membranes differ",
            markup=True,
        )
    _print_layers(result)
    if not result.equal:
        for name, choices in (result.read_as or {}).items():
            console.print(f"{name}: {choices}", soft_wrap=True)
    first = agreement.first
    if first is not None:
        step = "" if first.step is None else f", step {first.step}"
        console.print(
            f"first: decision {first.decision}{step}, layer {first.layer}, neuron "
            f"{first.neuron}, {first.quantity}: {first.expected} and {first.got}"
        )


def _print_layers(result: DiffResult) -> None:
    for name, layer in result.agreement.layers.items():
        if result.agreement.action_agreement is not None:
            console.print(
                f"  {name}: {percent(layer.share, 2)} of the neurons' spike counts differ"
            )
        elif result.read_as is not None:
            console.print(
                f"  {name}: {layer.different:,} of {layer.compared:,} ({percent(layer.share, 2)})"
            )

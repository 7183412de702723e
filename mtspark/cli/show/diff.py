"""Whether two sides of a comparison are equal, and where they first differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from mtspark.cli._console import console
from mtspark.cli.show.verdict import print_estimate, print_verdict
from mtspark.core.digits import percent

if TYPE_CHECKING:
    from mtspark.workflows.diff import DiffResult


MORE = "(--details: every layer, and the first difference in full)"


def print_diff_verdict(result: DiffResult, *, details: bool) -> None:
    """Print in two sentences whether two sides agree, and what a decision costs.

    Args:
        result: of the comparison.
        details: everything follows.
    """
    print_verdict(result.sentences, more=False if details else MORE)
    if details:
        print_estimate()
    else:
        _print_read_as(result)


def print_diff(result: DiffResult) -> None:
    """Print how much was compared, the share that differs by layer, and the first difference."""
    agreement = result.agreement
    names = escape(f"{result.expected} against {result.against}")
    what = f"{names}, {agreement.decisions} decisions"
    actions = agreement.action_agreement
    if actions is not None:
        console.print(
            f"{what}: [bold]{percent(actions)}[/bold] of the {result.compared_as} "
            "agree; spike "
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
    _print_read_as(result)
    if result.removed:
        console.print(
            f"not compared: {sum(result.removed.values()):,} neurons that --prune removed from one "
            "side; neurons have their numbers of before",
            soft_wrap=True,
        )
    first = agreement.first
    if first is not None:
        step = "" if first.step is None else f", step {first.step}"
        console.print(
            f"first: decision {first.decision}{step}, layer {first.layer}, neuron "
            f"{first.neuron}, {first.quantity}: {first.expected} and {first.got}"
        )


def _print_read_as(result: DiffResult) -> None:
    """Print how files that say too little were read, where that may be why the sides differ."""
    if not result.equal:
        for name, choices in (result.read_as or {}).items():
            console.print(f"{name}: {choices}", soft_wrap=True)


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

"""Whether two sides of a comparison are equal, and where they first differ."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from mtspark.cli._console import console


def print_diff(result: dict[str, Any]) -> None:
    """Say how much was compared and where the first difference is."""
    names = escape(f"{result['expected']} against {result['against']}")
    what = f"{names}, {result['decisions']} decisions"
    if "action_agreement" in result:
        console.print(
            f"{what}: [bold]{result['action_agreement']:.1%}[/bold] of the actions agree; spike "
            f"counts of {result['different']:,} of {result['compared']:,} neurons differ",
            markup=True,
        )
        for name, layer in result["layers"].items():
            share = layer["different"] / layer["compared"]
            console.print(f"  {name}: {share:.2%} of the neurons' spike counts differ")
    elif result["equal"]:
        console.print(
            f"{what}: all [bold]{result['compared']:,}[/bold] spikes and membranes are equal",
            markup=True,
        )
    else:
        console.print(
            f"{what}: [bold red]{result['different']:,}[/bold red] of {result['compared']:,} "
            "spikes and membranes differ",
            markup=True,
        )
    for name, layer in result.get("by_layer", {}).items():
        share = layer["different"] / max(1, layer["compared"])
        console.print(f"  {name}: {layer['different']:,} of {layer['compared']:,} ({share:.2%})")
    first = result["first_divergence"]
    if not result["equal"]:
        for name, choices in result.get("read_as", {}).items():
            console.print(f"{name}: {choices}", soft_wrap=True)
    if first is not None:
        step = "" if first["step"] is None else f", step {first['step']}"
        console.print(
            f"first: decision {first['decision']}{step}, layer {first['layer']}, neuron "
            f"{tuple(first['neuron'])}, {first['quantity']}: {first['expected']} and {first['got']}"
        )

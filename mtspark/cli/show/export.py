"""What an export wrote, assumed and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from mtspark.cli._console import GONE, console, folder_is_gone
from mtspark.core.digits import percent
from mtspark.core.environments import compared_as

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle
    from mtspark.workflows.export import ExportResult, Fidelity


def print_export(result: ExportResult) -> None:
    """Show what was written."""
    from mtspark.workflows.export import Source

    show = _print_agent if result.export.kind is Source.AGENT else _print_network
    show(result.bundle, result.export.fidelity())
    for name in result.bundle.set_aside:
        console.print(
            f"kept {name}: the new bundle needed the name that this file of yours had",
            soft_wrap=True,
        )
    console.print(f"wrote {result.bundle.folder}", soft_wrap=True)
    if folder_is_gone():
        console.print(GONE, soft_wrap=True)


def _print_agent(bundle: Bundle, fidelity: Fidelity) -> None:
    """Show what was made."""
    network = bundle.network
    table = Table(title=f"{bundle.folder.name}: {len(network.populations)} layers on the chip")
    for column in ("layer", "neurons", "weights", "exponent", "worst current", "worst membrane"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    rooms = {room.population: room for room in fidelity.headroom}
    for population in network.populations:
        room = rooms[population.name]
        links = [link for link in network.connections if link.target == population.name]
        table.add_row(
            population.name,
            str(population.size),
            str(sum(link.stored_weights for link in links)),
            ", ".join(str(link.exponent) for link in links),
            percent(room.current, 0),
            percent(room.membrane, 0),
        )
    console.print(table)
    console.print(
        "worst cases are over all inputs, of what the chip can hold: below 100 % no sum overflows"
    )
    _print_exact(fidelity)
    way = {"held": "once a decision", "changes": "as changes"}.get(network.input.encoder.value)
    if way is not None:
        console.print(
            f"frames are sent {way}: every sum of a frame is proven to fit the chip's 24 bits "
            "(stock Lava needs --encoder every-step)",
            soft_wrap=True,
        )
    _print_pruned(fidelity)
    for warning in fidelity.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    for task, layers in fidelity.graph_against_torch.items():
        compared = sum(layer.compared for layer in layers)
        different = sum(layer.different for layer in layers)
        ties = sum(layer.different_ties for layer in layers)
        console.print(
            f"NIR graph of {task} against torch: {different} of {compared} spikes differ "
            f"(and {ties} at ties with the threshold)"
        )
    for cost in fidelity.palette:
        if cost.after < cost.before:
            console.print(
                f"{cost.population}: {cost.before} distinct thresholds became "
                f"{cost.after}, {percent(cost.mean_error, 2)} off on average"
            )
    for task, answers in fidelity.palette_tasks.items():
        changed = ", ".join(f"{name} {percent(share, 2)}" for name, share in answers.layers.items())
        console.print(
            f"what that costs in {task}: {percent(answers.same_action)} of the "
            f"{compared_as(network.tasks[network.task_index(task)])} stay; "
            f"neurons whose number of spikes changes: {changed}"
        )


def _print_network(bundle: Bundle, fidelity: Fidelity) -> None:
    """Show what was made, what was assumed and what it cost."""
    chip = bundle.network
    table = Table(title=f"{bundle.folder.name}: {len(chip.populations)} populations on the chip")
    for column in ("layer", "neurons", "weights", "exponents", "worst current", "worst membrane"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for population, room in zip(chip.populations, fidelity.headroom, strict=True):
        links = [link for link in chip.connections if link.target == population.name]
        table.add_row(
            population.name,
            str(population.size),
            str(sum(link.stored_weights for link in links)),
            ", ".join(str(link.exponent) for link in links),
            percent(room.current, 0),
            percent(room.membrane, 0),
        )
    console.print(table)
    console.print(
        "worst cases are over all inputs, of what the chip can hold: below 100 % no current wraps "
        "and no membrane saturates"
    )
    _print_exact(fidelity)
    for note in fidelity.import_notes:
        console.print(f"assumed: {note}", markup=False)
    for note in chip.provenance.get("notes", "").split("; "):
        if note and "can reach" in note:
            console.print(f"note: {note}", markup=False)
    for layer in fidelity.module_against_network:
        console.print(
            f"{layer.name}: {layer.different} of {layer.compared} spikes of the float "
            f"network differ from the module's own run (and {layer.different_ties} at ties "
            f"with the threshold); it fired {layer.fired} times",
            markup=False,
        )
    for cost in fidelity.palette:
        if cost.after < cost.before:
            console.print(
                f"{cost.population}: {cost.before} distinct thresholds became "
                f"{cost.after}, {percent(cost.mean_error, 2)} off on average",
                markup=False,
            )
    for beside in fidelity.layers:
        console.print(
            f"{beside.layer}: {percent(beside.spike_distance, 2)} of its spikes and silences "
            f"differ from the float network ({percent(beside.float_rate, 2)} fire in a step, "
            f"{percent(beside.chip_rate, 2)} on the chip)",
            markup=False,
        )
    if fidelity.compared_on:
        console.print(f"compared on: {fidelity.compared_on}", markup=False)
    for warning in fidelity.warnings:
        console.print(f"warning: {warning}", markup=False)


def _print_exact(fidelity: Fidelity) -> None:
    """Say how many neurons lost nothing on the way to integers."""
    if fidelity.exact:
        exact = sum(layer.exact for layer in fidelity.exact)
        neurons = sum(layer.neurons for layer in fidelity.exact)
        console.print(
            f"exact in integers: {exact} of {neurons} neurons (weights, biases, thresholds and "
            "decays)"
        )


def _print_pruned(fidelity: Fidelity) -> None:
    """Say what was removed, and what a change to this task's pathway writes."""
    pruned, pathway = fidelity.pruned, fidelity.pathway
    if pruned is not None:
        for part in pruned.populations:
            if part.kept < part.neurons:
                console.print(
                    f"pruned {part.population}: {part.kept} of {part.neurons} neurons stay; no "
                    f"input makes {part.never_fire} fire, nobody hears {part.unheard} others",
                    markup=False,
                    soft_wrap=True,
                )
        before = sum(link.synapses for link in pruned.connections)
        after = sum(link.kept for link in pruned.connections)
        console.print(
            f"pruned synapses: {after:,} of {before:,} stay; {pruned.inputs_unused:,} of "
            f"{pruned.inputs:,} inputs meet none; no spike of {pruned.spikes_compared:,} compared "
            "changed",
            soft_wrap=True,
        )
    if pathway is not None:
        console.print(
            f"pathway: {pathway['own']:,} of {pathway['synapses']:,} synapses; all tasks together "
            f"use {pathway['union']:,}",
            soft_wrap=True,
        )
        for task, switch in pathway["switches"].items():
            console.print(f"a change from {task} " + _switch(switch), markup=False, soft_wrap=True)


def _switch(switch: Mapping[str, int] | str) -> str:
    """Say what a change from another task writes."""
    if isinstance(switch, str):
        return f"is not counted: {switch}"
    return (
        f"writes {switch['written']:,} synapses ({switch['rescaled']:,} of them in both paths, as "
        f"other integers), clears {switch['removed']:,}, and writes {switch['thresholds']:,} "
        f"thresholds, {switch['biases']:,} biases and {switch['exponents']:,} exponents"
    )

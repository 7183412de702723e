"""The command ``mtspark export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli.common import check_json_target, console, one_thread_each, write_json

if TYPE_CHECKING:
    from mtspark.deploy.bundle import Bundle

GAMES, RANDOM_STEPS, MOMENTS = 4, 60, 4
"""The graph is compared on the frames of 4 games at 4 moments of 60 random steps."""


def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="A trained agent (.pt).")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to make (default: NAME.deploy)."),
    ] = None,
    weight_bits: Annotated[int, typer.Option(help="Bits of a weight, 2 to 8.")] = 8,
    scale_per_layer: Annotated[
        bool, typer.Option(help="One weight scale a layer instead of one a channel.")
    ] = False,
    round_nearest: Annotated[
        bool, typer.Option(help="Round each weight alone instead of keeping each kernel's sum.")
    ] = False,
    advantage_only: Annotated[
        bool, typer.Option(help="Leave out the value stream: same greedy actions.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Replace an existing bundle.")] = False,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the summary to this file.")
    ] = None,
) -> None:
    """Turn a trained agent into a folder: NIR graphs and an integer chip network."""
    one_thread_each()
    check_json_target(json_out)
    folder = output or Path.cwd() / f"{checkpoint.stem}.deploy"
    bundle, fidelity = export_agent(
        checkpoint,
        folder,
        weight_bits=weight_bits,
        per_channel=not scale_per_layer,
        keep_sums=not round_nearest,
        advantage_only=advantage_only,
        replace=force,
    )
    print_export(bundle, fidelity)
    if json_out is not None:
        write_json(json_out, {"folder": str(folder), "files": bundle.files, **fidelity})


def export_agent(
    checkpoint: Path,
    folder: Path,
    *,
    weight_bits: int = 8,
    per_channel: bool = True,
    keep_sums: bool = True,
    advantage_only: bool = False,
    replace: bool = False,
) -> tuple[Bundle, dict[str, Any]]:
    """Convert, quantise and write a bundle; returns it with its fidelity figures."""
    import json
    import shutil
    import tempfile
    from dataclasses import asdict

    import mtspark
    from mtspark.convert.nir_export import Head, agent_to_nir, load_graph, save_graph
    from mtspark.convert.nir_import import import_tasks
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bounds import headroom
    from mtspark.deploy.bundle import AGENT, FIDELITY, sha256, write_bundle
    from mtspark.deploy.quantise import QuantiseOptions, quantise
    from mtspark.train.checkpoint import load_agent

    if not 2 <= weight_bits <= 8:
        raise BadRequestError(f"--weight-bits {weight_bits}: 2 to 8 exist on the chip")
    agent = load_agent(checkpoint)
    head = Head.ADVANTAGE if advantage_only else Head.DUELING
    graphs = agent_to_nir(agent, head)
    network = quantise(
        import_tasks(graphs, name=checkpoint.stem),
        agent.tasks,
        agent.protocol,
        name=checkpoint.stem,
        options=QuantiseOptions(weight_bits, per_channel, keep_sums),
        provenance={
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": sha256(checkpoint),
            "mtspark": mtspark.__version__,
            "head": head.value,
        },
    )
    with tempfile.TemporaryDirectory() as scratch:
        # What is compared is what was written: a graph that NIR does not carry whole is found.
        written = {name: Path(scratch, f"graph.{name}.nir") for name in graphs}
        for name, graph in graphs.items():
            save_graph(graph, written[name])
        read_back = {name: load_graph(path) for name, path in written.items()}
        fidelity: dict[str, Any] = {
            "headroom": [asdict(room) for room in headroom(network)],
            "graph_against_torch": _graph_against_torch(agent, read_back),
        }

        def write_more(target: Path) -> None:
            shutil.copyfile(checkpoint, target / AGENT)
            for path in written.values():
                shutil.copyfile(path, target / path.name)
            (target / FIDELITY).write_text(json.dumps(fidelity, indent=2) + "\n")

        return write_bundle(folder, network, write_more, replace=replace), fidelity


def _graph_against_torch(agent: Any, graphs: Any) -> dict[str, list[dict[str, Any]]]:
    """Compare each task's graph with torch on frames of its game, played at random.

    Raises:
        BadNetworkError: a spike differs that is no tie with the threshold.
    """
    from dataclasses import asdict

    from mtspark.convert.compare import compare_with_torch
    from mtspark.core.errors import BadNetworkError

    results = {}
    for index, task in enumerate(agent.tasks):
        frames = _frames_of(agent, task)
        agreement = compare_with_torch(agent, graphs[task.name], frames, index)
        for layer in agreement:
            if layer.different:
                raise BadNetworkError(
                    f"task {task.name!r}, layer {layer.name!r}: {layer.different} of "
                    f"{layer.compared} spikes of the NIR graph differ from torch, none may; "
                    "nothing was written; please report this checkpoint"
                )
        results[task.name] = [asdict(layer) for layer in agreement]
    return results


def _frames_of(agent: Any, task: Any) -> Any:
    """Frames of a game that is played at random; noise, dark to bright, where there is none."""
    import numpy as np

    from mtspark.core.games import make_games

    generator = np.random.default_rng(0)
    if not task.game:
        shape = (GAMES * MOMENTS, *agent.network.config.observation_shape)
        brightest = np.linspace(40, 256, shape[0])[:, None, None, None]
        return (generator.random(shape) * brightest).astype(np.uint8)
    games = make_games(task, agent.protocol, GAMES)
    try:
        games.reset(seed=0)
        kept = []
        for step in range(1, RANDOM_STEPS + 1):
            frames = games.step(generator.choice(task.legal_actions, size=GAMES))[0]
            if step % (RANDOM_STEPS // MOMENTS) == 0:
                kept.append(frames.copy())
    finally:
        games.close()
    return np.concatenate(kept)


def print_export(bundle: Bundle, fidelity: dict[str, Any]) -> None:
    """Show what was made."""
    from rich.table import Table

    network = bundle.network
    table = Table(title=f"{bundle.folder.name}: {len(network.populations)} layers on the chip")
    for column in ("layer", "neurons", "weights", "exponent", "worst current", "worst membrane"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    rooms = {room["population"]: room for room in fidelity["headroom"]}
    for population, link in zip(network.populations, network.connections, strict=True):
        room = rooms[population.name]
        table.add_row(
            population.name,
            str(population.size),
            str(link.weights.size),
            str(link.exponent),
            f"{room['current']:.0%}",
            f"{room['membrane']:.0%}",
        )
    console.print(table)
    console.print(
        "worst cases are over all inputs, of what the chip can hold: below 100 % no sum overflows"
    )
    for task, layers in fidelity["graph_against_torch"].items():
        compared = sum(layer["compared"] for layer in layers)
        different = sum(layer["different"] for layer in layers)
        ties = sum(layer["different_ties"] for layer in layers)
        console.print(
            f"NIR graph of {task} against torch: {different} of {compared} spikes differ "
            f"(and {ties} at ties with the threshold)"
        )
    console.print(f"wrote {bundle.folder}", soft_wrap=True)

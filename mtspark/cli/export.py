"""The command ``mtspark export``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli.common import check_json_target, console, one_thread_each, write_json
from mtspark.core.errors import BadRequestError

if TYPE_CHECKING:
    from mtspark.core.chip_network import ChipNetwork
    from mtspark.core.float_network import FloatNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.deploy.quantise import QuantiseOptions

GAMES, RANDOM_STEPS, MOMENTS = 4, 60, 4
"""The graph is compared on the frames of 4 games at 4 moments of 60 random steps."""

CALIBRATION_MOMENTS = 20
"""Weight limits are chosen on as many moments of the same games."""


NETWORK = "Networks that are no mtspark agents"
"""Heading of the options that checkpoints do not have."""


class IntegratorName(str, Enum):
    """See :class:`mtspark.convert.nir_import_neurons.Integrator`."""

    EULER = "euler"
    EXPONENTIAL = "exponential"
    EXPONENTIAL_DECAY = "exponential-decay"
    ROCKPOOL = "rockpool"


class ResetName(str, Enum):
    """See :class:`mtspark.core.float_network.FloatReset`."""

    ZERO = "zero"
    ZERO_LATE = "zero-late"
    SUBTRACT = "subtract"
    SUBTRACT_LATE = "subtract-late"
    SUBTRACT_GUARDED = "subtract-guarded"


class OrderName(str, Enum):
    """See :class:`mtspark.convert.nir_import_neurons.Order`."""

    CURRENT_FIRST = "current-first"
    MEMBRANE_FIRST = "membrane-first"


class StartName(str, Enum):
    """See :class:`mtspark.convert.nir_import_neurons.Start`."""

    ZERO = "zero"
    REST = "rest"


class CalibrationName(str, Enum):
    """See :class:`mtspark.deploy.calibrate.Calibration`."""

    LARGEST = "largest"
    PERCENTILE = "percentile"
    MSE = "mse"


def _option(help_text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=NETWORK, **settings)


def export_command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A trained agent (.pt), a NIR graph by any tool (.nir), a netx network of lava-dl "
            "(.net), or any snntorch module (file.py:factory).",
        ),
    ],
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
    palette: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many distinct thresholds (one for each task) in a layer; 8 are what a "
            "core of Loihi 1 holds.",
        ),
    ] = None,
    palette_chip: Annotated[
        str | None,
        typer.Option(
            help="With --palette: so many on each core of this chip (loihi1, loihi2, or a "
            "description) instead of in a layer, which changes them less.",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Further files in the folder, for example onnx,netx: nir (always there), onnx, "
            "netx (.net of lava-dl), lava (a check: its processes are made from the bundle)."
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing bundle.")] = False,
    dt: Annotated[
        float | None,
        _option("Time step in the unit of the graph's time constants (default: 1e-4)."),
    ] = None,
    integrator: Annotated[
        IntegratorName | None,
        _option(
            "How neurons step (default: euler). exponential is exact (nengo); exponential-decay "
            "keeps e^(-dt/tau) and counts dt/tau (sinabs); rockpool also corrects what Rockpool's "
            "exporter leaves out."
        ),
    ] = None,
    reset: Annotated[
        ResetName | None,
        _option(
            "What a spike does to the membrane (default: zero, to v_reset). subtract-late is "
            "snntorch's default, subtract-guarded its reset_delay=False."
        ),
    ] = None,
    order: Annotated[
        OrderName | None,
        _option(
            "Whether a current-based membrane sees the input of its own step (default: "
            "current-first, as all known tools)."
        ),
    ] = None,
    start: Annotated[
        StartName | None, _option("Where membranes start (default: zero; rest: at v_leak).")
    ] = None,
    if_gain_dt: Annotated[
        bool | None,
        _option(
            "IF and I nodes count dt * r of their input a step, or r (default: what is nearer to "
            "1).",
            "--if-gain-dt/--if-gain-r",
        ),
    ] = None,
    at_threshold: Annotated[
        bool, _option("A membrane that equals its threshold fires, too.", "--fires-at-threshold")
    ] = False,
    time_steps: Annotated[
        int | None,
        _option("Steps of one run (default: the file's own, the recording's, or 100).", min=1),
    ] = None,
    input_bits: Annotated[
        int, _option("Input messages: 0 (spikes) or 8 (values 0 to 255).", min=0, max=8)
    ] = 0,
    input_scale: Annotated[
        float | None, _option("What an input message of 1 stands for (default: 1).")
    ] = None,
    held: Annotated[
        bool, _option("One frame is held for all steps, rather than a series given.", "--held")
    ] = False,
    output_node: Annotated[
        str | None, _option("Name of the output to read, where a graph has several.")
    ] = None,
    recording: Annotated[
        Path | None,
        _option("Recorded inputs, .npy of (T, ...) or (batch, T, ...).", "--input"),
    ] = None,
    calibrate: Annotated[
        CalibrationName | None,
        _option(
            "Choose weight limits on the recorded inputs (of an agent: on frames of its games)."
        ),
    ] = None,
    bound_currents: Annotated[
        bool,
        _option("Bound currents by the recorded inputs, not by proof.", "--bound-currents"),
    ] = False,
    input_shape: Annotated[
        str | None, _option("snntorch modules: shape of one step's input, as 2,34,34.")
    ] = None,
    weights: Annotated[Path | None, _option("snntorch modules: a saved state_dict.")] = None,
    readout: Annotated[
        str | None, _option("snntorch modules: the layer to read, where several are returned.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the summary to this file.")
    ] = None,
) -> None:
    """Turn a spiking network into a folder: float graphs and an integer chip network."""
    from mtspark.cli.export_formats import chosen_formats
    from mtspark.cli.export_network import ExportRequest, export_network, is_network, print_network

    one_thread_each()
    check_json_target(json_out)
    if palette_chip is not None and palette is None:
        raise BadRequestError("--palette-chip says whose cores get a palette; add --palette N")
    wanted = chosen_formats(formats)
    folder = output or Path.cwd() / f"{checkpoint.name.split(':')[0].rsplit('.', 1)[0]}.deploy"
    if is_network(checkpoint):
        bundle, fidelity = export_network(
            ExportRequest(
                source=checkpoint,
                folder=folder,
                replace=force,
                formats=wanted,
                weight_bits=weight_bits,
                per_channel=not scale_per_layer,
                keep_sums=not round_nearest,
                palette=palette,
                palette_chip=palette_chip,
                dt=dt,
                integrator=integrator and integrator.value,
                reset=reset and reset.value,
                order=order and order.value,
                start=start and start.value,
                if_gain_dt=if_gain_dt,
                fires_at_threshold=at_threshold,
                time_steps=time_steps,
                input_scale=input_scale,
                input_bits=input_bits,
                held=held,
                output_node=output_node,
                recording=recording,
                calibrate=calibrate and calibrate.value,
                bound_currents=bound_currents,
                input_shape=input_shape,
                weights=weights,
                readout=readout,
            )
        )
        print_network(bundle, fidelity)
        if json_out is not None:
            write_json(json_out, {"folder": str(folder), "files": bundle.files, **fidelity})
        return
    given = {
        "--dt": dt,
        "--integrator": integrator,
        "--reset": reset,
        "--order": order,
        "--start": start,
        "--time-steps": time_steps,
        "--input": recording,
        "--input-shape": input_shape,
        "--weights": weights,
    }
    for name, value in given.items():
        if value is not None:
            raise BadRequestError(f"{name} is for networks that are no checkpoints of mtspark")
    bundle, fidelity = export_agent(
        checkpoint,
        folder,
        weight_bits=weight_bits,
        per_channel=not scale_per_layer,
        keep_sums=not round_nearest,
        advantage_only=advantage_only,
        palette=palette,
        palette_chip=palette_chip,
        calibrate=calibrate and calibrate.value,
        formats=wanted,
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
    palette: int | None = None,
    palette_chip: str | None = None,
    calibrate: str | None = None,
    formats: tuple[str, ...] = (),
    replace: bool = False,
) -> tuple[Bundle, dict[str, Any]]:
    """Convert, quantise and write a bundle; returns it with its fidelity figures."""
    import json
    import shutil
    import tempfile
    from dataclasses import asdict

    import mtspark
    from mtspark.cli.export_formats import write_formats
    from mtspark.convert.nir_export import Head, agent_to_nir, load_graph, save_graph
    from mtspark.convert.nir_import import import_tasks
    from mtspark.deploy.bounds import headroom
    from mtspark.deploy.bundle import AGENT, FIDELITY, sha256, write_bundle
    from mtspark.deploy.quantise import QuantiseOptions, quantise
    from mtspark.train.checkpoint import load_agent

    if not 2 <= weight_bits <= 8:
        raise BadRequestError(f"--weight-bits {weight_bits}: 2 to 8 exist on the chip")
    agent = load_agent(checkpoint)
    head = Head.ADVANTAGE if advantage_only else Head.DUELING
    graphs = agent_to_nir(agent, head)
    imported = import_tasks(graphs, name=checkpoint.stem)
    options = QuantiseOptions(weight_bits, per_channel, keep_sums)
    calibrated: dict[str, Any] = {}
    if calibrate is not None:
        options, reports = _calibrated(agent, imported, options, calibrate)
        limits = {name: limit.tolist() for name, limit in options.weight_limits.items()}
        calibrated = {"calibration": reports, "quantise_options": {"weight_limits": limits}}
    network = quantise(
        imported,
        agent.tasks,
        agent.protocol,
        name=checkpoint.stem,
        options=options,
        provenance={
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": sha256(checkpoint),
            "mtspark": mtspark.__version__,
            "head": head.value,
        },
    )
    painted: dict[str, Any] = {}
    if palette is not None:
        from mtspark.deploy.mapping_palette import choose_palette

        plain = network
        network, costs = choose_palette(plain, palette, palette_chip)
        painted = {
            "palette": [asdict(cost) for cost in costs],
            "palette_tasks": _palette_cost(plain, network, agent),
        }
    with tempfile.TemporaryDirectory() as scratch:
        # What is compared is what was written: a graph that NIR does not carry whole is found.
        written = {name: Path(scratch, f"graph.{name}.nir") for name in graphs}
        for name, graph in graphs.items():
            save_graph(graph, written[name])
        read_back = {name: load_graph(path) for name, path in written.items()}
        fidelity: dict[str, Any] = {
            "headroom": [asdict(room) for room in headroom(network)],
            "graph_against_torch": _graph_against_torch(agent, read_back),
            **painted,
            **calibrated,
        }

        def write_more(target: Path) -> None:
            shutil.copyfile(checkpoint, target / AGENT)
            for path in written.values():
                shutil.copyfile(path, target / path.name)
            write_formats(target, network, formats, agent)
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


def _palette_cost(plain: ChipNetwork, painted: ChipNetwork, agent: Any) -> dict[str, Any]:
    """What fewer thresholds change in the chip's answers, on the frames that the graph is
    compared on: the share of actions that stay, and of neurons whose spike count changes."""
    from mtspark.core.agent import greedy_actions
    from mtspark.sim.reference import ReferenceChip

    results = {}
    for row, task in enumerate(agent.tasks):
        frames = _frames_of(agent, task)
        before, after = (ReferenceChip(net).decide(frames, row) for net in (plain, painted))
        legal = task.legal_actions or tuple(range(plain.readout.scale.size))
        same = greedy_actions(before.values, legal) == greedy_actions(after.values, legal)
        layers = {
            name: float((counts != after.activity.window[name]).mean())
            for name, counts in before.activity.window.items()
            if name not in ("input", plain.readout.population)
        }
        results[task.name] = {"same_action": float(same.mean()), "layers": layers}
    return results


def _calibrated(
    agent: Any, network: FloatNetwork, options: QuantiseOptions, method: str
) -> tuple[QuantiseOptions, list[dict[str, Any]]]:
    """Weight limits from the frames of all tasks, under the thresholds of the first."""
    from dataclasses import asdict

    import numpy as np

    from mtspark.deploy.calibrate import Calibration, calibrate

    frames = [_frames_of(agent, task, CALIBRATION_MOMENTS) for task in agent.tasks]
    pixels = np.concatenate(frames) / 255.0
    series = np.broadcast_to(pixels, (network.time_steps, *pixels.shape))
    chosen, reports = calibrate(network, series, options, method=Calibration(method))
    return chosen, [asdict(report) for report in reports]


def _frames_of(agent: Any, task: Any, moments: int = MOMENTS) -> Any:
    """Frames of a game that is played at random; noise, dark to bright, where there is none."""
    import numpy as np

    from mtspark.core.games import make_games

    generator = np.random.default_rng(0)
    if not task.game:
        shape = (GAMES * moments, *agent.network.config.observation_shape)
        brightest = np.linspace(40, 256, shape[0])[:, None, None, None]
        return (generator.random(shape) * brightest).astype(np.uint8)
    games = make_games(task, agent.protocol, GAMES)
    try:
        games.reset(seed=0)
        kept = []
        for step in range(1, RANDOM_STEPS + 1):
            frames = games.step(generator.choice(task.legal_actions, size=GAMES))[0]
            if step % (RANDOM_STEPS // moments) == 0:
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
    for cost in fidelity.get("palette", []):
        if cost["after"] < cost["before"]:
            console.print(
                f"{cost['population']}: {cost['before']} distinct thresholds became "
                f"{cost['after']}, {cost['mean_error']:.2%} off on average"
            )
    for task, cost in fidelity.get("palette_tasks", {}).items():
        changed = ", ".join(f"{name} {share:.2%}" for name, share in cost["layers"].items())
        console.print(
            f"what that costs in {task}: {cost['same_action']:.1%} of the actions stay; neurons "
            f"whose number of spikes changes: {changed}"
        )
    console.print(f"wrote {bundle.folder}", soft_wrap=True)

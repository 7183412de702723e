"""The command ``mtspark explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli.common import check_json_target, console, one_thread_each, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.core.agent import AgentBackend
    from mtspark.core.chip_network import ChipNetwork
    from mtspark.core.float_network import FloatNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.deploy.quantise_layer import QuantiseOptions

BATCH = 25


def explain_command(
    folder: Annotated[Path, typer.Argument(help="A bundle made by mtspark export.")],
    task: Annotated[str | None, typer.Option(help="Which task (default: the first).")] = None,
    decisions: Annotated[int, typer.Option(min=1, help="Recorded decisions to compare.")] = 500,
    episodes: Annotated[
        int, typer.Option(min=0, help="Also play so many episodes with every effect (slow).")
    ] = 0,
    weight_bits: Annotated[
        str | None,
        typer.Option(help="Explain these instead of the bundle's, for example 8,6,4."),
    ] = None,
    by_layer: Annotated[
        bool, typer.Option(help="Weight rounding in each layer alone, too.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Recorded inputs (.npy, uint8), where the task is no game."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the game whose frames are used.")] = 0,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.")
    ] = None,
) -> None:
    """Say what the lost agreement (and score) of a chip network is due to.

    The float network answers recorded decisions of the task; then each integer effect is
    switched on alone: weight rounding, threshold rounding, palette, biases, decays, sums that
    lose bits, saturation, the value stream, the input's encoder. Effects do not add up: some
    hide others.
    """
    one_thread_each()
    from mtspark.deploy.bundle import load_bundle

    check_json_target(json_out)
    bundle = load_bundle(folder)
    chosen = task or bundle.network.tasks[0].name
    bundle.network.task_index(chosen)
    result = explain_bundle(
        bundle,
        chosen,
        decisions=decisions,
        episodes=episodes,
        weight_bits=parse_bits(weight_bits),
        by_layer=by_layer,
        inputs=inputs,
        seed=seed,
    )
    print_explain(result)
    if json_out is not None:
        write_json(json_out, result)


def parse_bits(text: str | None) -> list[int] | None:
    """Weight bits from a list like 8,6,4.

    Raises:
        BadRequestError: anything but numbers from 2 to 8.
    """
    from mtspark.core.errors import BadRequestError

    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() and 2 <= int(part) <= 8 for part in parts):
        raise BadRequestError(f"--weight-bits {text!r}: give numbers from 2 to 8, such as 8,6,4")
    return [int(part) for part in parts]


def explain_bundle(
    bundle: Bundle,
    task: str,
    *,
    decisions: int = 500,
    episodes: int = 0,
    weight_bits: list[int] | None = None,
    by_layer: bool = False,
    inputs: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Switch each effect on alone; returns the result as JSON values.

    Raises:
        BadFileError: the bundle has no float graph, or the inputs cannot be read.
        BadRequestError: no game and no inputs, or a bundle that quantises to something else.
    """
    from dataclasses import replace

    from mtspark.deploy.quantise import quantise

    network, options = float_side(bundle)
    chip = bundle.network
    frames = recorded_frames(bundle, task, decisions, inputs, seed)
    tables = []
    for bits in weight_bits or [options.weight_bits]:
        own = bits == options.weight_bits
        chosen = replace(options, weight_bits=bits)
        made = chip
        if not own:
            made = quantise(
                network,
                chip.tasks,
                chip.protocol,
                name=chip.name,
                payload_bits=chip.input.payload_bits,
                held=chip.input.held,
                options=chosen,
            )
        table = _explain(network, made, chosen, frames, task, episodes, by_layer, seed)
        tables.append({"weight_bits": bits, **table})
    return {
        "folder": str(bundle.folder),
        "task": task,
        "decisions": len(frames),
        "episodes": episodes,
        "seed": seed,
        "tables": tables,
    }


def float_side(bundle: Bundle) -> tuple[FloatNetwork, QuantiseOptions]:
    """The float network of a bundle, all tasks in one, and how it was quantised.

    Raises:
        BadFileError: the bundle has no graph of one of its tasks.
    """
    from mtspark.convert.nir_file import read_nir
    from mtspark.convert.nir_import import import_tasks
    from mtspark.core.errors import BadFileError
    from mtspark.deploy.quantise_layer import QuantiseOptions

    names = {task.name: f"graph.{task.name}.nir" for task in bundle.network.tasks}
    missing = [name for name in names.values() if name not in bundle.files]
    if missing:
        raise BadFileError(
            f"{bundle.folder}: has no {missing[0]}, the float network that is compared with"
        )
    graphs = {
        task: read_nir(bundle.folder / name, type_check=False) for task, name in names.items()
    }
    told = bundle.network.provenance
    options = QuantiseOptions(
        weight_bits=int(told.get("weight_bits", "8")),
        per_channel=told.get("weight_scale", "per channel") == "per channel",
        keep_sums=told.get("rounding", "keeps kernel sums") == "keeps kernel sums",
        **_stored_options(bundle),
    )
    return import_tasks(graphs, name=bundle.network.name), options


def _stored_options(bundle: Bundle) -> dict[str, Any]:
    """What calibration chose when the bundle was made.

    Raises:
        BadFileError: what is stored there is something else.
    """
    import json

    import numpy as np

    from mtspark.core.errors import BadFileError
    from mtspark.deploy.bundle import FIDELITY

    if FIDELITY not in bundle.files:
        return {}
    try:
        stored = json.loads((bundle.folder / FIDELITY).read_text()).get("quantise_options", {})
        return {
            "may_saturate": bool(stored.get("may_saturate", False)),
            "weight_limits": {
                str(name): np.asarray(limit, np.float64)
                for name, limit in stored.get("weight_limits", {}).items()
            },
            "largest_currents": {
                str(name): float(value)
                for name, value in stored.get("largest_currents", {}).items()
            },
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise BadFileError(
            f"{bundle.folder / FIDELITY}: quantise_options are damaged; export again"
        ) from error


def recorded_frames(
    bundle: Bundle, task: str, decisions: int, inputs: Path | None, seed: int
) -> NDArray[np.uint8]:
    """Frames of a game that the chip plays, or those of a file.

    Raises:
        BadRequestError: no game and no file.
        BadFileError: the file is no array of the network's inputs.
    """
    import numpy as np

    from mtspark.cli.diff import real_frames
    from mtspark.core.errors import BadFileError, BadRequestError

    network = bundle.network
    if inputs is None:
        if not network.tasks[network.task_index(task)].game:
            raise BadRequestError(f"task {task!r} is no game; give recorded inputs with --inputs")
        return real_frames(bundle, task, decisions, seed)
    try:
        frames = np.load(inputs, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadFileError(f"{inputs}: not readable as a .npy array: {error}") from error
    series = () if network.input.held else (network.time_steps,)
    wanted = (*series, *network.input.shape)
    if frames.dtype != np.uint8 or frames.shape[1:] != wanted or not len(frames):
        raise BadFileError(
            f"{inputs}: {frames.dtype} {frames.shape}, uint8 (decisions, "
            f"{', '.join(map(str, wanted))}) is needed"
        )
    return np.asarray(frames[:decisions])


def _explain(
    network: FloatNetwork,
    chip: ChipNetwork,
    options: QuantiseOptions,
    frames: NDArray[np.uint8],
    task: str,
    episodes: int,
    by_layer: bool,
    seed: int,
) -> dict[str, Any]:
    from rich.progress import track

    from mtspark.sim.explain import CHIP_EFFECTS, Effect, EffectChip, ExplainedNetwork

    explained = ExplainedNetwork(network, chip, options)
    row = chip.task_index(task)
    exact = EffectChip(explained)
    cases: list[tuple[str, AgentBackend]] = [("float network", exact)]
    for effect in CHIP_EFFECTS:
        if effect is Effect.PALETTE and "palette" not in chip.provenance:
            continue
        cases.append((effect.value, EffectChip(explained, {effect})))
    readout = chip.readout.population
    if by_layer:
        for layer in explained.layers:
            name = layer.chip.name
            cases.append((f"weights of {name}", EffectChip(explained, {Effect.WEIGHTS}, {name})))
    plain = without_value_stream(network, readout)
    if plain is not None:
        if not by_layer:
            alone = EffectChip(explained, {Effect.WEIGHTS}, {readout})
            cases.append((f"weights of {readout}", alone))
        cases.append(
            (
                f"weights of {readout}, no value stream",
                _advantage_only(plain, chip, options, readout),
            )
        )
    if chip.input.held and chip.input.payload_bits:
        cases.append((Effect.HELD_INPUT.value, EffectChip(explained, {Effect.HELD_INPUT})))
    cases.append(("all: the chip", EffectChip(explained, CHIP_EFFECTS)))
    wanted = _answers(exact, frames, row)
    rows = []
    for name, case in track(cases, description="effects", console=console, transient=True):
        got = wanted if case is exact else _answers(case, frames, row)
        entry = {"effect": name, **_compared(wanted, got, chip, row)}
        if episodes:
            entry["mean_return"] = _score(case, chip, task, episodes, seed)
        rows.append(entry)
    return {"rows": rows}


def without_value_stream(network: FloatNetwork, readout: str) -> FloatNetwork | None:
    """The network whose readout lacks what all its outputs share; None: they share nothing.

    A value stream adds the same row to the weights of every action, V(s) to every Q. Taking
    the mean of the rows away changes no greedy action. None too where the readout has neurons
    that fire, or other connections than dense ones.
    """
    from dataclasses import replace

    import numpy as np

    from mtspark.core.float_network import FloatKind

    links = network.incoming(readout)
    if network.population(readout).spiking or any(
        link.kind is not FloatKind.DENSE for link in links
    ):
        return None
    shared = [link.weights.mean(0) for link in links]
    if all(
        np.abs(mean).max() <= 1e-6 * np.abs(link.weights).max()
        for mean, link in zip(shared, links, strict=True)
    ):
        return None
    without = {
        link.name: replace(link, weights=link.weights - mean)
        for link, mean in zip(links, shared, strict=True)
    }
    return replace(
        network,
        connections=tuple(without.get(link.name, link) for link in network.connections),
    )


def _advantage_only(
    plain: FloatNetwork, chip: ChipNetwork, options: QuantiseOptions, readout: str
) -> AgentBackend:
    from mtspark.deploy.quantise import quantise
    from mtspark.sim.explain import Effect, EffectChip, ExplainedNetwork

    made = quantise(
        plain,
        chip.tasks,
        chip.protocol,
        payload_bits=chip.input.payload_bits,
        held=chip.input.held,
        options=options,
    )
    return EffectChip(ExplainedNetwork(plain, made, options), {Effect.WEIGHTS}, {readout})


def _answers(case: AgentBackend, frames: NDArray[np.uint8], row: int) -> list[Any]:
    return [
        case.decide(frames[start : start + BATCH], row) for start in range(0, len(frames), BATCH)
    ]


def _compared(wanted: list[Any], got: list[Any], chip: ChipNetwork, row: int) -> dict[str, Any]:
    """Agreement of actions, and of the spikes of each layer, with the float network's."""
    import numpy as np

    from mtspark.core.agent import greedy_actions
    from mtspark.deploy.lower import HELPERS

    legal = chip.tasks[row].legal_actions or tuple(range(len(chip.readout.scale)))
    same, total = 0, 0
    counts: dict[str, list[float]] = {}
    for one, two in zip(wanted, got, strict=True):
        actions = [
            greedy_actions(answer.values.reshape(len(answer.values), -1), legal)
            for answer in (one, two)
        ]
        same, total = same + int((actions[0] == actions[1]).sum()), total + len(actions[0])
        for population in chip.populations:
            name = population.name
            if name == chip.readout.population or name in HELPERS:
                continue
            unequal = one.activity.window[name] != two.activity.window[name]
            counts.setdefault(name, []).append(float(unequal.mean()) * len(unequal))
    return {
        "action_agreement": same / total,
        "layers": {name: float(np.sum(shares)) / total for name, shares in counts.items()},
    }


def _score(
    case: AgentBackend, chip: ChipNetwork, task: str, episodes: int, seed: int
) -> float | None:
    from mtspark.sim.play import play

    if not chip.tasks[chip.task_index(task)].game:
        return None
    run = play(case, chip, task, episodes=episodes, seed=seed)
    return sum(episode.score for episode in run.episodes) / len(run.episodes)


def print_explain(result: dict[str, Any]) -> None:
    """A table for each number of weight bits."""
    from rich.table import Table

    for part in result["tables"]:
        title = (
            f"{result['task']}, {result['decisions']} decisions, {part['weight_bits']}-bit weights"
        )
        table = Table(title=title)
        table.add_column("switched on alone")
        table.add_column("same action as float", justify="right")
        layers = list(part["rows"][0]["layers"])
        for layer in layers:
            table.add_column(layer, justify="right")
        if result["episodes"]:
            table.add_column(f"mean return of {result['episodes']}", justify="right")
        for row in part["rows"]:
            cells = [row["effect"], f"{row['action_agreement']:.1%}"]
            cells += [f"{row['layers'][layer]:.2%}" for layer in layers]
            if result["episodes"]:
                score = row["mean_return"]
                cells.append("no game" if score is None else f"{score:g}")
            if row["effect"].startswith("all"):
                table.add_section()
            table.add_row(*cells)
        console.print(table)
    console.print(
        "columns of layers: share of neurons whose number of spikes in a decision differs from the "
        "float network's; effects do not add up",
        soft_wrap=True,
    )

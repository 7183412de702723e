"""The command ``mtspark diff``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtspark.cli._console import console, one_thread_each
from mtspark.cli.show.diff import print_diff
from mtspark.core.files.atomic import check_target, write_json
from mtspark.workflows.backends import BackendName, open_backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.core.backend import AgentBackend
    from mtspark.core.chip_network.network import ChipNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.sim.compare.agreement import Comparison

TWIN = "twin"
"""The checkpoint's float network acting on its integers (:mod:`mtspark.train.quantised.twin`)."""

DEFAULT_DECISIONS = {
    BackendName.ENGINE: 1000,
    BackendName.REFERENCE: 1000,
    BackendName.LAVA: 50,
    BackendName.LAVA_STOCK: 3,
    BackendName.TORCH: 1000,
}


def diff_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="X",
            help="A bundle made by mtspark export, or a file: checkpoint (.pt), NIR (.nir), ONNX "
            "(.onnx), netx (.net).",
        ),
    ],
    against: Annotated[
        str,
        typer.Option(
            metavar="Y",
            help="reference, engine, lava, lava-stock, torch, twin (the integers as they learn), "
            "netx (lava-dl), onnx (ONNX Runtime), or another bundle or file. Backends are compared "
            "with the reference; the reference itself with the engine.",
        ),
    ],
    task: Annotated[str | None, typer.Option(help="Which game (default: the first).")] = None,
    decisions: Annotated[
        int | None,
        typer.Option(min=1, help="How many (default: 1000; lava 50; lava-stock 3)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the game whose frames are used.")] = 0,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.")
    ] = None,
) -> None:
    """Find the first spike or membrane in which two simulations of an agent differ.

    Both see the same real frames, those of a game that the engine plays. Exit code 0: all
    equal; 1: a difference. Floats against integers, some spikes always differ: there the exit
    code is 0. Files are compared on frames of the game where one is played, else on random ones.
    """
    one_thread_each()
    from mtspark.deploy.bundle import load_bundle

    check_target(json_out)
    if concerns_files(folder, against):
        from mtspark.cli.diff_files import diff_files

        result = diff_files(str(folder), against, task, decisions=decisions, seed=seed)
        print_diff(result)
        if json_out is not None:
            write_json(json_out, result)
        if not result["equal"] and result["exact"]:
            raise typer.Exit(1)
        return
    bundle = load_bundle(folder)
    chosen = task or bundle.network.tasks[0].name
    bundle.network.task_index(chosen)
    result = diff_bundle(bundle, against, chosen, decisions=decisions, seed=seed)
    print_diff(result)
    if json_out is not None:
        write_json(json_out, result)
    if not result["equal"] and result["against"] != BackendName.TORCH.value:
        raise typer.Exit(1)


def concerns_files(folder: Path, against: str) -> bool:
    """Whether one of the two is a file, or a tool that runs files of its own."""
    files = {".pt", ".nir", ".onnx", ".net"}
    return against in ("netx", "onnx") or bool({folder.suffix, Path(against).suffix} & files)


def diff_bundle(
    bundle: Bundle, against: str, task: str, *, decisions: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Compare two simulations on real frames; returns the result as JSON values.

    Raises:
        BadRequestError: `against` is no backend and no bundle, or of other shapes.
    """
    names = [name.value for name in BackendName]
    if against == TWIN:
        from mtspark.cli.diff_twin import compare_with_twin

        frames = real_frames(bundle, task, decisions or 1000, seed)
        comparison = compare_with_twin(bundle, frames, bundle.network.task_index(task))
        return _result(comparison, BackendName.REFERENCE.value, against, task, seed)
    if against not in names:
        return _against_bundle(bundle, against, task, decisions or 50, seed)
    other = BackendName(against)
    count = decisions or DEFAULT_DECISIONS[other]
    frames = real_frames(bundle, task, count, seed)
    row = bundle.network.task_index(task)
    if other is BackendName.TORCH:
        with open_backend(other, bundle, task) as torch_agent:
            outcome = _against_torch(bundle, torch_agent, frames, row)
        return {"expected": "engine", "against": against, "task": task, "seed": seed, **outcome}
    first, second = BackendName.REFERENCE, other
    if other is BackendName.REFERENCE:
        first, second = BackendName.ENGINE, other
    with (
        open_backend(first, bundle, task, trace=True) as one,
        open_backend(second, bundle, task, trace=True) as two,
    ):
        comparison = compare_backends(one, two, frames, row)
    return _result(comparison, first.value, against, task, seed)


def _against_bundle(
    bundle: Bundle, against: str, task: str, decisions: int, seed: int
) -> dict[str, Any]:
    from mtspark.core.errors import BadRequestError
    from mtspark.deploy.bundle import load_bundle
    from mtspark.sim.backends.reference import ReferenceChip

    if not Path(against).exists():
        names = ", ".join([*(name.value for name in BackendName), TWIN])
        raise BadRequestError(f"--against {against}: neither a backend ({names}) nor a bundle")
    other = load_bundle(Path(against))
    shapes = [
        {p.name: p.shape for p in network.populations} | {"input": network.input.shape}
        for network in (bundle.network, other.network)
    ]
    steps = [network.steps_per_decision for network in (bundle.network, other.network)]
    if shapes[0] != shapes[1] or steps[0] != steps[1]:
        raise BadRequestError(f"{against}: another network than {bundle.folder}, layers differ")
    comparison = compare_backends(
        ReferenceChip(bundle.network),
        ReferenceChip(other.network),
        real_frames(bundle, task, decisions, seed),
        bundle.network.task_index(task),
        other.network.task_index(task),
    )
    return _result(comparison, str(bundle.folder), against, task, seed)


def real_frames(bundle: Bundle, task: str, decisions: int, seed: int) -> NDArray[np.uint8]:
    """What the chip sees when it plays, (decisions, *input shape); random without a game.

    A network that hears a slice a step gets (decisions, T, *input shape).
    """
    from mtspark.cli.diff_sides import feed_of, random_frames

    network = bundle.network
    if not network.tasks[network.task_index(task)].game:
        return random_frames(feed_of(network), decisions, seed)
    return game_frames(network, task, decisions, seed)


def game_frames(network: ChipNetwork, task: str, decisions: int, seed: int) -> NDArray[np.uint8]:
    """Frames that a network sees when it plays, (decisions, *input shape)."""
    import numpy as np

    from mtspark.core.backend import Moment
    from mtspark.sim.engine.chip import EngineChip
    from mtspark.sim.play import play

    seen: list[Any] = []
    while len(seen) < decisions:

        def keep(moment: Moment) -> None:
            seen.append(moment.frames[0].copy())

        left = decisions - len(seen)
        play(
            EngineChip(network),
            network,
            task,
            episodes=1,
            seed=seed,
            max_decisions=left,
            observe=keep,
        )
        seed += 1
    return np.stack(seen)


def compare_backends(
    expected: AgentBackend,
    got: AgentBackend,
    frames: NDArray[np.uint8],
    row: int,
    other_row: int | None = None,
) -> Comparison:
    """Compare every spike and membrane of two chips, one decision after the other."""
    from rich.progress import track

    from mtspark.sim.compare.agreement import Comparison

    comparison = Comparison()
    title = f"{expected.name} against {got.name}"
    for frame in track(frames, description=title, console=console, transient=True):
        one = expected.decide(frame[None], row, trace=True).trace
        two = got.decide(frame[None], row if other_row is None else other_row, trace=True).trace
        assert one is not None
        assert two is not None
        comparison.add_trace(one, two)
    return comparison


def _against_torch(
    bundle: Bundle, torch_agent: AgentBackend, frames: NDArray[np.uint8], row: int
) -> dict[str, Any]:
    """Agreement of actions and of spikes between float and integers, on the same frames."""
    import numpy as np

    from mtspark.core.backend import greedy_actions
    from mtspark.sim.engine.chip import EngineChip

    chip = EngineChip(bundle.network)
    legal = bundle.network.tasks[row].legal_actions
    same, compared, different = 0, 0, 0
    layers: dict[str, dict[str, int]] = {}
    first: dict[str, Any] | None = None
    for start in range(0, len(frames), 25):
        batch = frames[start : start + 25]
        one, two = chip.decide(batch, row), torch_agent.decide(batch, row)
        agree = greedy_actions(one.values, legal) == greedy_actions(two.values, legal)
        same += int(agree.sum())
        for name, spikes in two.activity.window.items():
            if name == "input":
                continue
            unequal = one.activity.window[name] != spikes
            entry = layers.setdefault(name, {"compared": 0, "different": 0, "spike_distance": 0})
            entry["compared"] += spikes.size
            entry["different"] += int(unequal.sum())
            entry["spike_distance"] += int(np.abs(one.activity.window[name] - spikes).sum())
            compared, different = compared + spikes.size, different + int(unequal.sum())
            if unequal.any() and first is None:
                where = tuple(int(i) for i in np.argwhere(unequal)[0])
                first = {
                    "decision": start + where[0],
                    "step": None,
                    "layer": name,
                    "neuron": list(where[1:]),
                    "quantity": "spikes in the decision",
                    "expected": int(one.activity.window[name][where]),
                    "got": int(spikes[where]),
                }
    return {
        "equal": different == 0,
        "decisions": len(frames),
        "compared": compared,
        "different": different,
        "first_divergence": first,
        "action_agreement": same / len(frames),
        "layers": layers,
    }


def _result(
    comparison: Comparison, expected: str, against: str, task: str, seed: int
) -> dict[str, Any]:
    first = None
    if comparison.first is not None:
        first = {**asdict(comparison.first), "neuron": list(comparison.first.neuron)}
    return {
        "expected": expected,
        "against": against,
        "task": task,
        "seed": seed,
        "equal": comparison.equal,
        "decisions": comparison.decisions,
        "compared": comparison.compared,
        "different": comparison.different,
        "first_divergence": first,
    }

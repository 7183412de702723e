"""Exporting agents of mtspark: checkpoints, with the games that they were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtspark.cli.export_options import WEIGHT_BITS, check_weight_bits

if TYPE_CHECKING:
    from mtspark.core.chip_network.network import ChipNetwork
    from mtspark.core.float_network.network import FloatNetwork
    from mtspark.deploy.bundle import Bundle
    from mtspark.deploy.quantise.options import QuantiseOptions

GAMES, RANDOM_STEPS, MOMENTS = 4, 60, 4
"""The graph is compared on the frames of 4 games at 4 moments of 60 random steps."""

CALIBRATION_MOMENTS = 20
"""Weight limits are chosen on as many moments of the same games."""


def export_agent(
    checkpoint: Path,
    folder: Path,
    *,
    weight_bits: int | None = None,
    per_channel: bool = True,
    keep_sums: bool = True,
    advantage_only: bool = False,
    palette: int | None = None,
    palette_chip: str | None = None,
    calibrate: str | None = None,
    formats: tuple[str, ...] = (),
    replace: bool = False,
) -> tuple[Bundle, dict[str, Any]]:
    """Convert, quantise and write a bundle; returns it with its fidelity figures.

    Without `weight_bits` they are those that the agent was trained on, or 8.
    """
    import json
    import shutil
    import tempfile
    from dataclasses import asdict

    import mtspark
    from mtspark.cli.export_formats import write_formats
    from mtspark.convert.nir.agent import Head, agent_to_nir, load_graph, save_graph
    from mtspark.convert.nir.reader import import_tasks
    from mtspark.deploy.bundle import AGENT, FIDELITY, sha256, write_bundle
    from mtspark.deploy.quantise.bounds import headroom
    from mtspark.deploy.quantise.network import quantise
    from mtspark.deploy.quantise.options import Quantisation, QuantiseOptions
    from mtspark.train.checkpoint.agent import load_agent

    agent = load_agent(checkpoint)
    if weight_bits is None:
        weight_bits = trained_weight_bits(agent.training)
    check_weight_bits(weight_bits)
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
        from mtspark.deploy.quantise.codebook import choose_palette

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

        record = Quantisation(options, palette, palette_chip, calibrate).to_json()
        bundle = write_bundle(folder, network, write_more, replace=replace, quantiser=record)
        return bundle, fidelity


def trained_weight_bits(training: dict[str, Any]) -> int:
    """Bits of the integers that an agent learned on, by its checkpoint; 8 where it did not."""
    config = training.get("config")
    if isinstance(config, dict) and config.get("quantisation_aware") is True:
        bits = config.get("weight_bits")
        if isinstance(bits, int) and 2 <= bits <= WEIGHT_BITS:
            return bits
    return WEIGHT_BITS


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
    from mtspark.core.backend import greedy_actions
    from mtspark.sim.backends.reference import ReferenceChip

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

    from mtspark.deploy.quantise.calibrate import Calibration, calibrate

    frames = [_frames_of(agent, task, CALIBRATION_MOMENTS) for task in agent.tasks]
    pixels = np.concatenate(frames) / 255.0
    series = np.broadcast_to(pixels, (network.time_steps, *pixels.shape))
    chosen, reports = calibrate(network, series, options, method=Calibration(method))
    return chosen, [asdict(report) for report in reports]


def _frames_of(agent: Any, task: Any, moments: int = MOMENTS) -> Any:
    """Frames of a game that is played at random; noise, dark to bright, where there is none."""
    import numpy as np

    from mtspark.core.environments.atari import make_games

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

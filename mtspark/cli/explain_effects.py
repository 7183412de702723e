"""The rows of ``mtspark explain``: each integer effect alone, on recorded decisions and in play."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mtspark.cli._console import console
from mtspark.cli._progress import play_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtspark.core.backend import AgentBackend
    from mtspark.core.chip_network.network import ChipNetwork
    from mtspark.core.float_network.network import FloatNetwork
    from mtspark.deploy.quantise.options import QuantiseOptions
    from mtspark.sim.explain import ExplainedNetwork

BATCH = 25
FLOAT, CHIP = "float network", "all: the chip"
Row = dict[str, Any]


def explain_rows(
    network: FloatNetwork,
    chip: ChipNetwork,
    options: QuantiseOptions,
    frames: NDArray[np.uint8],
    task: str,
    *,
    episodes: int = 0,
    by_layer: bool = False,
    seed: int = 0,
    known: dict[str, Row] | None = None,
    keep: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """One row an effect: agreement with the float network, and the score where games are played.

    Args:
        network: float.
        chip: made of it.
        options: that it was made with.
        frames: uint8 (decisions, *input shape), recorded.
        task: by name.
        episodes: to play with every effect, 0: none.
        by_layer: weight rounding in each layer alone, too.
        seed: of the first episode.
        known: rows by effect that were made before, which are taken as they are.
        keep: is given all rows after each that is made.
    """
    from rich.progress import track

    from mtspark.sim.explain import ExplainedNetwork

    explained = ExplainedNetwork(network, chip, options)
    row, known = chip.task_index(task), known or {}
    plays = episodes > 0 and bool(chip.tasks[row].game)
    cases = _cases(network, explained, options, by_layer)
    wanted = _answers(cases[FLOAT], frames, row)
    rows: list[Row] = []
    # Two bars at once would write over each other: where games are played, each has its own.
    shown = track(cases, "effects", console=console, transient=True, disable=plays)
    for number, name in enumerate(shown, 1):
        if name in known:
            rows.append(known[name])
            continue
        got = wanted if name == FLOAT else _answers(cases[name], frames, row)
        entry = {"effect": name, **_compared(wanted, got, chip, row)}
        if episodes:
            entry["mean_return"], entry["played_decisions"] = None, 0
        if plays:
            title = f"{name} ({number} of {len(cases)})"
            entry |= _played(name, cases[name], chip, task, episodes, seed, title)
        rows.append(entry)
        keep(rows)
    return rows


def _cases(
    network: FloatNetwork, explained: ExplainedNetwork, options: QuantiseOptions, by_layer: bool
) -> dict[str, AgentBackend]:
    """What is switched on in each row, the float network first and the whole chip last."""
    from mtspark.sim.explain import CHIP_EFFECTS, Effect, EffectChip

    chip = explained.chip
    cases: dict[str, AgentBackend] = {FLOAT: EffectChip(explained)}
    for effect in CHIP_EFFECTS:
        if effect is not Effect.PALETTE or "palette" in chip.provenance:
            cases[effect.value] = EffectChip(explained, {effect})
    readout = chip.readout.population
    plain = without_value_stream(network, readout)
    layers = [layer.chip.name for layer in explained.layers] if by_layer else []
    if plain is not None and not by_layer:
        layers = [readout]
    for name in layers:
        cases[f"weights of {name}"] = EffectChip(explained, {Effect.WEIGHTS}, {name})
    if plain is not None:
        alone = _advantage_only(plain, chip, options, readout)
        cases[f"weights of {readout}, no value stream"] = alone
    if chip.input.held and chip.input.payload_bits:
        cases[Effect.HELD_INPUT.value] = EffectChip(explained, {Effect.HELD_INPUT})
    cases[CHIP] = EffectChip(explained, CHIP_EFFECTS)
    return cases


def without_value_stream(network: FloatNetwork, readout: str) -> FloatNetwork | None:
    """The network whose readout lacks what all its outputs share; None: they share nothing.

    A value stream adds the same row to the weights of every action, V(s) to every Q. Taking
    the mean of the rows away changes no greedy action. None too where the readout has neurons
    that fire, or other connections than dense ones.
    """
    from dataclasses import replace

    import numpy as np

    from mtspark.core.float_network.network import FloatKind

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
    from mtspark.deploy.quantise.network import quantise
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

    from mtspark.core.backend import greedy_actions
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


def _played(
    name: str,
    case: AgentBackend,
    chip: ChipNetwork,
    task: str,
    episodes: int,
    seed: int,
    title: str,
) -> Row:
    from mtspark.sim.engine.chip import EngineChip
    from mtspark.sim.play import play

    # With all effects on, the engine gives the same to the bit, sooner.
    player = EngineChip(chip) if name == CHIP else case
    with play_progress(title, episodes) as progress:
        run = play(player, chip, task, episodes=episodes, seed=seed, observe=progress)
    return {
        "mean_return": sum(episode.score for episode in run.episodes) / len(run.episodes),
        "played_decisions": run.counts.decisions,
    }

"""The rows of an explanation: each integer effect alone, on recorded decisions and in play."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtspark.core.arrays import Booleans
from mtspark.core.backend import AgentBackend, Decision
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.environments import box_of
from mtspark.core.float_network import FloatKind, FloatNetwork
from mtspark.core.progress import Progress, ProgressCallback, no_progress
from mtspark.deploy.lower import HELPERS
from mtspark.deploy.quantise import QuantiseOptions, quantise
from mtspark.sim.compare import Agreement, Comparison
from mtspark.sim.explain import CHIP_EFFECTS, Effect, EffectChip, ExplainedNetwork
from mtspark.workflows.explain.result import EffectRow
from mtspark.workflows.run import episode_reports

BATCH = 25
FLOAT, CHIP = "float network", "all: the chip"


def explain_rows(
    network: FloatNetwork,
    chip: ChipNetwork,
    options: QuantiseOptions,
    frames: NDArray[np.uint8],
    task: str,
    *,
    masks: Booleans | None = None,
    episodes: int = 0,
    seed: int = 0,
    by_layer: bool = False,
    known: Mapping[str, EffectRow] | None = None,
    progress: ProgressCallback = no_progress,
) -> Iterator[EffectRow]:
    """Yield one row an effect: agreement with the float network, and the score in play.

    Args:
        network: float.
        chip: made of it.
        options: that it was quantised with.
        frames: uint8 (decisions, *input shape), recorded.
        task: by name.
        masks: (decisions, legal actions) which of them the environment allowed; None: all.
        episodes: to play with every effect where the task is a game; 0: none.
        seed: of the first episode.
        by_layer: weight rounding in each layer alone, too.
        known: rows by effect of an earlier run; they are yielded as they are.
        progress: receives the effects, or the episodes played so far.

    Raises:
        BadRequestError: `chip` is not what `network` is quantised to.
    """
    explained = ExplainedNetwork(network, chip, options)
    row, known = chip.task_index(task), known or {}
    playing = episodes > 0 and bool(chip.tasks[row].game)
    cases = _cases(network, explained, options, by_layer)
    stage = "switching effects on"
    progress(Progress(stage, 0, len(cases), "effects"))
    expected = _answers(cases[FLOAT], frames, row)
    for number, (name, case) in enumerate(cases.items()):
        if not playing:
            progress(Progress(stage, number, len(cases), "effects", name))
        if name in known:
            yield known[name]
            continue
        answers = expected if name == FLOAT else _answers(case, frames, row)
        agreement = _agreement(expected, answers, chip, row, masks)
        assert agreement.action_agreement is not None
        score, played = None, 0 if episodes else None
        if playing:
            title = f"{name} ({number + 1} of {len(cases)})"
            # With all effects on, the engine gives the same to the bit, sooner.
            player = None if name == CHIP else case
            score, played = _played(player, chip, task, episodes, seed, title, progress)
        yield EffectRow(
            effect=name,
            action_agreement=agreement.action_agreement,
            layers={layer: part.share for layer, part in agreement.layers.items()},
            mean_return=score,
            played_decisions=played,
        )
    if not playing:
        progress(Progress(stage, len(cases), len(cases), "effects"))


def _cases(
    network: FloatNetwork, explained: ExplainedNetwork, options: QuantiseOptions, by_layer: bool
) -> dict[str, AgentBackend]:
    """Return what is switched on in each row, the float network first and the whole chip last."""
    chip = explained.chip
    cases: dict[str, AgentBackend] = {FLOAT: EffectChip(explained)}
    for effect in CHIP_EFFECTS:
        if effect is not Effect.PALETTE or "palette" in chip.provenance:
            cases[effect.value] = EffectChip(explained, {effect})
    readout = chip.readout.population
    numbers = any(box_of(task) is not None for task in chip.tasks)
    # Of numbers, what all outputs share is a part of each.
    plain = None if numbers else without_value_stream(network, readout)
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
    """Return the network without what all its outputs share.

    A value stream adds the same row to the weights of every action, V(s) to every Q. Taking
    the mean of the rows away changes no greedy action.

    Args:
        network: float.
        readout: name of its last population.

    Returns:
        The network with other weights; None where the outputs share nothing, the readout has
        neurons that fire, or other connections than dense ones.
    """
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
    quantised = quantise(
        plain,
        chip.tasks,
        chip.protocol,
        payload_bits=chip.input.payload_bits,
        held=chip.input.held,
        options=options,
    )
    return EffectChip(ExplainedNetwork(plain, quantised, options), {Effect.WEIGHTS}, {readout})


def _answers(case: AgentBackend, frames: NDArray[np.uint8], row: int) -> list[Decision]:
    return [
        case.decide(frames[start : start + BATCH], row) for start in range(0, len(frames), BATCH)
    ]


def _agreement(
    expected: list[Decision],
    answers: list[Decision],
    chip: ChipNetwork,
    row: int,
    masks: Booleans | None,
) -> Agreement:
    """Compare actions and the spike counts of every layer that fires."""
    silent = {chip.readout.population, *HELPERS}
    layers = [population.name for population in chip.populations if population.name not in silent]
    comparison, task = Comparison(), chip.tasks[row]
    for batch, (one, other) in enumerate(zip(expected, answers, strict=True)):
        allowed = None if masks is None else masks[batch * BATCH : (batch + 1) * BATCH]
        comparison.add_values(one.values, other.values, task.legal_actions, box_of(task), allowed)
        comparison.add_activity(one.activity, other.activity, layers)
    return comparison.result()


def _played(
    player: AgentBackend | None,
    chip: ChipNetwork,
    task: str,
    episodes: int,
    seed: int,
    stage: str,
    progress: ProgressCallback,
) -> tuple[float, int]:
    """Return the mean return of the episodes, and the decisions in them; None: the engine."""
    from mtspark.sim.engine import EngineChip
    from mtspark.sim.play import play

    run = play(
        player or EngineChip(chip),
        chip,
        task,
        episodes=episodes,
        seed=seed,
        observe=episode_reports(progress, stage, episodes),
    )
    mean = sum(episode.score for episode in run.episodes) / len(run.episodes)
    return mean, run.counts.decisions

"""Decisions a second of an agent that plays, against the bare game with random actions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.core.agent import greedy_actions
from mtspark.core.chip_network import ChipNetwork
from mtspark.core.games import make_games
from mtspark.sim.counts import Counter
from mtspark.sim.engine import EngineChip

ROUNDS = 3


def chip_network(agent: Path) -> ChipNetwork:
    """A trained agent as a chip network, as `mtspark export` makes it."""
    from mtspark.convert.nir_export import Head, agent_to_nir
    from mtspark.convert.nir_import import import_tasks
    from mtspark.deploy.quantise import quantise
    from mtspark.train.checkpoint import load_agent

    loaded = load_agent(agent)
    graphs = agent_to_nir(loaded, Head.DUELING)
    return quantise(import_tasks(graphs), loaded.tasks, loaded.protocol, name=agent.stem)


def closed_loop(agent: Path, decisions: int) -> dict[str, float]:
    """Play an agent's first task with 1 and with 32 games; medians of alternating rounds.

    Returns:
        Decisions a second (of all games together), their ratio to random actions without a
        network, and microseconds that the engine takes on frames recorded from the game.
    """
    network = chip_network(agent)
    found: dict[str, float] = {}
    for games, threads in ((1, 1), (32, 2)):
        rates: dict[str, list[float]] = {"random": [], "engine": [], "engine, counted": []}
        chip = EngineChip(network, threads=threads)
        counter = Counter(network)
        legal = np.asarray(network.tasks[0].legal_actions)
        generator = np.random.default_rng(0)

        def at_random(frames: Any, legal: Any = legal, draw: Any = generator) -> Any:
            return draw.choice(legal, len(frames))

        def decide(frames: Any, chip: EngineChip = chip) -> Any:
            return greedy_actions(chip.decide(frames, 0).values, network.tasks[0].legal_actions)

        def counted(frames: Any, chip: EngineChip = chip, counter: Counter = counter) -> Any:
            decision = chip.decide(frames, 0)
            counter.add(decision.activity)
            return greedy_actions(decision.values, network.tasks[0].legal_actions)

        recorded: list[Any] = []
        for _ in range(ROUNDS):
            for name, act in (
                ("random", at_random),
                ("engine", decide),
                ("engine, counted", counted),
            ):
                count = max(20, decisions // games)
                rates[name].append(_rate(network, games, act, count, recorded))
        chip.close()
        label = f"{games} game{'s' if games > 1 else ''}"
        for name, values in rates.items():
            found[f"{label}, {name}: decisions a second"] = float(np.median(values))
        for name in ("engine", "engine, counted"):
            found[f"{label}, {name}: part of the bare game's"] = float(
                np.median(rates[name]) / np.median(rates["random"])
            )
        if games == 1:
            found |= _recorded(chip, recorded)
    return found


def _recorded(chip: EngineChip, recorded: list[Any]) -> dict[str, float]:
    """Time the engine on what it saw."""
    before = sum(chip.synops_walked.values())
    taken = []
    for frames in recorded:
        began = time.perf_counter()
        chip.decide(frames, 0)
        taken.append((time.perf_counter() - began) * 1e6)
    walked = (sum(chip.synops_walked.values()) - before) / len(recorded)
    median = float(np.median(taken))
    return {
        "recorded frames: microseconds a decision": median,
        "recorded frames: microseconds a step": median / chip.network.steps_per_decision,
        "recorded frames: operations a decision": walked,
        "recorded frames: nonzero pixels": float(np.mean([f != 0 for f in recorded])),
    }


def _rate(
    network: Any, games: int, act: Callable[[Any], Any], count: int, recorded: list[Any]
) -> float:
    """Decisions a second of all games, after a few to warm up."""
    env = make_games(network.tasks[0], network.game_protocol, games)
    try:
        frames, _ = env.reset(seed=1)
        for step in range(count + 10):
            if step == 10:
                began = time.perf_counter()
            frames, *_ = env.step(act(frames))
            if len(recorded) < 200 and step % 5 == 0:
                recorded.append(frames.copy())
        return count * games / (time.perf_counter() - began)
    finally:
        env.close()

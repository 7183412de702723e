"""Decisions a second of an agent that plays, against the bare game with random actions."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtspark.cli._progress import progress_bar
from mtspark.core.backend import Moment, greedy_actions
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.core.environments.atari import make_games
from mtspark.sim.engine.chip import EngineChip
from mtspark.sim.play import play
from mtspark.workflows.run.progress import episode_reports

ROUNDS = 7


def chip_network(agent: Path) -> ChipNetwork:
    """A trained agent as a chip network, as `mtspark export --encoder every-step` makes it."""
    from mtspark.convert.nir.agent import Head, agent_to_nir
    from mtspark.convert.nir.reader import import_tasks
    from mtspark.deploy.quantise.network import quantise
    from mtspark.train.checkpoint.agent import load_agent

    loaded = load_agent(agent)
    graphs = agent_to_nir(loaded, Head.DUELING)
    return quantise(import_tasks(graphs), loaded.tasks, loaded.protocol, name=agent.stem)


def closed_loop(agent: Path, decisions: int) -> dict[str, Any]:
    """Play an agent's first task with 1 and with 32 games, contenders in turns.

    Contenders: random actions and no network; the engine in the same bare loop; and what
    `mtspark run` does, its agent loop with everything counted and its progress bar.

    Returns:
        By number of games and contender: decisions a second (of all games together) in each
        round, and the ratio of the medians to random actions. And microseconds that the
        engine takes on frames recorded from the game.
    """
    network = chip_network(agent)
    found: dict[str, Any] = {}
    for games, threads in ((1, 1), (32, 2)):
        chip = EngineChip(network, threads=threads)
        legal = network.tasks[0].legal_actions
        generator = np.random.default_rng(0)
        recorded: list[Any] = []

        def at_random(frames: Any, legal: Any = legal, draw: Any = generator) -> Any:
            return draw.choice(legal, len(frames))

        def decide(frames: Any, chip: EngineChip = chip, legal: Any = legal) -> Any:
            return greedy_actions(chip.decide(frames, 0).values, legal)

        count = max(30, decisions // games)
        contenders: dict[str, Callable[[], float]] = {
            "random": partial(_rate, network, games, at_random, count, []),
            "engine": partial(_rate, network, games, decide, count, recorded),
            "run": partial(_rate_of_run, network, games, chip, count),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, rate in contenders.items():
                rates[name].append(rate())
        chip.close()
        bare = float(np.median(rates["random"]))
        found[str(games)] = {
            name: {"rates": values, "of_the_bare_game": float(np.median(values)) / bare}
            for name, values in rates.items()
        }
        if games == 1:
            found["recorded"] = _recorded(chip, recorded)
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
        "microseconds_a_decision": median,
        "microseconds_a_step": median / chip.network.steps_per_decision,
        "operations_a_decision": walked,
        "nonzero_pixels": float(np.mean([f != 0 for f in recorded])),
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


def _rate_of_run(network: ChipNetwork, games: int, chip: EngineChip, count: int) -> float:
    """The same of the agent loop, from its 10th decision on."""
    times: list[float] = []
    with progress_bar() as progress:
        report = episode_reports(progress, "benchmark", games)

        def observe(moment: Moment) -> None:
            report(moment)
            times.append(time.perf_counter())

        request = {"episodes": games, "seed": 1, "max_decisions": count + 10}
        play(chip, network, network.tasks[0].name, observe=observe, **request)
    return (len(times) - 10) * games / (times[-1] - times[9])

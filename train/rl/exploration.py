"""Epsilon-greedy exploration: the fall of epsilon, rates of the copies, random actions."""

from __future__ import annotations

import numpy as np

from mtspark.core.arrays import Floats, Integers
from mtspark.core.environments import Task
from mtspark.train.config import TrainConfig
from mtspark.train.rl.schedule import Schedule


class Exploration:
    """How often the copies of each game take a random action."""

    def __init__(self, config: TrainConfig, schedule: Schedule) -> None:
        self.config, self.schedule = config, schedule

    def epsilon(self, steps: int) -> float:
        """Exploration after `steps` decisions: a linear fall from 1 to its floor."""
        played, planned = self.schedule.stretch(steps, self.schedule.active(steps)[0])
        done = played / (planned * self.config.exploration_fraction)
        return max(1 - done * (1 - self.config.final_exploration), self.config.final_exploration)

    def rates(self, steps: int) -> Floats:
        """(copies,) exploration of every copy that plays after `steps` decisions.

        The copies of a game with a ladder end at rates spread geometrically from its highest to a
        hundredth of it (Horgan et al. 2018, arXiv:1803.00933).
        """
        rates, now = [], self.epsilon(steps)
        for index in self.schedule.active(steps):
            copies, ladder = self.config.copies[index], self.config.exploration_ladder
            highest = ladder[index] if ladder else 0.0
            if not highest:
                rates.append(np.full(copies, now))
                continue
            spread = np.geomspace(highest, highest / 100, copies)
            falling = now > self.config.final_exploration
            rates.append(np.maximum(spread, now) if falling else spread)
        return np.concatenate(rates)


def with_random_actions(
    greedy: Integers,
    rates: Floats,
    tasks: list[Task],
    generator: np.random.Generator,
) -> Integers:
    """Replace some of the greedy actions by random legal ones.

    Args:
        greedy: (copies,) best actions.
        rates: (copies,) chance of a random action.
        tasks: of every copy.
        generator: of the random numbers.

    Returns:
        (copies,) actions.
    """
    chosen = greedy.copy()
    for index in np.flatnonzero(generator.random(len(chosen)) < rates):
        chosen[index] = generator.choice(tasks[index].legal_actions)
    return chosen

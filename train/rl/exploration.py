"""Epsilon-greedy exploration: the fall of epsilon, rates of the copies, random actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mtspark.core.arrays import Booleans, Floats, Integers
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


class RandomActions:
    """Replaces some greedy actions by random legal ones, each held for a random time.

    A duration of n decisions, up to the longest that is asked for, has a chance proportional to
    1 / n^2 (temporally extended epsilon-greedy: Dabney et al. 2020, arXiv:2006.01782). Games that
    begin to pay after seconds of one action are not found by single random actions. A held action
    ends with its duration, not with the episode.

    Args:
        config: of the run.
        tasks: of the run, by index.
    """

    def __init__(self, config: TrainConfig, tasks: tuple[Task, ...]) -> None:
        self._tasks = tasks
        self._longest = config.exploration_longest
        self._held = [np.zeros(copies, np.int64) for copies in config.copies]
        self._left = [np.zeros(copies, np.int64) for copies in config.copies]
        durations = np.arange(1, self._longest + 1)
        self._chances = 1 / durations**2 / (1 / durations**2).sum()

    def __call__(
        self,
        greedy: Integers,
        rates: Floats,
        active: tuple[int, ...],
        generator: np.random.Generator,
        allowed: Sequence[Booleans | None] = (),
    ) -> Integers:
        """Return the actions to play.

        Args:
            greedy: (copies,) best actions of every copy of the active tasks.
            rates: (copies,) chance that a random action begins.
            active: task indices.
            generator: of the random numbers.
            allowed: for each active task, (copies, legal actions) which of them its environment
                allows now; None: all.

        Returns:
            (copies,) actions; where a held one is not allowed any more, the best one.
        """
        chosen = greedy.copy()
        begins = generator.random(len(chosen)) < rates
        start = 0
        for index, masks in zip(active, allowed or [None] * len(active), strict=True):
            held, left = self._held[index], self._left[index]
            legal = self._tasks[index].legal_actions
            for copy in np.flatnonzero(begins[start : start + len(held)] & (left == 0)):
                free = legal if masks is None else np.array(legal)[masks[copy]]
                held[copy] = generator.choice(free)
                # One draw less where durations are all 1: runs of before durations stay as they
                # were.
                once = self._longest == 1
                left[copy] = 1 if once else 1 + generator.choice(self._longest, p=self._chances)
            playing = left > 0
            if masks is not None:
                known = np.array(legal) == held[:, None]
                playing = playing & (known & masks).any(1)
            chosen[start : start + len(held)][playing] = held[playing]
            left[left > 0] -= 1
            start += len(held)
        return chosen

    def state(self) -> dict[str, Any]:
        """Return the actions that are held, as tensors; nothing where none lasts."""
        if self._longest == 1:
            return {}
        both = np.stack([np.concatenate(self._held), np.concatenate(self._left)])
        return {"random_actions": torch.from_numpy(both)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the actions of :meth:`state` back; without them, none is held."""
        both = state.get("random_actions")
        if both is None:
            return
        start = 0
        for held, left in zip(self._held, self._left, strict=True):
            part = both[:, start : start + len(held)].numpy()
            held[:], left[:] = part
            start += len(held)

"""What a decision of an environment takes here, and what handing it to another process takes.

    python benchmarks/environment_processes.py

Processor time of the calling process alone: with copies in processes of their own, what is left is
sending actions, waking up, and reading what the copies show.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

DECISIONS = 4_000
WORLDS = {"CartPole-v1": 32, "LunarLander-v3": 16, "Pendulum-v1": 2, "HalfCheetah-v5": 4}
"""Copies of each that step together."""


def microseconds(kind: Any, name: str, copies: int) -> float:
    """Processor time of this process a decision, in microseconds.

    Args:
        kind: class of the vector environment.
        name: of the environment.
        copies: that step together.
    """
    games = kind([lambda: gymnasium.make(name)] * copies)
    games.reset(seed=0)
    games.action_space.seed(0)
    actions = [games.action_space.sample() for _ in range(DECISIONS // copies)]
    start = time.process_time()
    for action in actions:
        games.step(action)
    spent = time.process_time() - start
    games.close()
    return spent / len(actions) / copies * 1e6


def main() -> None:
    """Print a row for each environment."""
    for name, copies in WORLDS.items():
        here = microseconds(SyncVectorEnv, name, copies)
        away = microseconds(AsyncVectorEnv, name, copies)
        print(f"{name}, {copies} copies: {here:.0f} us here, {away:.0f} us to hand it on")


if __name__ == "__main__":
    main()

"""Random actions: which copies take them, how long they last, and that a resumed run keeps them."""

from __future__ import annotations

import numpy as np
import pytest

from mtspark.core.environments.atari import task_for_game
from mtspark.train.config import TrainConfig
from mtspark.train.rl.exploration import RandomActions

GAMES = ("pong", "breakout")
TASKS = tuple(task_for_game(game) for game in GAMES)


def actions_of(longest: int, copies: tuple[int, int] = (3, 2)) -> RandomActions:
    from mtspark.train.networks import NetworkConfig

    config = TrainConfig(
        games=GAMES,
        games_per_task=copies,
        exploration_longest=longest,
        network=NetworkConfig(tasks=2),
    )
    return RandomActions(config, TASKS)


def test_one_decision_each_as_drawn_one_by_one() -> None:
    """The same draws in the same order as a loop over the copies."""
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    random_actions, rates = actions_of(1), np.array([0.0, 0.5, 1.0, 0.3, 0.9])
    legal = [TASKS[0].legal_actions] * 3 + [TASKS[1].legal_actions] * 2
    for number in range(200):
        greedy = np.full(5, number % 2)
        expected = greedy.copy()
        for copy in np.flatnonzero(theirs.random(5) < rates):
            expected[copy] = theirs.choice(legal[copy])
        assert (random_actions(greedy, rates, (0, 1), ours) == expected).all()
    assert random_actions.state() == {}


def test_durations_follow_their_law() -> None:
    """1, 1/4 and 1/9 of 49/36: 36, 9 and 4 of 49."""
    generator, copies = np.random.default_rng(0), 4_000
    random_actions = actions_of(3, (copies, 1))
    random_actions(np.zeros(copies, np.int64), np.ones(copies), (0,), generator)
    left = random_actions.state()["random_actions"][1, :copies].numpy()
    shares = np.bincount(left, minlength=3) / copies
    assert shares == pytest.approx(np.array([36, 9, 4]) / 49, abs=0.025)


def test_an_action_lasts_while_other_games_play() -> None:
    generator = np.random.default_rng(4)
    random_actions = actions_of(1_000)
    greedy, none = np.full(3, -1), np.zeros(3)
    first = random_actions(greedy, np.ones(3), (0,), generator)
    while not random_actions.state()["random_actions"][1].any():
        first = random_actions(greedy, np.ones(3), (0,), generator)
    left = random_actions.state()["random_actions"][1].numpy()
    assert (left[3:] == 0).all()
    # Breakout plays alone: Pong's actions wait for it.
    assert (random_actions(np.full(2, -1), np.zeros(2), (1,), generator) == -1).all()
    for number in range(int(left.max()) + 1):
        expected = np.where(number < left[:3], first, greedy)
        assert (random_actions(greedy, none, (0,), generator) == expected).all()


def test_a_resumed_run_holds_what_was_held() -> None:
    generator = np.random.default_rng(2)
    whole, rates = actions_of(50), np.full(5, 0.3)
    greedy = np.zeros(5, np.int64)
    for _ in range(20):
        whole(greedy, rates, (0, 1), generator)
    resumed = actions_of(50)
    resumed.restore(whole.state())
    again = np.random.default_rng()
    again.bit_generator.state = generator.bit_generator.state
    for _ in range(100):
        one, other = (
            random_actions(greedy, rates, (0, 1), stream)
            for random_actions, stream in ((whole, generator), (resumed, again))
        )
        assert (one == other).all()

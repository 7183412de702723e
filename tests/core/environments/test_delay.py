"""A decision delay: what acts when, and what a frame shows of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtspark.core.environments.atari import make_games, task_for_game
from mtspark.core.environments.delay import STRIP_ROWS, DelayedGames
from mtspark.core.environments.protocol import GameProtocol

WAITING = GameProtocol(
    frame_stack=3, screen_size=36, noop_max=4, sticky_action_probability=0.25,
    max_frames_per_episode=120,
)  # fmt: skip
DELAYED = replace(WAITING, decision_delay=1)


def block(action: int) -> np.ndarray:
    strip = np.zeros((STRIP_ROWS, 36), np.uint8)
    strip[:, 2 * action : 2 * action + 2] = 255
    return strip


@pytest.mark.parametrize("game", ["pong", "breakout"])
@pytest.mark.slow
def test_delayed_games_are_the_same_games_with_each_action_one_decision_late(game: str) -> None:
    copies, rng = 3, np.random.default_rng(1)
    task = task_for_game(game)
    delayed, waiting = make_games(task, DELAYED, copies), make_games(task, WAITING, copies)
    assert isinstance(delayed, DelayedGames)
    seen, expected = delayed.reset(seed=7)[0], waiting.reset(seed=7)[0].copy()
    pressed = np.zeros(copies, dtype=int)
    history = [[None, None, 0] for _ in range(copies)]
    resets = 0
    was_done = np.zeros(copies, dtype=bool)
    for _ in range(150):
        assert np.array_equal(seen[:, :, STRIP_ROWS:], expected[:, :, STRIP_ROWS:])
        for copy in range(copies):
            for plane, action in enumerate(history[copy]):
                shown = seen[copy, plane, :STRIP_ROWS]
                wanted = np.zeros_like(shown) if action is None else block(action)
                assert np.array_equal(shown, wanted)
        chosen = rng.integers(0, 18, copies)
        seen, *ours, _ = delayed.step(chosen)
        expected, *theirs, _ = waiting.step(pressed)
        for one, other in zip(ours, theirs, strict=True):
            assert np.array_equal(one, other)
        pressed = np.where(was_done, 0, chosen)
        for copy in range(copies):
            history[copy] = [*history[copy][1:], int(pressed[copy])]
            if was_done[copy]:
                history[copy] = [None, None, 0]
        resets += int(was_done.sum())
        was_done = ours[1] | ours[2]
    assert resets >= copies
    delayed.close()
    waiting.close()


def test_a_reset_in_the_middle_forgets_what_was_pressed() -> None:
    games = make_games(task_for_game("pong"), DELAYED, 1)
    games.reset(seed=1)
    games.step(np.array([5]))
    games.step(np.array([4]))
    frames, _ = games.reset(seed=1)
    assert np.array_equal(frames[0, -1, :STRIP_ROWS], block(0))
    assert not frames[0, :-1].any()
    games.close()


def test_games_that_wait_are_those_of_ale_untouched() -> None:
    games = make_games(task_for_game("pong"), WAITING, 1)
    assert type(games).__module__.startswith("ale_py")
    games.close()

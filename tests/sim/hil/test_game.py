from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from mtspark.core.environments.atari import make_games, task_for_game
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.core.errors import BadRequestError
from mtspark.sim.hil.game import AreaResize, FrameGame


@pytest.mark.parametrize(
    ("game", "seed", "decisions", "changes"),
    [
        ("pong", 0, 300, {}),
        ("breakout", 3, 60, {"sticky_action_probability": 0.25, "frame_skip": 3}),
        ("seaquest", 2, 60, {"frame_skip": 1, "frame_stack": 2, "screen_size": 64}),
        ("ms_pacman", 5, 60, {"max_pool": False, "fire_on_reset": False, "noop_max": 0}),
        ("breakout", 1, 400, {"decision_delay": 1, "sticky_action_probability": 0.25}),
        ("pong", 1, 80, {"decision_delay": 1, "frame_stack": 2, "screen_size": 40}),
        ("pong", 4, 160, {"frame_skip": 2, "screen_size": 20, "max_frames_per_episode": 300}),
    ],
)
@pytest.mark.slow
def test_frames_skipped_stacked_and_shrunk_here_equal_those_of_the_agent_loop(
    game: str, seed: int, decisions: int, changes: dict[str, object]
) -> None:
    protocol = GameProtocol(**changes)  # type: ignore[arg-type]
    task = task_for_game(game)
    ours, theirs = FrameGame(task, protocol), make_games(task, protocol, 1)
    generator = np.random.default_rng(seed)
    try:
        # Twice: the second episode must not remember the first.
        for start in (seed, seed + 1):
            ours.reset(start)
            seen, _ = theirs.reset(seed=start)
            pressed = 0
            for _ in range(decisions):
                np.testing.assert_array_equal(ours.observe(pressed), seen[0])
                action = int(generator.integers(18))
                acts, pressed = (pressed, action) if protocol.decision_delay else (action, 0)
                seen, rewards, ended, cut, _ = theirs.step(np.array([action]))
                reward, over = 0.0, False
                for _ in range(protocol.frame_skip):
                    got, over = ours.act(acts)
                    reward += got
                    if over:
                        break
                assert (reward, over) == (rewards[0], bool(ended[0] or cut[0]))
                if over:
                    break
    finally:
        ours.close()
        theirs.close()


def exact_mean(picture: np.ndarray, target: int, row: int, column: int) -> Fraction:
    """The mean over the covered area, in fractions."""
    total, area = Fraction(0), Fraction(1)
    shares = []
    for length, place in zip(picture.shape, (row, column), strict=True):
        start, end = Fraction(length * place, target), Fraction(length * (place + 1), target)
        shares.append(
            [(i, min(i + 1, end) - max(i, start)) for i in range(floor(start), ceil(end))]
        )
        area *= end - start
    for y, high in shares[0]:
        for x, wide in shares[1]:
            total += int(picture[y, x]) * high * wide
    return total / area


@pytest.mark.parametrize("target", [84, 37, 20, 10, 160])
def test_a_pixel_is_the_rounded_mean_of_the_area_that_it_covers(target: int) -> None:
    generator = np.random.default_rng(target)
    picture = generator.integers(0, 256, (210, 160)).astype(np.uint8)
    small = AreaResize((210, 160), target)(picture)
    assert small.shape == (target, target)
    for row, column in generator.integers(0, target, (60, 2)):
        mean = exact_mean(picture, target, int(row), int(column))
        # Half a grey level by rounding, and a little for sums in single precision.
        assert abs(int(small[row, column]) - mean) <= Fraction(1, 2) + Fraction(1, 10_000)


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(BadRequestError, match="only shrinks"):
        FrameGame(task_for_game("pong"), GameProtocol(screen_size=161))
    with pytest.raises(BadRequestError, match="unknown game"):
        FrameGame(Task("x", "no_such_game", (0,)), GameProtocol())

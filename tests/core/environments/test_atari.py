"""The one game factory: shapes, seeds, action sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode

from mtspark.core.environments.atari import ALL_ACTIONS, make_games, task_for_game
from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.core.errors import BadRequestError

SMALL = GameProtocol(frame_stack=3, screen_size=22)


@pytest.fixture(scope="module")
def pong() -> Task:
    return task_for_game("pong")


@pytest.mark.parametrize(
    ("game", "actions"),
    [
        ("pong", (0, 1, 3, 4, 11, 12)),
        ("breakout", (0, 1, 3, 4)),
        ("enduro", (0, 1, 3, 4, 5, 8, 9, 11, 12)),
    ],
)
def test_minimal_action_sets(game: str, actions: tuple[int, ...]) -> None:
    assert task_for_game(game) == Task(game, game, actions)


@pytest.mark.parametrize("game", ["chess2", "", "../pong", "roms/Pong", "pong.bin"])
def test_an_unknown_game_is_refused(game: str) -> None:
    with pytest.raises(BadRequestError, match=r"unknown game .*snake case") as caught:
        task_for_game(game)
    assert repr(game) in str(caught.value)


@pytest.mark.parametrize("game", ["combat", "joust", "maze_craze", "warlords"])
def test_games_that_would_end_the_process_are_refused(game: str) -> None:
    with pytest.raises(BadRequestError, match=rf"game '{game}': is for several players only"):
        task_for_game(game)


def test_observations_have_the_protocols_shape(pong: Task) -> None:
    games = make_games(pong, SMALL, 2)
    frames, _ = games.reset(seed=0)
    assert frames.shape == (2, *SMALL.observation_shape)
    assert frames.dtype == np.uint8
    assert games.single_action_space == Discrete(ALL_ACTIONS)


@pytest.mark.slow
def test_a_group_equals_single_games_of_following_seeds(pong: Task) -> None:
    seed, count, rng = 40, 3, np.random.default_rng(0)
    group = make_games(pong, SMALL, count)
    singles = [make_games(pong, SMALL, 1) for _ in range(count)]
    frames, _ = group.reset(seed=seed)
    for index, single in enumerate(singles):
        np.testing.assert_array_equal(frames[index], single.reset(seed=seed + index)[0][0])
    seen = []
    for _ in range(150):
        actions = rng.integers(0, ALL_ACTIONS, count)
        together = group.step(actions)[:4]
        for index, single in enumerate(singles):
            alone = single.step(actions[index : index + 1])[:4]
            for one, other in zip(together, alone, strict=True):
                np.testing.assert_array_equal(one[index], other[0])
        seen.append(together[0].copy())
    # Otherwise equal seeds would prove nothing.
    assert any(not np.array_equal(frames[0], frames[1]) for frames in seen)


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(pong: Task) -> None:
    def play(seed: int) -> np.ndarray:
        games = make_games(pong, SMALL, 1)
        frames = [games.reset(seed=seed)[0]]
        frames += [games.step(np.array([step % 6]))[0].copy() for step in range(40)]
        return np.concatenate(frames)

    np.testing.assert_array_equal(play(5), play(5))
    assert not np.array_equal(play(5), play(6))


def test_an_episode_is_cut_off_at_its_frame_limit(pong: Task) -> None:
    protocol = GameProtocol(
        frame_stack=1, screen_size=20, max_frames_per_episode=80, noop_max=1, fire_on_reset=False
    )
    games = make_games(pong, protocol, 1)
    games.reset(seed=0)
    for _ in range(40):
        _, _, terminated, truncated, _ = games.step(np.array([0]))
        if truncated[0]:
            break
    assert truncated[0]
    assert not terminated[0]


@pytest.mark.parametrize("flag", [False, True])
def test_every_setting_of_the_protocol_reaches_the_emulator(
    monkeypatch: pytest.MonkeyPatch, flag: bool
) -> None:
    import ale_py.vector_env

    given: dict[str, Any] = {}

    def record(game: str, count: int, **settings: Any) -> None:
        given.update(settings, game=game, count=count)

    monkeypatch.setattr(ale_py.vector_env, "AtariVectorEnv", record)
    protocol = GameProtocol(
        frame_skip=3,
        frame_stack=5,
        screen_size=33,
        max_pool=flag,
        noop_max=7,
        fire_on_reset=not flag,
        life_loss_ends_episode=flag,
        sticky_action_probability=0.25,
        max_frames_per_episode=999,
    )
    make_games(Task("my pong", "pong", (0,)), protocol, 6, num_threads=2)
    assert given == {
        "game": "pong",
        "count": 6,
        "num_threads": 2,
        "frameskip": 3,
        "stack_num": 5,
        "img_height": 33,
        "img_width": 33,
        "maxpool": flag,
        "noop_max": 7,
        "use_fire_reset": not flag,
        "episodic_life": flag,
        "repeat_action_probability": 0.25,
        "max_num_frames_per_episode": 999,
        # The same for every protocol: all 18 actions, true rewards, a step that resets.
        "full_action_space": True,
        "grayscale": True,
        "reward_clipping": False,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

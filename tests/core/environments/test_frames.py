"""Games frame by frame equal ALE's vector environment, and play the modes that it lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ale_py
import numpy as np
import pytest

from mtspark.core.environments.atari import make_games, task_for_game
from mtspark.core.environments.frames import FrameGames
from mtspark.core.environments.protocol import (
    GameProtocol,
    protocol_from_json,
    protocol_to_json,
    why_not_playable,
)
from mtspark.core.errors import BadFileError, BadRequestError

SMALL = GameProtocol(screen_size=42, frame_stack=2)


def played(games: Any, actions: Any, seed: int) -> list[tuple[Any, ...]]:
    """What two copies show and give over some decisions, with a copy that starts again."""
    frames, info = games.reset(seed=seed)
    steps: list[tuple[Any, ...]] = [(frames.copy(), info["lives"].tolist())]
    for number, action in enumerate(actions):
        frames, rewards, ended, cut, info = games.step(action)
        lives = info["lives"].tolist()
        steps.append((frames.copy(), rewards.tolist(), ended.tolist(), cut.tolist(), lives))
        if number == len(actions) // 2:
            again = np.array([False, True])
            seeds = np.array([seed + 7])
            frames, _ = games.reset(seed=seeds, options={"reset_mask": again})
            steps.append((frames.copy(),))
    games.close()
    return steps


@pytest.mark.parametrize(
    ("game", "changes"),
    [
        ("pong", {}),
        ("breakout", {"sticky_action_probability": 0.25}),
        pytest.param(
            "breakout",
            {"frame_skip": 3, "max_pool": False, "fire_on_reset": False},
            marks=pytest.mark.slow,
        ),
        pytest.param("pong", {"decision_delay": 1}, marks=pytest.mark.slow),
        pytest.param("pong", {"max_frames_per_episode": 41}, marks=pytest.mark.slow),
    ],
)
def test_at_the_default_mode_both_are_the_same_game(game: str, changes: dict[str, Any]) -> None:
    task, protocol = task_for_game(game), replace(SMALL, **changes)
    generator = np.random.default_rng(3)
    actions = generator.choice(task.legal_actions, size=(18, 2))
    usual = make_games(task, protocol, 2)
    # Mode 0 and difficulty 0 are these games' defaults: named, they are played frame by frame.
    ours = make_games(task, replace(protocol, mode=0, difficulty=0), 2)
    assert isinstance(getattr(ours, "_games", [None]), (list, FrameGames))
    assert type(ours) is not type(usual) or protocol.decision_delay
    for one, other in zip(played(ours, actions, 5), played(usual, actions, 5), strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]
        if any(other[3:4]) and any(other[3]):
            break


def test_another_mode_and_difficulty_are_other_games() -> None:
    task = task_for_game("breakout")
    emulator = ale_py.ALEInterface()
    emulator.loadROM(ale_py.roms.get_rom_path("breakout"))
    mode, difficulty = emulator.getAvailableModes()[-1], emulator.getAvailableDifficulties()[-1]
    assert (mode, difficulty) != (0, 0)
    shown = []
    for chosen in ({}, {"mode": mode}, {"difficulty": difficulty}):
        games = make_games(task, replace(SMALL, **chosen), 1)
        frames, _ = games.reset(seed=1)
        for _ in range(30):
            frames, *_ = games.step(np.array([3]))
        shown.append(frames.copy())
        games.close()
    assert not np.array_equal(shown[0], shown[1])
    # The plain emulator shows the same.
    emulator.setInt("random_seed", 1)
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.loadROM(ale_py.roms.get_rom_path("breakout"))
    emulator.setMode(mode)
    emulator.reset_game()
    assert emulator.getScreenGrayscale().shape == (210, 160)


@pytest.mark.parametrize("field", ["mode", "difficulty"])
def test_what_a_game_lacks_is_refused_with_what_it_has(field: str) -> None:
    task = task_for_game("pong")
    with pytest.raises(BadRequestError, match=f"protocol.{field} 99: pong has 0, 1"):
        make_games(task, replace(SMALL, **{field: 99}), 1)


def test_a_field_at_its_default_is_not_written() -> None:
    written = protocol_to_json(GameProtocol())
    assert not {"mode", "difficulty"} & set(written)
    assert protocol_from_json(written, "file") == GameProtocol()
    other = GameProtocol(mode=0, difficulty=1)
    assert protocol_to_json(other) == {**written, "mode": 0, "difficulty": 1}
    assert protocol_from_json(protocol_to_json(other), "file") == other
    assert why_not_playable(GameProtocol(mode=300)) is not None
    for wrong in ("hard", -1, 0.5, True):
        with pytest.raises(BadFileError, match="mode"):
            protocol_from_json({**written, "mode": wrong}, "file")

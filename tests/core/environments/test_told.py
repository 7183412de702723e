"""Which task it is, shown in the frames of ALE's games."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtspark.core.environments import (
    FrameGame,
    GameProtocol,
    Task,
    make_games,
    task_for_game,
    tasks_from_json,
    tasks_to_json,
)
from mtspark.core.errors import BadFileError

SMALL = GameProtocol(screen_size=42, frame_stack=2, noop_max=3)


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"decision_delay": 1}, marks=pytest.mark.slow)]
)
def test_frames_show_the_task_and_nothing_else_changes(changes: dict[str, Any]) -> None:
    """In the vector environment and frame by frame, from the first frame on."""
    protocol, plain = replace(SMALL, **changes), task_for_game("pong")
    told = replace(plain, told=(1, 3))
    games, usual = make_games(told, protocol, 2), make_games(plain, protocol, 2)
    alone = FrameGame(told, protocol)
    seen, expected = games.reset(seed=4)[0], usual.reset(seed=4)[0].copy()
    alone.reset(4)
    shown, pressed = alone.observe(), 0
    for action in (2, 3, 3, 0, 2, 5):
        assert np.array_equal(seen[:, :, :-3], expected[:, :, :-3])
        # A block of 42 // 3 pixels, in the last three rows of both planes.
        rows = seen[:, :, -3:]
        assert (rows[..., 14:28] == 255).all()
        assert not rows[..., :14].any()
        assert not rows[..., 28:].any()
        assert np.array_equal(shown, seen[0])
        seen, rewards, *_ = games.step(np.array([action, 0]))
        expected, same, *_ = usual.step(np.array([action, 0]))
        assert np.array_equal(rewards, same)
        for _ in range(protocol.frame_skip):
            alone.act(pressed if protocol.decision_delay else action)
        pressed = action
        shown = alone.observe(pressed)
    games.close()
    usual.close()
    alone.close()


def test_it_stands_in_files_and_is_absent_where_frames_do_not_show_it() -> None:
    pong = Task("pong", "pong", (0, 2))
    (entry,) = tasks_to_json((pong,))
    assert "told" not in entry
    told = replace(pong, told=(0, 2))
    assert tasks_to_json((told,)) == [{**entry, "told": [0, 2]}]
    assert tasks_from_json(tasks_to_json((told,)), "agent.pt") == (told,)
    for wrong in ([2, 2], [0], [0, 10**6], [True, 2], "ab", None, [-1, 2], [0.0, 2]):
        with pytest.raises(BadFileError, match=r"agent\.pt: Task\.told is "):
            tasks_from_json([{**entry, "told": wrong}], "agent.pt")
    with pytest.raises(BadFileError, match="mnist is no game of ALE"):
        tasks_from_json([{"name": "mnist", "game": "", "legal_actions": [], "told": [0, 2]}], "x")

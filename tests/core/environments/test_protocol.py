"""The protocol and the tasks as JSON; greedy choice among legal actions."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtspark.core.backend import greedy_actions
from mtspark.core.environments.protocol import (
    ADDED_FIELDS,
    GameProtocol,
    Task,
    protocol_from_json,
    protocol_to_json,
    task_index,
    tasks_from_json,
    tasks_to_json,
)
from mtspark.core.errors import BadFileError, BadRequestError

TASKS = (Task("a", "pong", (0, 3)), Task("b", "breakout", (1, 17)))
TASK = {"name": "a", "game": "pong", "legal_actions": [0, 1]}


def test_protocol_round_trip() -> None:
    protocol = GameProtocol(3, 2, 50, False, 7, False, True, 0.25, 999, 1)
    assert protocol_from_json(json.loads(json.dumps(protocol_to_json(protocol))), "x") == protocol
    assert protocol.observation_shape == (2, 50, 50)


def test_tasks_round_trip() -> None:
    assert tasks_from_json(json.loads(json.dumps(tasks_to_json(TASKS))), "x") == TASKS


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"frame_skip": "4"}, "GameProtocol.frame_skip is '4', not int"),
        ({"frame_skip": True}, "GameProtocol.frame_skip is True, not int"),
        ({"frame_skip": 4.0}, "GameProtocol.frame_skip is 4.0, not int"),
        ({"max_pool": 1}, "GameProtocol.max_pool is 1, not bool"),
        ({"sticky_action_probability": None}, "sticky_action_probability is None, not float"),
        ({"sticky_action_probability": False}, "sticky_action_probability is False, not float"),
        ({"speed": 2}, "speed"),
    ],
)
def test_a_wrong_protocol_field_is_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(BadFileError, match=f"agent.pt: .*{text}"):
        protocol_from_json({**asdict(GameProtocol()), **change}, "agent.pt")


def test_a_whole_number_is_a_probability() -> None:
    data = {**asdict(GameProtocol()), "sticky_action_probability": 0}
    assert protocol_from_json(data, "x").sticky_action_probability == 0


@pytest.mark.parametrize("name", [n for n in asdict(GameProtocol()) if n not in ADDED_FIELDS])
def test_a_missing_protocol_field_is_not_filled_in(name: str) -> None:
    data = asdict(GameProtocol())
    del data[name]
    with pytest.raises(BadFileError, match=name):
        protocol_from_json(data, "agent.pt")


def test_a_field_added_later_has_its_default_where_a_file_lacks_it() -> None:
    written = protocol_to_json(GameProtocol())
    assert "decision_delay" not in written
    assert protocol_from_json(written, "x") == GameProtocol()
    delayed = GameProtocol(decision_delay=1)
    assert protocol_to_json(delayed)["decision_delay"] == 1
    assert protocol_from_json(protocol_to_json(delayed), "x") == delayed


def test_a_delay_needs_room_to_show_the_pressed_action() -> None:
    data = {**asdict(GameProtocol()), "decision_delay": 1, "screen_size": 17}
    with pytest.raises(BadFileError, match="screen_size is 17, at least 18"):
        protocol_from_json(data, "agent.pt")
    with pytest.raises(BadFileError, match="decision_delay is 2, 0 to 1"):
        protocol_from_json({**data, "screen_size": 84, "decision_delay": 2}, "agent.pt")


@pytest.mark.parametrize("data", [None, [], "pong", 5])
def test_a_protocol_is_an_object(data: Any) -> None:
    with pytest.raises(BadFileError, match=r"agent.pt: GameProtocol must be an object"):
        protocol_from_json(data, "agent.pt")


@pytest.mark.parametrize("data", [None, [], {}, "pong", [3], [None]])
def test_tasks_are_a_list_of_objects(data: Any) -> None:
    with pytest.raises(BadFileError, match=r"agent.pt: "):
        tasks_from_json(data, "agent.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"game": None},
        {"legal_actions": "01"},
        {"legal_actions": 3},
        {"legal_actions": ["FIRE"]},
        {"legal_actions": [1.5]},
        {"legal_actions": [True]},
        {"legal_actions": [[0]]},
        {"more": 1},
    ],
)
def test_a_wrong_task_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadFileError, match=r"agent.pt: Task"):
        tasks_from_json([TASK, {**TASK, **change}], "agent.pt")


@pytest.mark.parametrize("name", list(TASK))
def test_a_missing_task_field_is_refused(name: str) -> None:
    data = {key: value for key, value in TASK.items() if key != name}
    with pytest.raises(BadFileError, match=name):
        tasks_from_json([data], "agent.pt")


def test_task_index() -> None:
    assert [task_index(TASKS, name) for name in "ab"] == [0, 1]
    with pytest.raises(BadRequestError, match="unknown task 'c': this agent knows a, b"):
        task_index(TASKS, "c")


def test_greedy_takes_the_first_of_the_best_legal_actions() -> None:
    values = np.array([[9.0, 1.0, 2.0, 2.0], [9.0, -5.0, -7.0, -6.0]])
    assert greedy_actions(values, (1, 2, 3)).tolist() == [2, 1]


@given(st.lists(st.floats(-1e300, 1e300), min_size=6, max_size=6), st.sets(st.integers(0, 5)))
def test_greedy_is_legal_and_best(row: list[float], legal: set[int]) -> None:
    actions = tuple(sorted(legal | {0}))
    (chosen,) = greedy_actions(np.array([row]), actions).tolist()
    assert chosen in actions
    assert row[chosen] == max(row[action] for action in actions)

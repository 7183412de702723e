"""Actions that are numbers, and what is pressed in a world that does not wait."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from mtspark.core.environments import (
    ActionBox,
    Environment,
    Task,
    World,
    as_plain,
    chosen_actions,
    make_games,
    random_actions,
    same_actions,
    tasks_from_json,
    tasks_to_json,
    world_task,
)
from mtspark.core.environments.actions import action_text, stretched
from mtspark.core.environments.spaces import actions_of
from mtspark.core.errors import BadFileError, BadRequestError

SEEN = spaces.Box(-9.0, 9.0, (2,))


class Echo(gymnasium.Env[Any, Any]):
    """Shows what acted last, first number and sum; ends after four decisions."""

    observation_space = SEEN

    def __init__(self, taken: Any = None) -> None:
        self.action_space = taken or spaces.Box(
            np.array([[-1.0, 0.0, 2.0]], np.float32), np.array([[1.0, 10.0, 3.0]], np.float32)
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.decisions = 0
        return np.array([7.0, 7.0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        assert self.action_space.contains(action)
        self.decisions += 1
        numbers = np.asarray(action, np.float64).reshape(-1)
        seen = np.array([numbers[0], numbers.sum()], np.float32)
        return seen, float(numbers.sum()), self.decisions >= 4, False, {}


@pytest.fixture(autouse=True)
def echo() -> Iterator[None]:
    gymnasium.register("Echo-v0", entry_point=Echo)
    yield
    del gymnasium.registry["Echo-v0"]


def measured(task: Task) -> Task:
    assert task.environment is not None
    seen = task.environment.found
    zeros, ones = (0.0,) * seen.size, (1.0,) * seen.size
    seen = replace(seen, mean=zeros, deviation=ones)
    return replace(task, environment=replace(task.environment, observation=seen))


def echo_task(**changes: Any) -> Task:
    return measured(world_task(Environment("Echo-v0", **changes)))


def test_an_action_is_the_tanh_of_each_value_stretched_between_its_bounds() -> None:
    task = echo_task()
    values = np.array([[0.0, 0.5, -0.25, 99.0], [50.0, -50.0, 0.0, 99.0]])
    actions = chosen_actions(values, task)
    for row, chosen in zip(values, actions, strict=True):
        bounds = ((-1.0, 1.0), (0.0, 10.0), (2.0, 3.0))
        wanted = [
            low + (math.tanh(value) + 1) / 2 * (high - low)
            for value, (low, high) in zip(row, bounds, strict=False)
        ]
        assert chosen.tolist() == pytest.approx(wanted, rel=1e-6)
    assert actions.dtype == np.float32
    assert actions[1].tolist() == [1.0, 0.0, 2.5]


def test_no_number_leaves_bounds_that_no_float32_equals() -> None:
    """The float32 nearest to 0.1 lies above it, that of -0.7 above, and that of 0.3 above."""
    box = ActionBox((-0.7, 0.7, 1e-9), (0.1, 0.9, 0.3))
    for end in (-1.0, 1.0, -1.0 + 1e-12):
        (numbers,) = stretched(np.full((1, 3), end), box)
        assert numbers.dtype == np.float32
        assert (numbers >= np.array(box.low)).all()
        assert (numbers <= np.array(box.high)).all()
        assert numbers == pytest.approx(np.array(box.high if end == 1 else box.low), rel=1e-6)
    # Bounds of float32 are reached.
    whole = ActionBox((-1.0, 0.5), (2.0, 0.75))
    assert stretched(np.array([[-1.0, 1.0]]), whole).tolist() == [[-1.0, 0.75]]


def test_bounds_without_a_float32_between_them_are_refused() -> None:
    near = spaces.Box(np.array([0.1]), np.array([0.1 + 1e-12]), dtype=np.float64)
    with pytest.raises(BadRequestError, match="need float32 numbers between them; rescale them"):
        actions_of(near, "Near-v0")


def test_an_action_reaches_the_environment_in_its_own_shape() -> None:
    task = echo_task()
    games = make_games(task, None, 2)
    games.reset(seed=0)
    actions = random_actions(task, 2, np.random.default_rng(0))
    _, rewards, *_ = games.step(actions)
    assert rewards.tolist() == pytest.approx(actions.sum(1).tolist(), rel=1e-6)
    assert task.environment is not None
    world = World(task.environment)
    world.reset(0)
    assert world.act(actions[0])[0] == rewards[0]


@pytest.mark.parametrize("taken", [None, spaces.Discrete(3)])
def test_with_a_delay_an_action_acts_one_decision_later_and_is_seen(taken: Any) -> None:
    arguments = {} if taken is None else {"taken": "discrete"}
    if taken is not None:
        gymnasium.register("Echo-v1", entry_point=lambda **_: Echo(taken))
    name = "Echo-v0" if taken is None else "Echo-v1"
    try:
        task = measured(world_task(Environment(name, arguments, decision_delay=1)))
        games = make_games(task, None, 2)
        generator = np.random.default_rng(1)
        games.reset(seed=0)
        numbers = 3
        assert games.values.shape == (2, 2 + numbers)
        rest = [0.0, 0.0, 0.0] if taken is None else [1.0, 0.0, 0.0]
        assert games.values[:, 2:].tolist() == [rest, rest]
        pressed = None
        for decision in range(4):
            actions = random_actions(task, 2, generator)
            _, rewards, ended, *_ = games.step(actions)
            if pressed is not None:
                sums = pressed.sum(1) if taken is None else pressed
                assert rewards.tolist() == pytest.approx(sums.tolist(), rel=1e-6)
            shown = (
                (actions - [-1.0, 0.0, 2.0]) / [2.0, 10.0, 1.0] * 2 - 1
                if taken is None
                else np.eye(3)[actions]
            )
            assert games.values[:, 2:] == pytest.approx(shown, abs=1e-6)
            pressed = actions
            assert ended.all() == (decision == 3)
        # The step that restarts an episode forgets what was pressed in the one before.
        games.step(random_actions(task, 2, generator))
        assert games.values[:, 2:].tolist() == [rest, rest]
    finally:
        gymnasium.registry.pop("Echo-v1", None)


@pytest.mark.parametrize("delay", [0, 1])
def test_one_world_shows_what_copies_show(delay: int) -> None:
    task = echo_task(decision_delay=delay)
    assert task.environment is not None
    games, world = make_games(task, None, 2), World(task.environment)
    frames, _ = games.reset(seed=5)
    world.reset(5)
    pressed, generator = world.resting, np.random.default_rng(2)
    for _ in range(4):
        assert (world.observe(pressed) == frames[0]).all()
        actions = random_actions(task, 2, generator)
        acts = pressed if delay else actions[0]
        frames, rewards, *_ = games.step(actions)
        assert world.act(acts)[0] == rewards[0]
        pressed = actions[0]
    assert (world.observe(pressed) == frames[0]).all()


def test_a_box_and_a_delay_come_back_from_json() -> None:
    task = echo_task(decision_delay=1)
    (entry,) = tasks_to_json((task,))
    assert entry["environment"]["box"]["low"] == [-1.0, 0.0, 2.0]
    assert entry["environment"]["decision_delay"] == 1
    assert tasks_from_json([entry], "a file") == (task,)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"box": {"low": [0, 0], "high": [1, 1]}}, "box.low is [0, 0], not 3 numbers"),
        (
            {"box": {"low": [0, 1, 2], "high": [1, 1, 3]}},
            "box.high is [1, 1, 3], not above box.low",
        ),
        ({"box": {"low": [0, 0, 0]}}, "box.high"),
        (
            {"box": {"low": [0, 0, 0], "high": [1, 1, 1], "deviation": [1, -1, 1]}},
            "box.deviation is -1",
        ),
        ({"decision_delay": 2}, "decision_delay is 2"),
    ],
)
def test_a_box_that_is_none_is_refused(change: dict[str, Any], problem: str) -> None:
    (entry,) = tasks_to_json((echo_task(),))
    entry["environment"].update(change)
    with pytest.raises(BadFileError) as error:
        tasks_from_json([entry], "a file")
    assert problem in str(error.value)


def test_an_agent_of_other_bounds_is_refused() -> None:
    task = echo_task()
    assert task.environment is not None
    assert task.environment.box is not None
    other = replace(task.environment.box, high=(1.0, 10.0, 4.0))
    strange = replace(task, environment=replace(task.environment, box=other))
    with pytest.raises(BadRequestError, match="takes other actions here"):
        make_games(strange, None, 1)


def test_numbers_are_the_same_within_a_twentieth_of_their_range() -> None:
    box = ActionBox((0.0, 0.0), (1.0, 100.0))
    one = np.array([[0.5, 50.0]] * 3, np.float32)
    other = np.array([[0.54, 46.0], [0.56, 50.0], [0.5, 56.0]], np.float32)
    assert same_actions(one, other, box).tolist() == [True, False, False]


def test_an_action_as_text_reads_back_as_the_same_float32() -> None:
    numbers = np.random.default_rng(0).uniform(-1, 1, 200).astype(np.float32)
    text = action_text(as_plain(numbers))
    assert " " not in text
    assert (np.array([np.float32(word) for word in text.split(",")]) == numbers).all()
    assert action_text(as_plain(np.int64(4))) == "4"

"""Environments of Gymnasium as data, and as copies that step together."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from mtspark.core.environments import (
    Environment,
    Observation,
    RunningStatistics,
    Task,
    World,
    Wrapper,
    make_games,
    rate_note,
    tasks_from_json,
    tasks_to_json,
    world_task,
    worlds,
)
from mtspark.core.environments.messages import as_messages
from mtspark.core.environments.worlds import make_environment
from mtspark.core.errors import (
    BackendFailedError,
    BackendMissingError,
    BadFileError,
    BadRequestError,
    MtsparkError,
)
from mtspark.core.files.limits import FileLimits, Policy, set_policy
from tests.support.worlds import SPREAD, Door, Shows, box, cartpole, register


@pytest.fixture
def named() -> Iterator[Any]:
    """Register environments under names that are gone after the test."""
    before = set(gymnasium.registry)

    def give(name: str, *spaces_: Any) -> str:
        register(name, *spaces_)
        return name

    yield give
    for name in set(gymnasium.registry) - before:
        del gymnasium.registry[name]


def stored(task: Task) -> dict[str, Any]:
    (entry,) = json.loads(json.dumps(tasks_to_json((task,))))
    return dict(entry)


def test_an_environment_comes_back_from_json_and_defaults_are_not_written() -> None:
    plain = cartpole()
    entry = stored(plain)
    assert set(entry["environment"]) == {
        *("version", "id", "decisions_per_s", "observation", "actions")
    }
    assert entry["environment"]["decisions_per_s"] == 50
    assert tasks_from_json([entry], "a file") == (plain,)
    rich = cartpole(
        arguments={"sutton_barto_reward": True},
        wrappers=(Wrapper("TimeAwareObservation", {"flatten": True}),),
        max_steps=70,
        reward_range=(-1.0, 1.0),
    )
    assert rich.environment is not None
    assert rich.environment.found.size == 5
    seen = replace(rich.environment.found, mean=(0.0,) * 5, deviation=(1.0,) * 5)
    rich = replace(rich, environment=replace(rich.environment, observation=seen))
    assert tasks_from_json([stored(rich)], "a file") == (rich,)


def hiding(id: str, hidden: Any) -> Environment:
    return Environment(id, wrappers=(Wrapper("HideEntries", {"hidden": hidden}),))


def test_entries_of_a_box_can_be_hidden() -> None:
    """The numbers that stay are gymnasium's own, in their order, and so are their bounds."""
    whole: Any = gymnasium.make("CartPole-v1")
    made = make_environment(hiding("CartPole-v1", [3, 1]))
    low, high = whole.observation_space.low, whole.observation_space.high
    assert isinstance(made.observation_space, spaces.Box)
    assert np.array_equal(made.observation_space.low, low[[0, 2]])
    assert np.array_equal(made.observation_space.high, high[[0, 2]])
    shown, wanted = made.reset(seed=4)[0], whole.reset(seed=4)[0]
    for action in (1, 1, 0, 1, 0, 0):
        assert np.array_equal(shown, wanted[[0, 2]])
        assert shown in made.observation_space
        shown, wanted = made.step(action)[0], whole.step(action)[0]
    task = world_task(hiding("CartPole-v1", [3, 1]))
    assert task.environment is not None
    assert task.environment.found.size == 2


def test_tasks_of_ale_are_written_as_before() -> None:
    pong = Task("pong", "pong", (0, 2, 3))
    assert stored(pong) == {"name": "pong", "game": "pong", "legal_actions": [0, 2, 3]}
    assert tasks_from_json([stored(pong)], "a file") == (pong,)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "version is 2"),
        ({"colour": 1}, "colour"),
        ({"id": "CartPole"}, "id is 'CartPole', not a name of gymnasium's"),
        ({"id": "CartPole-v1\x1b[2J"}, "id is"),
        ({"actions": 10**6}, "actions is 1000000"),
        ({"actions": True}, "actions is True"),
        ({"max_steps": -1}, "max_steps is -1"),
        ({"decisions_per_s": 0.0}, "decisions_per_s is 0.0, not above 0"),
        ({"reward_range": [1.0, 0.0]}, "reward_range is"),
        ({"wrappers": [{"name": "RecordVideo"}]}, "wrappers is 'RecordVideo', not one of"),
        ({"arguments": {"a": [[[[[[1]]]]]]}}, "arguments is"),
        ({"arguments": {"a": "x" * 20_000}}, "arguments is"),
        ({"observation": {"kind": "box", "size": 4, "mean": [], "deviation": []}}, "mean is []"),
        (
            {"observation": {"kind": "box", "size": 1, "mean": [0.0], "deviation": [0.0]}},
            "deviation is 0.0, not 1e-06 or more",
        ),
        ({"observation": {"kind": "sound", "size": 1, "mean": [], "deviation": []}}, "kind is"),
    ],
)
def test_a_damaged_environment_is_named(change: dict[str, Any], problem: str) -> None:
    entry = stored(cartpole())
    entry["environment"] = {**entry["environment"], **change}
    with pytest.raises(BadFileError) as error:
        tasks_from_json([entry], "agent.pt")
    assert problem in str(error.value)
    assert "\x1b" not in str(error.value)


def test_a_file_cannot_give_an_environment_another_name_or_further_actions() -> None:
    with pytest.raises(BadFileError, match="game is 'pong', its environment is 'CartPole-v1'"):
        tasks_from_json([{**stored(cartpole()), "game": "pong"}], "agent.pt")
    with pytest.raises(BadFileError, match="action numbers from 0 to 1"):
        tasks_from_json([{**stored(cartpole()), "legal_actions": [0, 2]}], "agent.pt")


def test_copies_play_the_episodes_of_their_seeds() -> None:
    """Against gymnasium's own environment, one at a time, with messages worked out by hand."""
    task, generator = cartpole(), np.random.default_rng(0)
    games = make_games(task, None, 3)
    frames, info = games.reset(seed=5)
    assert info["lives"].tolist() == [0, 0, 0]
    actions = generator.integers(0, 2, (60, 3))
    seen, ends = [frames.copy()], []
    for step in actions:
        frames, _, ended, cut, _ = games.step(step)
        seen.append(frames.copy())
        ends.append(ended | cut)
        assert frames.dtype == np.int8
        assert frames.shape == (3, 1, 4, 1)
    for copy in range(3):
        own = gymnasium.make("CartPole-v1")
        values, _ = own.reset(seed=5 + copy)
        for step in range(60):
            scaled = np.rint(values.astype(np.float64) / np.array(SPREAD) * 32)
            assert seen[step][copy, 0, :, 0].tolist() == np.clip(scaled, -127, 127).tolist()
            values, _, ended, cut, _ = own.step(int(actions[step, copy]))
            assert ends[step][copy] == (ended or cut)
            if ended or cut:
                break
    games.close()


def test_an_episode_does_not_depend_on_what_was_played_before() -> None:
    task = cartpole()
    games = make_games(task, None, 2)
    games.reset(seed=1)
    for _ in range(30):
        games.step(np.array([1, 0]))
    again, _ = games.reset(seed=np.array([9]), options={"reset_mask": np.array([False, True])})
    assert task.environment is not None
    alone = World(task.environment)
    alone.reset(9)
    assert np.array_equal(again[1], alone.observe())
    for action in (0, 1, 1):
        frames, rewards, *_ = games.step(np.array([0, action]))
        reward, ended = alone.act(action)
        assert np.array_equal(frames[1], alone.observe())
        assert (rewards[1], ended) == (reward, False)


def test_an_episode_of_the_time_limit_is_truncated() -> None:
    task = cartpole(max_steps=3)
    assert task.environment is not None
    world = World(task.environment)
    world.reset(0)
    assert [world.act(step % 2)[1] for step in range(3)] == [False, False, True]
    assert world.truncated
    games = make_games(task, None, 1)
    games.reset(seed=0)
    for step in range(3):
        _, _, ended, cut, _ = games.step(np.array([step % 2]))
    assert (ended.tolist(), cut.tolist()) == ([False], [True])


def test_indices_and_flags_are_spikes(named: Any) -> None:
    task = world_task(Environment(named("Numbers-v0", spaces.Discrete(5, start=3))))
    assert task.environment is not None
    assert task.environment.decisions_per_s == 7
    games = make_games(task, None, 4)
    frames, _ = games.reset(seed=0)
    assert frames.dtype == np.uint8
    assert frames.shape == (4, 1, 5, 1)
    assert frames.sum((1, 2, 3)).tolist() == [1] * 4
    own = make_environment(task.environment)
    assert [int(own.reset(seed=seed)[0]) - 3 for seed in range(4)] == (
        frames[:, 0, :, 0].argmax(1).tolist()
    )
    flags = world_task(Environment(named("Flags-v0", spaces.MultiBinary((2, 3)))))
    shown, _ = make_games(flags, None, 2).reset(seed=0)
    assert shown.shape == (2, 1, 6, 1)
    assert set(np.unique(shown)) <= {0, 1}


DICT = spaces.Dict(
    {
        "arm": spaces.Tuple((spaces.MultiBinary(2), spaces.Box(-9.0, 9.0, (2, 1)))),
        "board": spaces.Box(0, 255, (2, 1, 2), np.uint8),
        "cards": spaces.MultiDiscrete([2, 3], start=[5, 0]),
        "place": spaces.Discrete(4, start=1),
        "words": spaces.Text(5),
    }
)


def test_parts_of_an_observation_are_sent_in_the_order_that_is_stated(named: Any) -> None:
    """Every value worked out by hand from what gymnasium shows."""

    class Board(spaces.Box):
        def sample(self, *_: Any, **__: Any) -> Any:
            return np.array([[[1, 0]], [[0, 2]]], np.uint8)

    DICT.spaces["board"] = Board(0, 255, (2, 1, 2), np.uint8)
    name = named("Parts-v0", DICT)
    order = ("place", "arm.1", "board", "cards", "arm.0")
    task = world_task(Environment(name, entries=order, symbols=(2, 3)))
    assert task.environment is not None
    seen = task.environment.found
    assert [(part.name, part.kind, part.size) for part in seen.parts] == [
        ("place", "discrete", 4),
        ("arm.1", "box", 2),
        ("board", "multidiscrete", 10),
        ("cards", "multidiscrete", 5),
        ("arm.0", "multibinary", 2),
    ]
    assert (seen.kind, seen.size, seen.graded) == ("parts", 23, True)
    means = (9.0,) * 4 + (1.0, -1.0) + (9.0,) * 17
    seen = seen.with_statistics(means, (2.0,) * 23)
    assert (seen.mean[:6], seen.deviation[:6]) == (
        (0.0,) * 4 + (1.0, -1.0),
        (1.0,) * 4 + (2.0, 2.0),
    )
    task = replace(task, environment=replace(task.environment, observation=seen))
    assert tasks_from_json([stored(task)], "a file") == (task,)
    games = make_games(task, None, 2)
    frames, _ = games.reset(seed=3)
    assert frames.dtype == np.int8
    for copy in range(2):
        shown, _ = make_environment(task.environment).reset(seed=3 + copy)
        numbers = shown["arm"][1].reshape(-1).astype(np.float64)
        expected = [
            *[32 * (shown["place"] - 1 == place) for place in range(4)],
            *np.clip(np.rint((numbers - [1.0, -1.0]) / 2 * 32), -127, 127),
            *[0, 32, 32, 0, 0, 32, 0, 0, 0, 32],
            *[32 * (shown["cards"][0] - 5 == card) for card in range(2)],
            *[32 * (shown["cards"][1] == card) for card in range(3)],
            *(32 * shown["arm"][0]),
        ]
        assert frames[copy, 0, :, 0].tolist() == expected
    alone = World(task.environment)
    alone.reset(3)
    assert np.array_equal(alone.observe(), frames[0])
    with pytest.raises(BadRequestError, match=r"entries: 'leg'; must be of arm.0, arm.1, board, "):
        world_task(Environment(name, entries=("leg",)))
    with pytest.raises(BackendFailedError, match="which is not in its space"):
        make_games(
            world_task(Environment(name, entries=("board",), symbols=(2, 2))), None, 1
        ).reset(seed=0)


def test_tuples_of_choices_are_spikes() -> None:
    """Blackjack: the player's sum, the dealer's card, a usable ace."""
    task = world_task(Environment("Blackjack-v1"))
    assert task.environment is not None
    seen = task.environment.found
    assert ([part.size for part in seen.parts], seen.graded) == ([32, 11, 2], False)
    frames, _ = make_games(task, None, 3).reset(seed=1)
    assert (frames.dtype, frames.shape) == (np.uint8, (3, 1, 45, 1))
    for copy in range(3):
        own = gymnasium.make("Blackjack-v1")
        total, card, ace = own.reset(seed=1 + copy)[0]
        assert np.flatnonzero(frames[copy]).tolist() == [total, 32 + card, 43 + ace]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (spaces.MultiDiscrete([2, 3], start=[0, 4]), [[0, 4], [0, 5], [0, 6], [1, 4], [1, 5]]),
        (spaces.MultiBinary((2, 1)), [[[0], [0]], [[0], [1]], [[1], [0]], [[1], [1]]]),
    ],
)
def test_a_combination_of_choices_is_one_action(named: Any, taken: Any, expected: Any) -> None:
    task = world_task(Environment(named("Combined-v0", spaces.Discrete(2), taken)))
    assert task.environment is not None
    assert tasks_from_json([stored(task)], "a file") == (task,)
    world = World(task.environment)
    world.reset(0)
    for action in range(len(expected)):
        world.act(action)  # the environment checks that its space contains it
    made: Any = world._made.unwrapped
    assert [np.asarray(own).tolist() for own in made.taken] == expected


def test_masks_are_those_that_the_environment_gives() -> None:
    task = world_task(Environment("Taxi-v4"))
    assert task.environment is not None
    assert task.environment.masked
    assert tasks_from_json([stored(task)], "a file") == (task,)
    games, own = make_games(task, None, 2), gymnasium.make("Taxi-v4")
    games.reset(seed=4)
    _, info = own.reset(seed=5)
    for action in (0, 1, 2, 3, 3, 1):
        assert games.masks is not None
        assert games.masks[1].tolist() == info["action_mask"].astype(bool).tolist()
        games.step(np.array([0, action]))
        *_, info = own.step(action)
    assert make_games(cartpole(), None, 1).masks is None


class Masked(Shows):
    """Allows the actions of its mask, by a method or, with `key`, by its information."""

    given: Any = (1, 0, 0, 1, 1)
    key = ""
    at_reset = True

    def __getattr__(self, name: str) -> Any:
        if name == "action_masks" and not self.key:
            return lambda: self.given
        raise AttributeError(name)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        seen, info = super().reset(seed=seed, options=options)
        return seen, {self.key: self.given} if self.key and self.at_reset else info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, over, cut, info = super().step(action)
        return seen, reward, over, cut, {self.key: self.given} if self.key else info


def masked_world(taken: spaces.Space[Any], mask: Any, key: str = "", **fields: Any) -> World:
    """An environment that gives a mask, started."""
    kind = type("Given", (Masked,), {"given": mask, "key": key, **fields})
    gymnasium.registry.pop("Masked-v0", None)
    gymnasium.register(
        "Masked-v0", lambda: kind(spaces.Discrete(2), taken), disable_env_checker=True
    )
    task = world_task(Environment("Masked-v0"))
    assert task.environment is not None
    world = World(task.environment)
    world.reset(0)
    return world


PAIR = ([0, 1], [1, 0, 1])
ARRAYS = tuple(np.array(part, np.int8) for part in PAIR)


@pytest.mark.parametrize(
    ("choices", "mask", "key", "allowed"),
    [
        # Combinations in order: (0, 0), (0, 1), (0, 2), (1, 0), ...
        ([2, 3], (1, 0, 0, 1, 1), "", [0, 1, 1, 0, 0, 0]),
        (
            [2, 3],
            ARRAYS,
            "action_mask",
            [0, 0, 0, 1, 0, 1],
        ),
        ([2, 3], PAIR, "action_mask", [0, 0, 0, 1, 0, 1]),
        ([2, 3], [0, 0, 0, 0, 1, 0], "action_mask", [0, 0, 0, 0, 1, 0]),
        # As many flags as combinations: still flags of each number.
        ([2, 2], (1, 0, 1, 1), "", [1, 1, 0, 0]),
    ],
)
def test_masks_may_be_of_each_number(
    named: Any, choices: list[int], mask: Any, key: str, allowed: list[int]
) -> None:
    world = masked_world(spaces.MultiDiscrete(choices), mask, key)
    assert world.mask is not None
    assert world.mask.astype(int).tolist() == allowed


@pytest.mark.filterwarnings("error")
def test_numbers_that_no_float_can_scale_are_cut_off() -> None:
    seen = Observation("box", 2, mean=(0.0, 1.0), deviation=(1e-6, 1e-6))
    sent = as_messages(np.array([[1e308, -1e308]]), seen)
    assert sent.reshape(-1).tolist() == [127, -127]


@pytest.mark.parametrize("entry", [Door, "tests.support.worlds:Door"])
def test_a_module_that_was_imported_before_needs_no_trust(named: Any, entry: Any) -> None:
    """Its code has run; only what it has itself registered is taken."""
    gymnasium.register("Own-v0", entry, disable_env_checker=True)
    for module in ("tests.support.worlds", "tests"):
        task = world_task(Environment(f"{module}:Own-v0"))
        assert task.game == f"{module}:Own-v0"
    for module in ("tests.support.world", "numpy"):
        with pytest.raises(BadRequestError, match="--trust if you know it, or import it before"):
            world_task(Environment(f"{module}:Own-v0"))


@pytest.mark.parametrize("mask", [[0] * 6, (), [1, 0], ([1, 1], [1]), 3])
def test_a_mask_that_allows_nothing_is_one_line(named: Any, mask: Any) -> None:
    with pytest.raises(BackendFailedError, match="must allow one or more of 6 actions"):
        masked_world(spaces.MultiDiscrete([2, 3]), mask)


def test_masks_that_begin_after_the_start_are_not_ignored(named: Any) -> None:
    world = masked_world(spaces.Discrete(2), [1, 0], "action_mask", at_reset=False)
    with pytest.raises(BackendFailedError, match="give it there, too, and train again"):
        world.act(0)


@pytest.mark.parametrize(
    ("mask", "allowed"), [([0, 1], [False, True]), ([0, 0], [True, True]), (None, [True, True])]
)
def test_the_mask_at_the_end_of_a_truncated_episode_is_its_own(
    named: Any, mask: Any, allowed: list[bool]
) -> None:
    """It values what the episode would go on with; without any, nothing is ruled out."""
    world = masked_world(spaces.Discrete(2), [0, 1], "action_mask")
    for decision in range(5):
        if decision == 4:
            world._made.unwrapped.given = mask
        _, over = world.act(1)
        assert world.mask is not None
        assert world.mask.tolist() == (allowed if over else [False, True])
    assert world.truncated


def test_a_method_that_gives_masks_may_fail(named: Any) -> None:
    with pytest.raises(BackendFailedError, match="its action_masks failed: TypeError"):
        masked_world(spaces.Discrete(2), None, action_masks=np.ones(2))


class Odd(Shows):
    """Tells other things in each copy, states its rate in words, and cannot be closed."""

    closes = True

    def __init__(self, shown: spaces.Space[Any]) -> None:
        super().__init__(shown)
        self.metadata = {"render_fps": "fast"}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, over, cut, _ = super().step(action)
        places = int(self.np_random.integers(1, 9))
        return seen, reward, over, cut, {"seen": np.zeros(places), "goal": [None, 1][places % 2]}

    def close(self) -> None:
        if not self.closes:
            raise RuntimeError("a motor still runs")


def test_what_else_an_environment_tells_does_no_harm(named: Any) -> None:
    gymnasium.register("Odd-v0", lambda: Odd(spaces.Discrete(2)), disable_env_checker=True)
    task = world_task(Environment("Odd-v0"))
    assert task.environment is not None
    assert task.environment.decisions_per_s == 30
    said = rate_note(Environment("Odd-v0"))
    assert said is not None
    assert said.startswith("Odd-v0: states no render_fps in its metadata")
    assert rate_note(Environment("Odd-v0", decisions_per_s=30.0)) is None
    assert rate_note(Environment("CartPole-v1")) is None
    games = make_games(task, None, 3)
    games.reset(seed=0)
    for _ in range(8):
        games.step(np.zeros(3, np.int64))
    games.close()


def test_an_environment_that_cannot_be_closed_is_one_line(
    named: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gymnasium.register("Odd-v0", lambda: Odd(spaces.Discrete(2)), disable_env_checker=True)
    task = world_task(Environment("Odd-v0"))
    assert task.environment is not None
    world = World(task.environment)
    monkeypatch.setattr(Odd, "closes", False)
    with pytest.raises(BackendFailedError, match="its close failed: RuntimeError: a motor"):
        world.close()
    with pytest.raises(BadRequestError, match="cannot be closed: a motor still runs"):
        world_task(Environment("Odd-v0"))
    # What was refused before is told.
    gymnasium.registry.pop("Odd-v0")
    gymnasium.register("Odd-v0", lambda: Odd(box(0, 1e-7, 3)), disable_env_checker=True)
    with pytest.raises(BadRequestError, match="count as constant"):
        world_task(Environment("Odd-v0"))


def test_numbers_that_would_count_as_constant_are_refused(named: Any) -> None:
    name = named("Narrow-v0", spaces.Dict({"a": box(-1, 1, 2), "b": box(0, 1e-7, 3)}))
    with pytest.raises(BadRequestError, match=r"entry b is .* 1e-07 apart count as constant"):
        world_task(Environment(name))
    task = world_task(Environment(name, entries=("a",)))
    assert task.environment is not None
    assert task.environment.found.size == 2
    named("Fixed-v0", box(3, 3, 2))
    world_task(Environment("Fixed-v0"))


def test_symbols_of_no_array_are_refused() -> None:
    with pytest.raises(BadRequestError, match=r"symbols: \[3\]; it shows no array of integers"):
        world_task(Environment("CartPole-v1", symbols=(3,)))


@pytest.mark.skipif(find_spec("minigrid") is None, reason="the extra minigrid is not installed")
def test_minigrid_shows_symbols_and_the_words_of_its_mission() -> None:
    task = world_task(Environment("MiniGrid-Fetch-5x5-N2-v0"))
    assert task.environment is not None
    assert task.environment.symbols == (11, 6, 3)
    parts = {part.name: part.size for part in task.environment.found.parts}
    assert parts == {"direction": 4, "image": 980, "mission": 13}
    frames, _ = make_games(task, None, 1).reset(seed=2)
    own: Any = gymnasium.make("MiniGrid-Fetch-5x5-N2-v0")
    shown, _ = own.reset(seed=2)
    flags = frames[0, 0, :, 0]
    assert flags[:4].argmax() == shown["direction"]
    symbols = flags[4:984].reshape(7, 7, 20)
    for axis, (start, end) in enumerate(((0, 11), (11, 17), (17, 20))):
        assert np.array_equal(symbols[..., start:end].argmax(2), shown["image"][..., axis])
    spaces_ = own.observation_space["mission"].ordered_placeholders
    words = [spaces_[0][:5].index(next(w for w in spaces_[0] if shown["mission"].startswith(w)))]
    assert flags[984:989].argmax() == words[0]
    assert flags.sum() == 1 + 3 * 49 + 3
    with pytest.raises(BadRequestError, match="entry mission is "):
        world_task(Environment("BabyAI-GoToRedBall-v0"))


MT10 = (
    *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close"),
    *("button-press-topdown", "peg-insert-side", "window-open", "window-close"),
)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("metaworld") is None, reason="the extra metaworld is not installed")
@pytest.mark.parametrize("name", MT10)
def test_meta_world_repeats_the_episodes_of_its_seeds(name: str) -> None:
    """Whatever was played before, and in episodes that follow without a seed of their own."""
    task = world_task(Environment(f"Meta-World/{name}-v3"))
    assert task.environment is not None
    assert (task.environment.found.size, task.environment.actions) == (39, 4)
    one, other = make_environment(task.environment), make_environment(task.environment)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 4)).astype(np.float32)

    def played(env: Any, seed: int | None) -> list[Any]:
        rows = [env.reset(seed=seed)[0]]
        for action in actions:
            shown, reward, _, _, info = env.step(action)
            assert "success" in info
            rows.append(np.append(shown, reward))
        return rows

    played(one, 3)
    known = [*played(one, 7), *played(one, None)]
    again = [*played(other, 7), *played(other, None)]
    for row, same in zip(known, again, strict=True):
        assert np.array_equal(row, same)
    goals = [known[0][-3:], played(one, 8)[0][-3:]]
    # Goals are shown; of most tasks they differ from seed to seed.
    assert goals[0].any()
    assert not np.array_equal(*goals)
    one.close()
    other.close()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "find_spec", lambda name: None)
    monkeypatch.setattr(worlds.sys, "version_info", (3, 11))
    with pytest.raises(BackendMissingError, match=r'pip install "mtspark\[minigrid\]"'):
        world_task(Environment("MiniGrid-NoSuch-v0"))
    with pytest.raises(BackendMissingError, match=r'pip install "mtspark\[metaworld\]"'):
        world_task(Environment("Meta-World/no-such-v3"))
    monkeypatch.setattr(worlds.sys, "version_info", (3, 10))
    with pytest.raises(BackendMissingError, match=r"no release for Python 3.10"):
        world_task(Environment("MiniGrid-NoSuch-v0"))


def test_the_first_action_of_a_space_is_0_for_an_agent(named: Any) -> None:
    taken = spaces.Discrete(3, start=-1)
    task = world_task(Environment(named("Shifted-v0", spaces.Discrete(2), taken)))
    assert task.legal_actions == (0, 1, 2)
    games = make_games(task, None, 3)
    games.reset(seed=0)
    games.step(np.array([0, 1, 2]))  # an action outside of the space fails in the environment


@pytest.mark.parametrize(
    ("seen", "taken", "problem"),
    [
        (
            spaces.Tuple((spaces.Text(5), spaces.Discrete(2))),
            None,
            "observation space Tuple(Text(1, 5, char",
        ),
        (spaces.Discrete(5000), None, "Discrete(5000); 1,024 values is the limit"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), None, "(8, 8, 3), uint8); of pictures"),
        (
            spaces.Dict({"a": spaces.Discrete(2), "words": spaces.Text(5)}),
            None,
            "entry words is Text(1, 5, charset=",
        ),
        (
            spaces.Dict({"a": spaces.Discrete(600), "b": spaces.MultiDiscrete([300, 300])}),
            None,
            "; 1,024 values is the limit",
        ),
        (
            spaces.Discrete(2),
            spaces.MultiDiscrete([7, 7, 7]),
            "MultiDiscrete([7 7 7]); 256 actions is the limit (here 343 combinations)",
        ),
        (
            spaces.Discrete(2),
            spaces.Discrete(10**6),
            "action space Discrete(1000000); 256 actions is the limit",
        ),
        (
            spaces.Discrete(2),
            spaces.Box(-np.inf, np.inf, (2,)),
            "action space Box(-inf, inf, (2,), float32); each number needs a lower and a higher",
        ),
        (
            spaces.Discrete(2),
            spaces.Box(np.array([0.0, 1.0]), np.array([1.0, 1.0])),
            "each number needs a lower and a higher bound",
        ),
        (
            spaces.Discrete(2),
            spaces.Box(-1.0, 1.0, (40, 25_000)),
            "(40, 25000), float32); 1 to 256 numbers can be sent",
        ),
        (
            spaces.Discrete(2),
            spaces.Box(0, 9, (2,), np.int32),
            "int32); a Box of floats is needed, or MultiDiscrete",
        ),
        (spaces.Discrete(2), spaces.Text(5), "MultiBinary or Box of floats is needed"),
        (spaces.Box(-1, 1, (0,)), None, "float32); it shows no value; 1 or more is needed"),
        (
            spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(3)})}),
            None,
            "two entries that are called 'a.b', ('a', 'b') and ('a.b',); rename one of them",
        ),
    ],
)
def test_spaces_that_do_not_fit_are_refused_in_one_line(
    named: Any, seen: Any, taken: Any, problem: str
) -> None:
    with pytest.raises(BadRequestError) as error:
        world_task(Environment(named("Strange-v0", seen, taken)))
    assert problem in str(error.value)
    assert str(error.value).startswith("Strange-v0: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        (Environment("NoSuchThing-v1"), "unknown environment 'NoSuchThing-v1'"),
        (Environment("CartPole-v1", {"gravity": 1}), "CartPole-v1: cannot be made"),
        (Environment("CartPole-v1", max_steps=-2), "CartPole-v1.max_steps: -2; must be"),
        (Environment("os:CartPole-v1"), "code of the module os; add --trust"),
        (Environment("CartPole-v1", wrappers=(Wrapper("RecordVideo"),)), "wrappers: 'RecordVideo'"),
        (Environment("CartPole-v1", actions=2), "observation: 'given'; must be left out"),
        (hiding("CartPole-v1", [4]), "hidden is [4]; must be a list of places from 0 to 3"),
        (hiding("CartPole-v1", [-1]), "hidden is [-1]; must be a list of places from 0 to 3"),
        (hiding("CartPole-v1", [True]), "hidden is [True]; must be a list of places from 0 to 3"),
        (hiding("CartPole-v1", "1"), "hidden is 1; must be a list of places from 0 to 3"),
        (hiding("CartPole-v1", []), "hidden is []; must be a list of places from 0 to 3"),
        (hiding("CartPole-v1", [0, 1, 2, 3]), "must leave some of 4 numbers"),
        (hiding("FrozenLake-v1", [0]), "the observation is Discrete(16); must be a Box of one"),
        (Environment("CartPole-v1", wrappers=(Wrapper("HideEntries"),)), "cannot be made"),
        (
            Environment("CartPole-v1", {"render_mode": "human"}),
            "CartPole-v1.arguments.render_mode: 'human'; must be left out: mtspark gives it",
        ),
        (Environment("CartPole-v1", {"max_episode_steps": 9}), "left out: write max_steps beside"),
    ],
)
def test_an_environment_that_cannot_be_made_is_named(
    environment: Environment, problem: str
) -> None:
    with pytest.raises(MtsparkError) as error:
        world_task(environment)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_an_environment_that_changed_since_training_is_refused() -> None:
    task = cartpole()
    assert task.environment is not None
    other = replace(
        task.environment,
        observation=Observation("box", 3, (0.0,) * 3, (1.0,) * 3),
    )
    with pytest.raises(BadRequestError, match="shows 4 values and takes 2 actions here"):
        make_games(replace(task, environment=other), None, 1)


class Failing(Shows):
    """Breaks what an environment promises, in one way."""

    reward: Any = 1.0
    shown: Any = None
    info: Any = None
    fault: Exception | None = None

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (2,)))

    def step(self, action: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        seen, *_ = super().step(action)
        return seen if self.shown is None else self.shown, self.reward, False, False, self.info


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (
            {"fault": OSError("the motor\nis gone")},
            r"Failing-v0: its step failed: OSError: the motor is gone \(test_worlds.py, line \d+\)",
        ),
        ({"reward": np.nan}, r"Failing-v0: gave the reward nan; must be one finite number"),
        ({"reward": np.ones(1)}, r"gave the reward array\(\[1.\]\); must be one finite number"),
        ({"reward": None}, "gave the reward None; must be one finite number"),
        ({"shown": np.zeros(3)}, r"showed array.*not in its space: 3 numbers, it has 2"),
        ({"shown": [0.0, np.inf]}, r"Failing-v0: showed \[0.0, inf\], .* number is not finite"),
        ({"shown": "left"}, "showed 'left', which is not in its space: could not convert"),
        ({"info": 3}, "its step failed: TypeError: 'int' object is not iterable"),
    ],
)
def test_an_environment_that_breaks_its_promise_is_one_line(
    broken: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch, named: Any
) -> None:
    gymnasium.register("Failing-v0", Failing, disable_env_checker=True)
    monkeypatch.setattr(Failing, "info", {})
    task = world_task(Environment("Failing-v0"))
    assert task.environment is not None
    seen = task.environment.found.with_statistics((0.0,) * 2, (1.0,) * 2)
    task = replace(task, environment=replace(task.environment, observation=seen))
    games, world = make_games(task, None, 1), World(replace(task.environment, observation=seen))
    games.reset(seed=0)
    world.reset(0)
    for name, value in broken.items():
        monkeypatch.setattr(Failing, name, value)
    for play in (lambda: games.step(np.array([0])), lambda: world.act(0)):
        with pytest.raises(BackendFailedError, match=problem) as error:
            play()
        assert "\n" not in str(error.value)


def test_a_box_of_flags_is_sent_as_spikes(named: Any) -> None:
    task = world_task(Environment(named("Lights-v0", spaces.Box(0, 1, (2, 2, 2), np.bool_))))
    assert task.environment is not None
    assert task.environment.found == Observation("multibinary", 8)
    frames, _ = make_games(task, None, 3).reset(seed=0)
    for copy in range(3):
        shown, _ = make_environment(task.environment).reset(seed=copy)
        assert frames[copy].reshape(2, 2, 2).tolist() == shown.astype(int).tolist()


def test_a_module_in_the_folder_at_hand_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Any, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "own_world_of_mine.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    set_policy(Policy(FileLimits(), True))
    request.addfinalizer(lambda: set_policy(None))
    with pytest.raises(BadRequestError, match=r"No module named .*; install it, or work in the"):
        world_task(Environment("own_world_of_mine:Mine-v0"))
    monkeypatch.chdir(tmp_path)
    task = world_task(Environment("own_world_of_mine:Mine-v0"))
    assert (task.name, task.game) == ("Mine-v0", "own_world_of_mine:Mine-v0")
    del sys.modules["own_world_of_mine"]


def test_numbers_that_are_none_are_not_sent(named: Any) -> None:
    class Broken(spaces.Box):
        def sample(self, *_: Any, **__: Any) -> Any:
            return np.array([np.nan, 0], np.float32)

    name = named("Broken-v0", Broken(-1.0, 1.0, (2,)))
    task = world_task(Environment(name))
    with pytest.raises(BackendFailedError, match="not finite"):
        make_games(task, None, 1).reset(seed=0)


def test_statistics_are_those_of_all_rows_together() -> None:
    generator = np.random.default_rng(2)
    rows = generator.normal([3.0, -2.0, 5.0], [1.0, 100.0, 0.0], (1000, 3))
    running = RunningStatistics(3)
    for part in np.split(rows, [1, 1, 7, 400]):
        running.add(part)
    assert running.count == 1000
    assert np.allclose(running.mean, rows.mean(0), rtol=1e-12)
    assert np.allclose(running.deviation[:2], rows.std(0)[:2], rtol=1e-12)
    assert running.deviation[2] == 1.0
    other = RunningStatistics(3)
    other.restore(json.loads(json.dumps(running.state())))
    other.add(rows[:3])
    running.add(rows[:3])
    assert (other.mean, other.deviation) == (running.mean, running.deviation)


def test_values_far_away_are_sent_as_the_end_of_the_range() -> None:
    seen = Observation("box", 3, (1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    sent = as_messages(np.array([[1e12, -1e12, 2.0], [1.0, 8.9, 1.02]]), seen)
    assert sent.reshape(2, 3).tolist() == [[127, -127, 16], [0, 126, 0]]


def test_a_box_without_ends_needs_statistics() -> None:
    """Its task has none; a file that lacks them is refused (see above)."""
    task = world_task(Environment("CartPole-v1"))
    assert task.environment is not None
    assert task.environment.found == Observation("box", 4)
    assert box(-1, 1, 2).shape == (2,)

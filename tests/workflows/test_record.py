"""Recorded play: the same numbers as the environments themselves give, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import mtspark
from mtspark.core.backend import Moment
from mtspark.core.datasets import RecordedData, read_dataset
from mtspark.core.environments import Epsilon, Sampling, side_by_side
from mtspark.core.errors import BackendMissingError, BadRequestError
from mtspark.core.progress import Progress
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.rl.collect import TaskGames
from mtspark.train.rl.start import run_tasks
from mtspark.workflows.record import RecordRequest, exploring_of, record_play
from mtspark.workflows.record.recording import Collector
from tests.support.worlds import Door, register_door

pytest.importorskip("minari")


@pytest.fixture(autouse=True, scope="module")
def door() -> Iterator[None]:
    register_door()
    yield
    gymnasium.registry.pop("Door-v0")


def agent_file(folder: Path, *games: str, **network: Any) -> Path:
    sizes = {"hidden": 8, "time_steps": 2, "dendrite_segments": 0, **network}
    config = to_config({"games": list(games), "network": sizes}, "recipe")
    assert isinstance(config, TrainConfig)
    # With statistics of random play, as a run would begin.
    tasks = tuple(
        TaskGames(task, config.protocol, 1, 1, seed=1, index=index).task
        for index, task in enumerate(side_by_side(run_tasks(config)))
    )
    torch.manual_seed(1)
    path = folder / "a.pt"
    save_agent(Agent(MTSparkNetwork(config.network).eval(), tasks, None), path)
    return path


def recorded(agent: Path, folder: Path, **request: Any) -> RecordedData:
    result = record_play(agent, folder, RecordRequest(**request))
    return read_dataset(result.tasks[0].path / "data")


def test_a_recording_is_what_the_environment_gives(tmp_path: Path) -> None:
    data = recorded(
        agent_file(tmp_path, "CartPole-v1"), tmp_path / "d", episodes=3, seed=7, max_decisions=12
    )
    made = gymnasium.make("CartPole-v1")
    cut = 0
    for number, one in enumerate(data.episodes):
        shown, _ = made.reset(seed=7 + number)
        assert np.array_equal(one.shown[0], shown)
        ended = False
        for step, action in enumerate(one.actions):
            assert not ended
            shown, reward, ended, _, _ = made.step(int(action))
            assert np.array_equal(one.shown[step + 1], shown)
            assert one.rewards[step] == reward
        assert one.ended == ended
        assert ended or len(one) == 12
        cut += not ended
    assert data.origin is not None
    assert data.origin.played["seed"] == 7


def test_numbers_and_their_clipping(tmp_path: Path) -> None:
    """Actions are those that the environment was given."""
    path = tmp_path / "a.pt"
    config = to_config(
        {"games": ["Pendulum-v1"], "algorithm": "sac", "reward_clipping": False}, "recipe"
    )
    assert isinstance(config, TrainConfig)
    task = TaskGames(run_tasks(config)[0], config.protocol, 1, 1, seed=1).task
    save_agent(Agent(MTSparkNetwork(config.network).eval(), (task,), None), path)
    data = recorded(
        path, tmp_path / "d", episodes=1, max_decisions=4, exploring=Epsilon(chance=0.5)
    )
    made, (one,) = gymnasium.make("Pendulum-v1"), data.episodes
    made.reset(seed=0)
    assert one.actions.shape == (4, 1)
    for step, action in enumerate(one.actions):
        shown, reward, *_ = made.step(action)
        assert np.array_equal(one.shown[step + 1], np.array(shown, np.float64))
        assert one.rewards[step] == reward
    with pytest.raises(BadRequestError, match="by which deviation"):
        recorded(path, tmp_path / "e", episodes=1, exploring=Sampling(1))


def test_masks_are_those_of_the_environment(tmp_path: Path) -> None:
    data = recorded(
        agent_file(tmp_path, "Door-v0"),
        tmp_path / "d",
        episodes=4,
        max_decisions=5,
        exploring=Epsilon(0.5),
    )
    made = gymnasium.make("Door-v0")
    door: Any = made.unwrapped
    assert isinstance(door, Door)
    for number, one in enumerate(data.episodes):
        made.reset(seed=number)
        assert one.masks is not None
        assert one.masks.shape == (len(one) + 1, 3)
        for step, action in enumerate(one.actions):
            assert np.array_equal(one.masks[step], door.mask != 0)
            # One-hot, as a flag for each state.
            assert one.shown[step].tolist() == np.eye(4)[door.state].tolist()
            made.step(int(action))
        # A truncated episode is valued by what it could go on with; nothing is chosen at an end.
        assert np.array_equal(one.masks[-1], door.mask != 0) != one.ended
        assert one.masks[-1].all() == one.ended
    assert len({one.ended for one in data.episodes}) == 2
    assert len({tuple(one.actions) for one in data.episodes}) > 1


def test_each_task_has_a_dataset_and_the_same_call_the_same_bytes(tmp_path: Path) -> None:
    agent = agent_file(tmp_path, "Door-v0", "CartPole-v1")
    request = RecordRequest(episodes=2, max_decisions=5, exploring=Epsilon(0.3))
    first = record_play(agent, tmp_path / "one", request)
    record_play(agent, tmp_path / "two", request)
    assert [one.dataset for one in first.tasks] == ["Door-v0-v0", "CartPole-v1-v0"]
    files = sorted(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 4
    for path in files:
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()
    again = record_play(agent, tmp_path / "one", request)
    assert [one.is_new for one in again.tasks] == [False, False]
    assert [one.mean_return for one in again.tasks] == [one.mean_return for one in first.tasks]
    with pytest.raises(BadRequestError, match="from another recording"):
        record_play(agent, tmp_path / "one", RecordRequest(episodes=3, max_decisions=5))


def test_a_recording_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    agent, folder = agent_file(tmp_path, "CartPole-v1"), tmp_path / "d"

    def stop(report: Progress) -> None:
        if "decisions" in report.detail:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_play(agent, folder, RecordRequest(episodes=2), progress=stop)
    assert list(folder.iterdir()) == []


def test_groups_of_games_are_written_in_the_order_of_their_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Games that play side by side end in another order than they began."""
    monkeypatch.setattr("mtspark.sim.play.MAX_GAMES_AT_ONCE", 3)
    agent = agent_file(tmp_path, "CartPole-v1")
    calls: list[int] = []
    call = Collector.__call__

    def counted(self: Collector, moment: Moment) -> None:
        calls.append(len(moment.episodes))
        call(self, moment)

    monkeypatch.setattr(Collector, "__call__", counted)
    several = recorded(agent, tmp_path / "d", episodes=5, exploring=Epsilon(0.9))
    assert calls[0] == 3
    lengths = [len(one) for one in several.episodes]
    assert len(set(lengths)) > 1
    for number, length in enumerate(lengths):
        (alone,) = recorded(
            agent, tmp_path / str(number), episodes=1, seed=number, exploring=Epsilon(0.9)
        ).episodes
        assert len(alone) == length
        assert np.array_equal(alone.shown, several.episodes[number].shown)


def test_epsilon_is_the_share_of_random_actions() -> None:
    """A net that prefers action 1 always; the random ones are half 0."""
    from mtspark.core.environments import drawn_actions
    from tests.support.worlds import cartpole

    explored = Epsilon(0.4)
    generators = [explored.generator(seed) for seed in range(2000)]
    values = np.tile([0.0, 9.0], (2000, 1))
    drawn = drawn_actions(values, cartpole(), explored, generators)
    assert np.mean(drawn == 0) == pytest.approx(0.2, abs=0.03)
    with pytest.raises(BadRequestError, match="epsilon 0"):
        Epsilon(0.0)
    with pytest.raises(BadRequestError, match="leave one out"):
        exploring_of(1, 1.0, 0.5)


def test_requests_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agent_file(tmp_path, "CartPole-v1")
    for request, reason in [
        (RecordRequest(seed=-1), "seed -1"),
        (RecordRequest(sticky=1.0), "sticky 1"),
        (RecordRequest(tasks=("pong",)), "unknown task 'pong'"),
        (RecordRequest(episodes=0), "at least 1"),
    ]:
        with pytest.raises(BadRequestError, match=reason):
            record_play(agent, tmp_path / "d", request)
    assert not (tmp_path / "d").exists()
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(BackendMissingError, match=r"pip install .mtspark\[offline\]."):
        record_play(agent, tmp_path / "d", RecordRequest())


@pytest.mark.slow
def test_the_chip_records_what_it_plays(tmp_path: Path) -> None:
    chip = mtspark.export(agent_file(tmp_path, "CartPole-v1"))
    chip.save(tmp_path / "a.deploy")
    data = recorded(tmp_path / "a.deploy", tmp_path / "d", episodes=2, seed=3)
    played = chip.play("CartPole-v1", episodes=2, seed=3).run
    assert [tuple(one.actions) for one in data.episodes] == [
        episode.actions for episode in played.episodes
    ]
    assert data.origin is not None
    assert data.origin.played["backend"] == "engine"


@pytest.mark.slow
def test_games_of_ale_are_recorded_as_frame_stacks(tmp_path: Path) -> None:
    from mtspark.core.environments import GameProtocol, make_games, task_for_game

    torch.manual_seed(0)
    config = to_config({"games": ["pong"], "network": {"hidden": 8, "time_steps": 2}}, "recipe")
    assert isinstance(config, TrainConfig)
    task, protocol = task_for_game("pong"), GameProtocol()
    path = tmp_path / "a.pt"
    save_agent(Agent(MTSparkNetwork(config.network).eval(), (task,), protocol), path)
    data = recorded(path, tmp_path / "d", episodes=2, max_decisions=6, exploring=Epsilon(1.0))
    for number, one in enumerate(data.episodes):
        games = make_games(task, protocol, 1)
        frames, _ = games.reset(seed=number)
        for step, action in enumerate(one.actions):
            assert np.array_equal(one.shown[step], frames[0])
            frames, rewards, *_ = games.step(np.array([action]))
            assert one.rewards[step] == rewards[0]
        assert np.array_equal(one.shown[-1], frames[0])
        games.close()

"""Tasks that are told apart by a flag in what they see, and tasks of one environment by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import mtspark
from mtspark.core.chip_network import ChipNetwork, Encoder
from mtspark.core.environments import Environment, Wrapper, tasks_from_json, tasks_to_json
from mtspark.core.environments.worlds import make_environment, world_task
from mtspark.core.environments.wrappers import TaskOneHot
from mtspark.core.errors import BadRequestError
from mtspark.deploy.lava import installed_lava
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.config import TrainConfig, config_to_json, to_config
from mtspark.train.rl.run import make_trainer, train
from tests.support.lava_checks import assert_lava_equals_engine
from tests.support.worlds import Shows

FIELDS: dict[str, Any] = {
    "games": ["light", "CartPole-v1"],
    "environments": [
        {"name": "light", "id": "CartPole-v1", "arguments": {"sutton_barto_reward": True}}
    ],
    "task_context": "one_hot",
    "games_per_task": 2,
    "rollout_steps": 4,
    "minibatches": 1,
    "total_steps": 48,
    "bfloat16": False,
    "network": {"hidden": 6, "time_steps": 3},
}
DQN = {"algorithm": "dqn", "replay": {"capacity": 40, "warmup": 8, "batch_size": 4}}
SAC = {
    "algorithm": "sac",
    "games": ["heavy", "Pendulum-v1"],
    "environments": [{"name": "heavy", "id": "Pendulum-v1", "arguments": {"g": 20.0}}],
    "reward_clipping": False,
    "replay": {"capacity": 40, "warmup": 8, "batch_size": 4},
    "sac": {"critic_layers": [8]},
}


def config(**changes: Any) -> TrainConfig:
    made = to_config({**FIELDS, **changes}, "recipe")
    assert isinstance(made, TrainConfig)
    return made


def test_the_flag_stands_beside_any_observation() -> None:
    inner = spaces.Box(-1, 1, (2,))
    pair = spaces.Tuple((spaces.Discrete(3), inner))
    named = spaces.Dict({"arm": inner, "hand": spaces.Discrete(3)})
    for space, names in (
        (inner, {"observation"}),
        (pair, {"0", "1"}),
        (named, {"arm", "hand"}),
    ):
        env = TaskOneHot(Shows(space), 1, 4)
        assert isinstance(env.observation_space, spaces.Dict)
        assert set(env.observation_space.spaces) == {*names, "task"}
        shown, _ = env.reset(seed=0)
        assert env.observation_space.contains(shown)
        assert shown["task"] == 1
    with pytest.raises(ValueError, match="must be 0 to 3"):
        TaskOneHot(Shows(inner), 4, 4)


def test_tasks_of_one_environment_see_their_own_flag() -> None:
    trainer = make_trainer(config())
    assert trainer.config.network.dendrite_segments == 0
    assert [task.name for task in trainer.tasks] == ["light", "CartPole-v1"]
    assert [task.game for task in trainer.tasks] == ["CartPole-v1", "CartPole-v1"]
    frames = trainer.observe()[:, 0, :, 0].numpy()
    assert frames.shape == (4, 4 + 2)
    # A flag beside numbers is the number 1, of 32 messages.
    assert frames[:, 4:].tolist() == [[32, 0]] * 2 + [[0, 32]] * 2
    numbers = trainer.games[1].values
    assert np.allclose(numbers[:, 4:], [[0, 1]] * 2)
    # The first is rewarded by Sutton and Barto: 0 and not 1.
    steps = trainer.games.step((0, 1), np.zeros(4, np.int64))
    assert [step.rewards.tolist() for step in steps] == [[0, 0], [1, 1]]


def test_both_has_dendrites_too_and_defaults_are_not_written() -> None:
    assert config(task_context="both").network.dendrite_segments == 1
    written = config_to_json(config(task_context="dendrites"))
    assert "task_context" not in written
    assert [set(entry) & {"name"} for entry in written["environments"]] == [{"name"}]
    plain = config(games=["CartPole-v1"], task_context="dendrites", environments=[])
    assert "name" not in str(config_to_json(plain)["environments"])
    task = world_task(Environment("CartPole-v1", name="light"))
    assert task.environment is not None
    seen = task.environment.found.with_statistics((0.0,) * 4, (1.0,) * 4)
    kept = (mtspark.environment_task("CartPole-v1", name="light", mean=[0] * 4, deviation=[1] * 4),)
    assert tasks_from_json(tasks_to_json(kept), "a file") == kept
    assert kept[0].name == "light"
    assert kept[0].environment is not None
    assert kept[0].environment.found == seen


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"games": ["CartPole-v1"], "environments": []}, "one game has no other to be told from"),
        ({"network": {"dendrite_segments": 1}}, "one_hot has none, both at least 1"),
        ({"environments": [{"name": "a b", "id": "CartPole-v1"}]}, "light"),
        ({"task_context": "told"}, "task_context"),
        (
            {
                "games": ["pong", "breakout"],
                "environments": [],
                "network": {"dendrite_segments": 2},
            },
            "one_hot has none, both at least 1",
        ),
        (
            {
                "games": ["pong", "breakout"],
                "environments": [],
                "network": {"variant": "mtspark-add"},
            },
            "recipe: task_context is 'one_hot', network.dendrite_segments 1: one_hot has none",
        ),
        (
            {
                "games": [f"game{number}" for number in range(20)],
                "environments": [],
                "protocol": {"screen_size": 18},
            },
            "frames of 18 pixels show which of at most as many games it is, these are 20; use",
        ),
    ],
)
def test_what_cannot_be_told_is_one_line(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRequestError, match=problem) as error:
        config(**changes)
    assert "\n" not in str(error.value)


def played_alike(network: ChipNetwork, row: int) -> list[Any]:
    """Play two games of a task on the engine, each spike of which the reference has, too."""
    seen: list[Any] = []
    name = network.tasks[row].name
    options: dict[str, Any] = {"episodes": 2, "seed": 3, "max_decisions": 4}
    fast = play(EngineChip(network), network, name, **options, trace=True, observe=seen.append)
    assert fast.episodes == play(ReferenceChip(network), network, name, **options).episodes
    chip = ReferenceChip(network)
    chip.start(2)
    for moment in seen:
        expected = chip.decide(moment.frames, row, trace=True).trace
        assert expected is not None
        for layer, spikes in expected.spikes.items():
            assert np.array_equal(moment.decision.trace.spikes[layer], spikes)
    return seen


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"task_context": "both"}, marks=pytest.mark.slow),
        pytest.param(DQN, marks=pytest.mark.slow),
        pytest.param(SAC, marks=pytest.mark.slow),
    ],
)
def test_such_an_agent_plays_on_the_chip_as_on_the_reference(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    if changes.get("algorithm") == "sac":
        pytest.importorskip("stable_baselines3")
    made = config(**changes)
    train(made, tmp_path / "run")
    network = mtspark.export(tmp_path / "run" / "agent.pt").network
    assert [task.name for task in network.tasks] == list(made.games)
    for row in range(len(network.tasks)):
        for moment in played_alike(network, row):
            assert moment.frames[:, 0, -2 + row, 0].tolist() == [32, 32]


GAMES = {
    "games": ["pong", "breakout"],
    "environments": [],
    "protocol": {"screen_size": 20, "frame_stack": 2, "noop_max": 3},
    "network": {"convolutions": [{"channels": 3, "kernel": 6, "stride": 4}], "hidden": 6},
}


@pytest.mark.slow
@pytest.mark.parametrize("context", ["one_hot", "both"])
def test_games_of_ale_show_their_task_on_the_chip_as_on_the_reference(
    context: str, tmp_path: Path
) -> None:
    made = config(**GAMES, task_context=context, total_steps=32)
    assert bool(made.network.dendrite_segments) == (context == "both")
    train(made, tmp_path / "run")
    chip = mtspark.export(tmp_path / "run" / "agent.pt")
    chip.save(tmp_path / "both.deploy")
    network = mtspark.load_bundle(tmp_path / "both.deploy").network
    assert [task.told for task in network.tasks] == [(0, 2), (1, 2)]
    for row in range(len(network.tasks)):
        seen = played_alike(network, row)
        for moment in seen:
            flags = moment.frames[:, :, -3:].reshape(2, 2, 3, 2, 10)
            assert (flags[:, :, :, row] == 255).all()
            assert not flags[:, :, :, 1 - row].any()
        # The flag is heard: without it, the same frames give other sums.
        blind = seen[0].frames.copy()
        blind[:, :, -3:] = 0
        chip_of_python = ReferenceChip(network)
        chip_of_python.start(2)
        values = chip_of_python.decide(blind, row).values
        assert not np.array_equal(values, seen[0].decision.values)


@pytest.mark.slow
@pytest.mark.third_party
@pytest.mark.skipif(
    installed_lava() is None, reason="lava-nc is missing: run `mtspark install-lava`"
)
@pytest.mark.parametrize("stock", [False, True])
def test_games_of_ale_show_their_task_in_lava_as_in_the_engine(stock: bool, tmp_path: Path) -> None:
    """Lava's own parts hear every step what ours hear as changes."""
    train(config(**GAMES, total_steps=32), tmp_path / "run")
    encoder = Encoder.EVERY_STEP if stock else Encoder.CHANGES
    network = mtspark.export(tmp_path / "run" / "agent.pt", encoder=encoder.value).network
    assert network.input.encoder is encoder
    told = []
    for row, task in enumerate(network.tasks):
        seen: list[Any] = []
        options: dict[str, Any] = {"episodes": 1, "seed": 3, "max_decisions": 3}
        play(EngineChip(network), network, task.name, **options, observe=seen.append)
        frames = [moment.frames for moment in seen]
        assert assert_lava_equals_engine(network, frames, row, stock=stock) > 0
        told.append(frames[0][:, :, -3:])
    assert not np.array_equal(*told)


@pytest.mark.slow
def test_goals_of_half_cheetah_are_rewarded_as_they_say() -> None:
    """Against the simulation's own positions."""
    pytest.importorskip("mujoco")
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 6)).astype(np.float32)

    def played(**settings: Any) -> tuple[list[float], list[float], list[float]]:
        env = make_environment(Environment("HalfCheetah-v5", **settings))
        env.reset(seed=1)
        data = env.unwrapped.data  # type: ignore[attr-defined]
        start, rewards, speeds, heights = data.qpos[1], [], [], []
        for action in actions:
            before = data.qpos[0]
            rewards.append(float(env.step(action)[1]))
            speeds.append((data.qpos[0] - before) / 0.05)
            heights.append(data.qpos[1] - start)
        env.close()
        return rewards, speeds, heights

    costs = [0.1 * float(np.sum(np.square(action))) for action in actions]
    rewards, speeds, _ = played(arguments={"forward_reward_weight": -1.0})
    assert rewards == pytest.approx([-v - c for v, c in zip(speeds, costs, strict=True)], rel=1e-5)
    to = Wrapper("TargetVelocity", {"velocity": 2.0})
    rewards, speeds, _ = played(wrappers=(to,))
    wanted = [-abs(v - 2) - c for v, c in zip(speeds, costs, strict=True)]
    assert rewards == pytest.approx(wanted, rel=1e-5)
    rewards, _, heights = played(wrappers=(Wrapper("Jump"),))
    wanted = [15 * z - c for z, c in zip(heights, costs, strict=True)]
    assert rewards == pytest.approx(wanted, rel=1e-5, abs=1e-6)

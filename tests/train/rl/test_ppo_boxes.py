"""Proximal policy optimisation on tasks that take different numbers of a decision."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import mtspark
from mtspark.sim.backends import ReferenceChip
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.rl.run import make_trainer, train
from tests.support.worlds import register_two

pytest.importorskip("stable_baselines3")

FIELDS: dict[str, Any] = {
    "games": ["Pendulum-v1", "Two-v0"],
    "algorithm": "ppo",
    "environments": [{"id": "Pendulum-v1", "max_steps": 5}],
    "games_per_task": [3, 2],
    "rollout_steps": 6,
    "epochs": 2,
    "minibatches": 2,
    "trace": 0.9,
    "total_steps": 60,
    "reward_clipping": False,
    "bfloat16": False,
    "ppo": {"critic_layers": [6], "deviation": 0.5, "entropy": 0.3},
    "network": {"hidden": 8, "dendrite_segments": 0, "time_steps": 3},
    "checkpoint_every_steps": 30,
    "final_learning_rate_fraction": 1.0,
}


@pytest.fixture(autouse=True, scope="module")
def named() -> Iterator[None]:
    register_two()
    yield
    del gymnasium.registry["Two-v0"]


def config(**changes: Any) -> TrainConfig:
    made = to_config({**FIELDS, **changes}, "recipe")
    assert isinstance(made, TrainConfig)
    return made


def test_a_task_has_chances_and_entropy_of_its_own_numbers_alone() -> None:
    """By hand: of Pendulum's one number, and of both of the other task."""
    trainer: Any = make_trainer(config(epochs=1, minibatches=1))
    policy = trainer.learner.policy
    with torch.no_grad():
        policy.log_spread.copy_(torch.tensor([[0.5, 9.9], [1.0, 0.25]]).log())
    rollout, _ = trainer.roll_out()
    task = rollout.seen.task.numpy()
    assert set(task.tolist()) == {0, 1}
    means = trainer.network(rollout.seen.frames, rollout.seen.task).detach().numpy()
    spreads = np.array([[0.5, np.nan], [1.0, 0.25]])[task]
    logs = -(((rollout.actions.numpy() - means) / spreads) ** 2) / 2
    logs = logs - np.log(spreads * math.sqrt(2 * math.pi))
    assert rollout.log_chances.numpy() == pytest.approx(np.nansum(logs, 1), abs=1e-4)
    measured = trainer.learner.learn(rollout, trainer.generator)
    entropies = np.nansum(0.5 * np.log(2 * math.pi * math.e * spreads**2), 1)
    assert measured["entropy_loss"] == pytest.approx(-entropies.mean(), abs=1e-5)
    # What no task uses is neither rewarded for its entropy nor moved.
    assert float(policy.log_spread.detach()[0, 1]) == pytest.approx(math.log(9.9), abs=1e-6)
    assert trainer.learner.deviation[0][0] != pytest.approx(0.5, abs=1e-5)
    assert [len(row) for row in trainer.learner.deviation] == [1, 2]


def test_each_task_takes_its_own_numbers() -> None:
    trainer: Any = make_trainer(config())
    drawn = np.array([[0.3, 7.0]] * 3 + [[0.3, -40.0]] * 2, np.float32)
    played = trainer._played(drawn)
    assert played[:3] == pytest.approx(np.array([[2 * math.tanh(0.3), 0.0]] * 3))
    assert played[3:] == pytest.approx(np.array([[-3 + 2 * (math.tanh(0.3) + 1), -3.0]] * 2))
    trainer.update()
    boxes = [task.environment.box for task in trainer.agent().tasks]
    assert [box.deviation for box in boxes] == [
        pytest.approx(row) for row in trainer.learner.deviation
    ]


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one() -> None:
    longer = config(total_steps=240)
    one, other = (make_trainer(longer) for _ in range(2))
    for _ in range(2):
        one.update()
        other.update()
    resumed: Any = make_trainer(longer, resumed=True)
    assert resumed.restore(other.state()) == ()
    for _ in range(2):
        assert one.update() == resumed.update()
    known = resumed.learner.policy.state_dict()
    own: Any = one
    for name, value in own.learner.policy.state_dict().items():
        assert torch.equal(value, known[name]), name


@pytest.mark.slow
def test_both_tasks_play_on_the_chip_as_on_the_reference(tmp_path: Path) -> None:
    result = train(config(), tmp_path / "run")
    agent = load_agent(result.path)
    sizes = [task.environment.box.size for task in agent.tasks if task.environment]  # type: ignore[union-attr]
    assert sizes == [1, 2]
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["ppo"]
    assert {"value 0 Pendulum-v1", "value 1 Two-v0"} <= set(last)
    assert "value 1 Pendulum-v1" not in last
    network = mtspark.export(result.path).network
    for task in network.tasks:
        options: dict[str, Any] = {"episodes": 2, "seed": 3, "max_decisions": 4}
        fast = play(EngineChip(network), network, task.name, **options)
        slow = play(ReferenceChip(network), network, task.name, **options)
        assert fast.episodes == slow.episodes

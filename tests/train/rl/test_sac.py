"""Soft actor-critic: our actor in stable-baselines3's gradient step, and runs that resume."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.environments import LARGEST_MESSAGE, MESSAGES_PER_DEVIATION
from mtspark.core.errors import BackendMissingError, DivergedError
from mtspark.train.checkpoint import load_agent
from mtspark.train.config import (
    TrainConfig,
    check_sizes,
    config_of,
    config_to_json,
    read_recipe,
    to_config,
)
from mtspark.train.rl.memory import Memory, Transitions
from mtspark.train.rl.run import make_trainer, train

pytest.importorskip("stable_baselines3")

FIELDS: dict[str, Any] = {
    "games": ["Pendulum-v1"],
    "algorithm": "sac",
    "environments": [{"id": "Pendulum-v1", "decision_delay": 1, "decisions_per_s": 20.0}],
    "games_per_task": 2,
    "rollout_steps": 6,
    "total_steps": 48,
    "reward_clipping": False,
    "replay": {"capacity": 30, "warmup": 12, "batch_size": 4, "update_every": 5},
    "sac": {"critic_layers": [8, 8]},
    "network": {"hidden": 6, "dendrite_segments": 0, "time_steps": 3},
    "checkpoint_every_steps": 12,
    "final_learning_rate_fraction": 1.0,
}


def config(**changes: Any) -> TrainConfig:
    made = to_config({**FIELDS, **changes}, "recipe")
    assert isinstance(made, TrainConfig)
    return made


def test_the_gradient_step_sees_the_actor_that_plays() -> None:
    trainer: Any = make_trainer(config())
    trainer.update()
    trainer.update()
    seen = torch.from_numpy(trainer._seen())
    mean, log_deviation, _ = trainer.learner.actor.get_action_dist_params(seen)
    observation = trainer.games.tasks[0].environment.found
    apart = (seen[:, :-1].numpy() - np.array(observation.mean)) / np.array(observation.deviation)
    messages = np.rint(apart * MESSAGES_PER_DEVIATION).clip(-LARGEST_MESSAGE, LARGEST_MESSAGE)
    assert (trainer.observe().numpy().reshape(2, -1) == messages).all()
    values = trainer.network(trainer.observe(), torch.zeros(2, dtype=torch.long))
    assert torch.allclose(mean, values)
    assert log_deviation.exp()[0].tolist() == pytest.approx(trainer.learner.deviation[0])
    action, log_chance = trainer.learner.actor.action_log_prob(seen)
    deviation = trainer.learner.deviation[0][0]
    for row in range(2):
        value, middle = math.atanh(action[row].item()), mean[row].item()
        # A Gaussian's density, divided by the slope of the tanh.
        density = math.exp(-(((value - middle) / deviation) ** 2) / 2)
        density /= deviation * math.sqrt(2 * math.pi) * (1 - action[row].item() ** 2)
        assert log_chance[row].item() == pytest.approx(math.log(density), abs=1e-2)


def test_a_gradient_step_puts_what_played_into_training_mode() -> None:
    trainer: Any = make_trainer(config())
    learner = trainer.learner
    parts = (learner.actor, learner.actor.network, learner.critic)
    trainer.update()
    for part in parts[1:]:
        part.eval()
        trainer.update()
        assert all(module.training for one in parts for module in one.modules())


def test_what_is_stored_is_what_was_seen_done_and_got() -> None:
    trainer: Any = make_trainer(config())
    before = trainer.games[0].values.copy()
    trainer._play_into_memory()
    after = trainer.games[0].values
    stored = trainer.memories[0]._stored
    assert stored["seen"][:2, :-1].numpy() == pytest.approx(before)
    assert stored["next_seen"][:2, :-1].numpy() == pytest.approx(after)
    assert (stored["seen"][:2, -1] == 1).all()
    # The pressed action stands at the end of what is seen next.
    assert stored["action"][:2, 0].numpy() == pytest.approx(after[:, -1], abs=1e-6)
    assert len(trainer.memories[0]) == 2


def test_gradient_steps_are_owed_and_paid() -> None:
    trainer: Any = make_trainer(config())
    steps: list[int] = []
    learn = trainer.learner.learn
    trainer.learner.learn = lambda count, active: steps.append(count) or learn(count, active)
    for _ in range(4):
        trainer.update()
    # 12 decisions an update, one step for 5 of them, from the end of the warmup on.
    assert steps == [2, 2, 3, 2]


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(config(), tmp_path / "whole")
    # A run that is made longer keeps the fall of its learning rate; there is none here.
    train(config(total_steps=24), tmp_path / "parts")
    train(config(), tmp_path / "parts")
    one, other = (load_agent(tmp_path / name / "agent.pt") for name in ("whole", "parts"))
    assert all(
        torch.equal(value, other.network.state_dict()[name])
        for name, value in one.network.state_dict().items()
    )
    assert one.tasks == other.tasks
    assert one.tasks[0].environment is not None
    assert one.tasks[0].environment.box is not None
    assert len(one.tasks[0].environment.box.deviation) == 1
    lines = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    assert lines[0][-1]["sac"] == lines[1][-1]["sac"]
    assert whole.steps == 48


def test_a_full_memory_keeps_the_newest_and_comes_back(tmp_path: Path) -> None:
    memory = Memory(5, 2, 1, np.random.default_rng(0))
    for first in (0, 3, 6):
        rows = torch.arange(first, first + 3).float()[:, None]
        memory.add(Transitions(rows.expand(3, 2), rows.expand(3, 2) + 1, rows, rows, rows * 0))
    assert sorted(memory._stored["action"].squeeze(1).tolist()) == [4, 5, 6, 7, 8]
    batch = memory.sample(50)
    assert (batch.next_seen - batch.seen == 1).all()
    assert set(batch.reward.squeeze(1).tolist()) == {4, 5, 6, 7, 8}
    memory.save(tmp_path / "memory")
    other = Memory(5, 2, 1, np.random.default_rng(0))
    other.load(tmp_path / "memory")
    assert torch.equal(other._stored["seen"], memory._stored["seen"])
    with pytest.raises(ValueError, match="an array of"):
        Memory(4, 2, 1, np.random.default_rng(0)).load(tmp_path / "memory")


def test_settings_of_sac_are_not_written_at_their_default() -> None:
    assert "sac" not in config_to_json(TrainConfig())
    assert config_to_json(config())["sac"]["critic_layers"] == (8, 8)


def test_a_memory_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    large = config(total_steps=10**12)
    large = replace(large, replay=replace(large.replay, capacity=10**9))
    with pytest.raises(Exception, match=r"decisions in the replays take .* lower replay.capacity"):
        check_sizes(replace(large, games_per_task=(1,)), tmp_path)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mtspark.train.rl.policy", None)
    with pytest.raises(BackendMissingError, match=r'pip install "mtspark\[sac\]"'):
        make_trainer(config())


@pytest.mark.slow
def test_the_recipe_learns() -> None:
    """The recipe's environment and settings, with smaller networks and batches, and for less."""
    recipe = read_recipe("pendulum")
    small: dict[str, Any] = {
        "total_steps": 6_000,
        "replay": {**recipe["replay"], "warmup": 600, "batch_size": 64},
        "sac": {"critic_layers": [64, 64]},
        "network": {**recipe["network"], "hidden": 64, "time_steps": 4},
    }
    trainer: Any = make_trainer(config_of({**recipe, **small}))
    (game,) = trainer.games
    game.returns = type(game.returns)(maxlen=8)
    while len(game.returns) < 4:
        trainer.update()
    # Of the first episodes, of which most are random; a pole that hangs still has -1600.
    begun = float(np.mean(game.returns))
    while not trainer.finished:
        trainer.update()
    assert begun < -900
    # Measured: -206.
    assert float(np.mean(game.returns)) > -500


def test_a_run_that_diverges_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"finite|the loss is") as error:
        train(config(learning_rate=1e30, total_steps=120), tmp_path / "run")
    assert "\n" not in str(error.value)

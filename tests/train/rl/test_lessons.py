"""Games that are taught: by either algorithm, with or without their rewards."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from mtspark.train.config.games import ReplayConfig
from mtspark.train.networks.network import MTSparkNetwork, mask_illegal
from mtspark.train.rl.distil import advice, divergence
from mtspark.train.rl.pqn import PqnTrainer
from tests.support.scripted import SMALL, script_games


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)


def shaken_teacher(student: MTSparkNetwork) -> MTSparkNetwork:
    """A copy that wants other actions."""
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        for value in teacher.parameters():
            value.add_(torch.randn_like(value))
    return teacher


@pytest.mark.parametrize(("rewarded", "weight"), [(False, 0.3), (True, 0.2)])
def test_dqn_teaches_as_pqn_does(scripted: None, rewarded: bool, weight: float) -> None:
    """The lesson's weight falls; rewards join it if asked."""
    from mtspark.train.rl.dqn import DqnTrainer
    from mtspark.train.rl.replay import Transitions

    config = replace(
        SMALL,
        algorithm="dqn",
        replay=ReplayConfig(warmup=0),
        final_distillation_fraction=0.2,
        taught_from_rewards=rewarded,
    )
    trainer = DqnTrainer(config)
    trainer.progress.steps = 750 if rewarded else 500
    teacher = shaken_teacher(trainer.target)
    trainer.teachers = [(teacher, 0), None]
    frames = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    actions, rewards = torch.tensor([0, 3, 0]), torch.tensor([1.0, 0.0, -1.0])
    batch = Transitions(frames, frames, actions, rewards, torch.ones(3, dtype=torch.bool))
    for replay in trainer.replays:
        replay.sample = lambda: batch  # type: ignore[method-assign]
    with torch.no_grad():
        both = [trainer.values(trainer.network, frames, torch.full((3,), i)) for i in (0, 1)]
    advised = advice(
        trainer.teachers, frames, torch.zeros(3).long(), trainer.values.mask, bfloat16=False
    )
    lesson = weight * divergence(both[0], advised, config.distillation_temperature).mean()
    errors = [functional.smooth_l1_loss(v[range(3), actions], rewards) for v in both]
    expected = (lesson + errors[0] * rewarded + errors[1]) / 2
    assert float(trainer.learn((0, 1))) == pytest.approx(float(expected), rel=1e-5)


def test_a_taught_game_learns_the_policy_of_its_teacher(scripted: None) -> None:
    """Pong is taught, Breakout is not: only Pong's values move towards the teacher's order."""
    trainer = PqnTrainer(SMALL)
    teacher = shaken_teacher(trainer.network)
    trainer.teachers = [(teacher, 0), None]
    rollout = trainer.roll_out()
    frames, task = rollout["frames"].flatten(0, 1), rollout["task"].repeat(6)
    advised = advice(trainer.teachers, frames, task, trainer.values.mask, bfloat16=False)
    assert not advised[task == 1].any()
    with torch.no_grad():
        own = mask_illegal(teacher(frames, torch.zeros_like(task)), trainer.values.mask[task])
    assert torch.equal(advised[task == 0], own[task == 0])

    def distance() -> float:
        with torch.no_grad():
            values = trainer.values(trainer.network, frames, task)
            return float(divergence(values, advised, 0.02)[task == 0].mean())

    before = distance()
    for _ in range(40):
        trainer.learn(rollout, torch.zeros(6, 4))
    assert distance() < 0.5 * before


@pytest.mark.parametrize(("rewarded", "steps", "weight"), [(False, 500, 0.3), (True, 750, 0.2)])
def test_the_loss_of_a_taught_game(
    scripted: None, rewarded: bool, steps: int, weight: float
) -> None:
    """The lesson's weight falls from 0.5 to 0.1 over 1,000 steps; rewards join it if asked."""
    config = replace(
        SMALL,
        epochs=1,
        minibatches=1,
        distillation_weight=0.5,
        final_distillation_fraction=0.2,
        taught_from_rewards=rewarded,
    )
    trainer = PqnTrainer(config)
    teacher = shaken_teacher(trainer.network)
    trainer.teachers = [(teacher, 0), None]
    rollout = trainer.roll_out()
    trainer.progress.steps = steps
    goals = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    frames, task = rollout["frames"].flatten(0, 1), rollout["task"].repeat(6)
    advised = advice(trainer.teachers, frames, task, trainer.values.mask, bfloat16=False)
    with torch.no_grad():
        values = trainer.values(trainer.network, frames, task)
    played = values[torch.arange(24), rollout["actions"].flatten()]
    error = 0.5 * (played - goals.flatten()) ** 2
    lesson = weight * divergence(values, advised, config.distillation_temperature)
    each = torch.where(task == 0, lesson + error * rewarded, error)
    valid = rollout["valid"].flatten()
    assert trainer.learn(rollout, goals) == pytest.approx(each[valid].mean().item(), rel=1e-5)


def test_a_policy_diverges_from_itself_by_nothing() -> None:
    values = torch.tensor([[0.1, 0.3, -1e9], [1.0, 0.0, 0.0]])
    assert divergence(values, values, 0.02).tolist() == [0.0, 0.0]
    # Two actions, log odds 1 / 0.5 apart: p ln(p / 0.5) + q ln(q / 0.5), times 0.5.
    p = 1 / (1 + np.exp(-2))
    expected = 0.5 * (p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p)))
    found = divergence(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), 0.5)
    assert found.item() == pytest.approx(expected)

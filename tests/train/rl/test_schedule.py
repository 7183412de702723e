"""Whose turn it is, and what falls during it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from mtspark.train.config.games import ReplayConfig, TrainConfig
from mtspark.train.networks.config import NetworkConfig
from mtspark.train.rl.run import make_trainer
from mtspark.train.rl.schedule import Schedule
from mtspark.train.rl.trainer import Trainer
from tests.support.scripted import SMALL, script_games


def schedule(kind: str, **changes: object) -> Schedule:
    config = TrainConfig(
        games=("pong", "breakout", "enduro"),
        total_steps=900,
        schedule=kind,  # type: ignore[arg-type]
        network=NetworkConfig(tasks=3),
        **changes,  # type: ignore[arg-type]
    )
    return Schedule(config)


NETWORK = nn.Linear(2, 2)


def test_interleaved_tasks_learn_together() -> None:
    assert schedule("interleaved").active(123) == (0, 1, 2)


def test_sequential_tasks_get_equal_shares_in_order() -> None:
    turns = schedule("sequential")
    assert [turns.active(steps) for steps in (0, 299, 300, 599, 600, 899, 900)] == [
        (0,),
        (0,),
        (1,),
        (1,),
        (2,),
        (2,),
        (2,),
    ]


def test_a_fixed_interval_goes_round() -> None:
    turns = schedule("interval", switch_every_steps=100)
    seen = []
    for _ in range(8):
        seen.append(turns.active(0)[0])
        turns.after_update(50, 0, NETWORK)
    assert seen == [0, 0, 1, 1, 2, 2, 0, 0]


def test_performance_switches_once_the_weights_have_settled() -> None:
    turns = schedule("performance", switch_episodes=8, switch_change=0.1)
    network = nn.Linear(1, 1, bias=False)
    changes = [0.5, 0.5, 0.5, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
    seen = []
    for change in changes:
        with torch.no_grad():
            network.weight.mul_(1 / (1 - change))
        turns.after_update(10, 1, network)
        seen.append(turns.current)
    # The ninth episode is the first beyond 8, and the last five changes are all 0.01.
    assert seen == [0] * 8 + [1]


def test_episodes_alone_do_not_switch_while_the_weights_move() -> None:
    turns = schedule("performance", switch_episodes=2)
    network = nn.Linear(1, 1, bias=False)
    for _ in range(12):
        with torch.no_grad():
            network.weight.mul_(2)
        turns.after_update(10, 1, network)
    assert turns.current == 0


def test_a_restored_schedule_goes_on() -> None:
    first, second = (schedule("interval", switch_every_steps=100) for _ in range(2))
    first.after_update(150, 3, NETWORK)
    first.after_update(60, 3, NETWORK)
    second.restore(first.state())
    for turns in (first, second):
        turns.after_update(40, 0, NETWORK)
    assert first.current == second.current == 2


def test_a_sequential_game_has_a_stretch_of_its_own() -> None:
    turns = schedule("sequential")
    assert [turns.stretch(steps, 0) for steps in (0, 150, 310)] == [
        (0, 300),
        (150, 300),
        (310, 300),
    ]
    assert [turns.stretch(steps, 2) for steps in (600, 675, 900)] == [
        (0, 300),
        (75, 300),
        (300, 300),
    ]


@pytest.mark.parametrize("kind", ["interleaved", "interval", "performance"])
def test_otherwise_the_stretch_is_the_whole_run(kind: str) -> None:
    assert [schedule(kind).stretch(675, task) for task in (0, 2)] == [(675, 900)] * 2


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)


IN_TURN = replace(
    SMALL,
    schedule="sequential",
    epochs=1,
    minibatches=1,
    final_exploration=0.1,
    exploration_fraction=0.8,
    learning_rate=0.01,
    final_learning_rate_fraction=0.2,
    distillation_weight=0.5,
    final_distillation_fraction=0.6,
    replay=ReplayConfig(capacity=50, warmup=12, batch_size=4, update_every=12),
)
"""Pong, then Breakout, in updates of 12 decisions."""


def rates(trainer: Trainer, updates: int) -> list[tuple[float, ...]]:
    """Of each update: exploration while it plays; learning rate and lesson's weight of its end."""
    seen = []
    for _ in range(updates):
        explores = trainer.epsilon
        trainer.update()
        rate = trainer.optimizer.param_groups[0]["lr"]
        seen.append((explores, rate, trainer.distillation_weight))
    return seen


@pytest.mark.parametrize("algorithm", ["pqn", "dqn"])
def test_each_sequential_game_explores_and_learns_from_the_start(
    scripted: None, algorithm: str
) -> None:
    """Shares of 30 decisions: epsilon falls by 0.9 in 24 of them, the rest in all 30."""
    trainer = make_trainer(replace(IN_TURN, algorithm=algorithm, total_steps=60))
    # Pong plays at 0, 12 and 24; Breakout at 36 and 48, 6 and 18 decisions into its share. An
    # update is learned at its end: Pong's at 12, 24 and, its share used up, 36.
    expected = [
        (1.0, 0.0068, 0.42),
        (0.55, 0.0036, 0.34),
        (0.1, 0.002, 0.3),
        (1 - 0.9 * 6 / 24, 0.01 * (1 - 0.8 * 18 / 30), 0.5 * (1 - 0.4 * 18 / 30)),
        (1 - 0.9 * 18 / 24, 0.002, 0.3),
    ]
    for found, wanted in zip(rates(trainer, 5), expected, strict=True):
        assert found == pytest.approx(wanted)
    assert trainer.finished


@pytest.mark.parametrize("before", [2, 3])
def test_a_resumed_sequential_run_goes_on_with_its_game(scripted: None, before: int) -> None:
    """Shares of 24 decisions: stopped between the two, and within the second."""
    config = replace(IN_TURN, total_steps=48)
    first, second = make_trainer(config), make_trainer(config)
    rates(first, before)
    second.restore(copy.deepcopy(first.state()))
    going_on = rates(first, 4 - before)
    assert rates(second, 4 - before) == going_on
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, two)
    assert going_on[-1] == pytest.approx((1 - 0.9 * 12 / 19.2, 0.002, 0.3))

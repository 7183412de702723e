"""Whose turn it is."""

from __future__ import annotations

import torch
from torch import nn

from mtspark.train.config import TrainConfig
from mtspark.train.network import NetworkConfig
from mtspark.train.schedule import Schedule


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

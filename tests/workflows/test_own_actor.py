"""An actor of the user's own, in snntorch, exported with the environment in which it acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import mtspark
from mtspark.core.environments import MESSAGES_PER_DEVIATION, Task
from mtspark.core.errors import BadNetworkError, BadRequestError

MEAN, DEVIATION = (0.01, -0.02, 0.0, 0.1), (0.5, 1.0, 0.1, 1.0)


class Actor(nn.Module):
    """The mean of a linear layer's outputs over the spikes of eight steps."""

    def __init__(self, numbers: int, actions: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(numbers, 32), nn.Linear(32, actions)
        self.lif = snn.Leaky(beta=0.5, reset_mechanism="zero", reset_delay=False)

    def forward(self, seen: Tensor) -> Tensor:
        membrane, total = self.lif.init_leaky(), torch.zeros(())
        for _ in range(8):
            spikes, membrane = self.lif(self.fc1(seen), membrane)
            total = total + self.fc2(spikes)
        return total / 8


def made(numbers: int, actions: int) -> Actor:
    torch.manual_seed(3)
    actor = Actor(numbers, actions)
    with torch.no_grad():
        # Weights that 8 bits hold, and actions that are far apart: the chip's answer is torch's.
        for layer in (actor.fc1, actor.fc2):
            layer.weight.copy_((layer.weight * 64).round() / 32)
            assert layer.bias is not None
            layer.bias.copy_((layer.bias * 64).round() / 64)
    return actor


def played_in_torch(actor: Actor, task: Task, seed: int) -> tuple[int, ...]:
    """Actions of an episode, without mtspark but for the resolution of its messages."""
    own: Any = gymnasium.make(task.game)
    shown, _ = own.reset(seed=seed)
    actions = []
    over = False
    while not over:
        seen = (np.asarray(shown, np.float64) - MEAN) / DEVIATION
        seen = np.clip(np.rint(seen * MESSAGES_PER_DEVIATION), -127, 127) / MESSAGES_PER_DEVIATION
        with torch.no_grad():
            actions.append(int(actor(torch.tensor(seen[None]).float()).argmax()))
        shown, _, ended, cut, _ = own.step(actions[-1])
        over = ended or cut
    return tuple(actions)


@pytest.fixture(scope="module")
def task() -> Task:
    return mtspark.environment_task("CartPole-v1", mean=MEAN, deviation=DEVIATION, max_steps=60)


@pytest.mark.slow
def test_it_plays_on_the_chip_as_in_torch(task: Task, tmp_path: Path) -> None:
    actor = made(4, 2)
    chip = mtspark.export(actor, environment=task)
    assert (chip.network.input.shape, chip.network.input.signed) == ((1, 4, 1), True)
    assert chip.network.tasks == (task,)
    played = chip.play("CartPole-v1", episodes=3, seed=7)
    for episode in played.run.episodes:
        assert episode.actions == played_in_torch(actor, task, episode.seed)
    chip.save(tmp_path / "own.deploy")
    saved = mtspark.load_bundle(tmp_path / "own.deploy")
    assert saved.play("CartPole-v1", seed=7).run.episodes[0] == played.run.episodes[0]
    (row,) = mtspark.evaluate(saved, episodes=2, seed=7).games
    assert row.backend == "engine"
    assert row.returns[0] == played.run.episodes[0].score
    assert saved.explain("CartPole-v1", decisions=8, episodes=0).to_json()["task"] == "CartPole-v1"
    looped = saved.hil("CartPole-v1", seed=7).to_json()["points"][0]["episodes"][0]
    assert looped["return"] == played.run.episodes[0].score


def test_one_that_sees_spikes_needs_no_statistics() -> None:
    task = mtspark.environment_task("Taxi-v4", max_steps=5)
    chip = mtspark.export(made(500, 6), environment=task)
    assert not chip.network.input.signed
    assert chip.play("Taxi-v4").decisions == 5


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "CartPole-v1: mean is None; must be 4 numbers"),
        ({"mean": MEAN, "deviation": (1.0, 1.0)}, "mean and deviation have 4 and 2 numbers"),
        (
            {"mean": MEAN, "deviation": (1.0, 1.0, 0.0, 1.0)},
            r"deviation\[2\] is 0; must be from 1e-06; a number that never changes has 1",
        ),
        # Smaller ones could not be read back.
        ({"mean": MEAN, "deviation": (1e-9, 1.0, 1.0, 1.0)}, r"deviation\[0\] is 1e-09; must be"),
        ({"mean": (0, 0, 0, 1e19), "deviation": DEVIATION}, r"mean\[3\] is 1e\+19; must be finite"),
        ({"mean": "left", "deviation": DEVIATION}, "are no numbers .*; must be 4 each"),
        ({"max_steps": "9"}, "environment_task: max_steps is '9'; must be int"),
        ({"decision_delay": True}, "decision_delay is True; must be int"),
        ({"entries": "arm"}, "entries is 'arm'; must be a list"),
        ({"reward_range": (1.0,)}, r"reward_range\[1\] is missing; must be given"),
        ({"wrappers": ["StickyAction"]}, r"wrappers\[0\] is 'StickyAction'; must be an object of"),
        ({"wrappers": [{"arguments": {}}]}, r"wrappers\[0\].name is missing; must be given"),
        ({"arguments": {"g": np.int64(9)}}, "arguments: .*; must be plain numbers, texts, bool"),
        ({"mean": MEAN, "deviation": DEVIATION, "max_steps": -1}, "max_steps: -1"),
    ],
)
def test_statistics_that_do_not_fit_are_named(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRequestError, match=problem):
        mtspark.environment_task("CartPole-v1", **settings)


def test_settings_and_exports_that_cannot_be_are_named(task: Task) -> None:
    with pytest.raises(BadRequestError, match=r"is a game of ALE, .*: mtspark train pong --game "):
        mtspark.environment_task("ALE/Breakout-v5")
    with pytest.raises(TypeError, match="no setting 'actions'"):
        mtspark.environment_task("CartPole-v1", actions=3)
    with pytest.raises(BadRequestError, match="left out: it is sent as spikes"):
        mtspark.environment_task("Taxi-v4", mean=[0.0], deviation=[1.0])
    with pytest.raises(BadRequestError, match="sample: follows from environment"):
        mtspark.export(made(4, 2), environment=task, sample=np.zeros((2, 4)))
    with pytest.raises(BadNetworkError, match="has 1 outputs, CartPole-v1 takes 2 actions"):
        mtspark.export(made(4, 1), environment=task)
    with pytest.raises(BadRequestError, match="is a game of ALE"):
        mtspark.export(made(4, 2), environment=Task("pong", "pong", (0, 1)))


@pytest.mark.parametrize("factor", [1.0, 0.125])
def test_actions_that_are_numbers_keep_the_factor_of_an_answer(factor: float) -> None:
    """A factor changes no best action, and every number."""

    class Torque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 1)
            self.li = snn.Leaky(beta=0.5, reset_mechanism="none")

        def forward(self, seen: Tensor) -> Tensor:
            membrane = self.li.init_leaky()
            for _ in range(4):
                _, membrane = self.li(self.fc(seen), membrane)
            return membrane if factor == 1 else factor * membrane

    task = mtspark.environment_task("Pendulum-v1", mean=(0.0,) * 3, deviation=(1.0,) * 3)
    if factor == 1:
        assert mtspark.export(Torque(), environment=task).network.tasks == (task,)
        return
    with pytest.raises(BadNetworkError, match=r"Torque: returns 0.125 times what 'li' gives"):
        mtspark.export(Torque(), environment=task)

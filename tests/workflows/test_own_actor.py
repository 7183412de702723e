"""An actor of the user's own, in snntorch, exported with the environment in which it acts."""

from __future__ import annotations

from dataclasses import replace
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
from mtspark.core.errors import BadFileError, BadNetworkError, BadRequestError
from mtspark.core.float_network import run_float
from mtspark.deploy.bundle import load_bundle
from mtspark.workflows.whole import float_side, quantised_again

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


@pytest.mark.parametrize("returned", ["membrane", "spikes", "worth"])
@pytest.mark.parametrize("factor", [0.125, 3.0])
def test_the_factor_of_an_answer_is_that_of_the_chips_values(
    returned: str, factor: float, tmp_path: Path
) -> None:
    """It changes no best action, but every number, and what is drawn."""

    class Torque(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.fc, self.factor = nn.Linear(3, 1), factor
            worth = factor if returned == "worth" else 1.0
            reset = "none" if returned == "membrane" else "zero"
            self.li = snn.Leaky(beta=0.5, reset_mechanism=reset, graded_spikes_factor=worth)
            with torch.no_grad():
                self.fc.bias.fill_(0.8)

        def forward(self, seen: Tensor) -> Tensor:
            membrane, count = self.li.init_leaky(), torch.zeros(1)
            for _ in range(4):
                spikes, membrane = self.li(self.fc(seen), membrane)
                count = count + spikes
            if returned == "worth":
                return count
            answer = membrane if returned == "membrane" else count
            return answer if self.factor == 1 else self.factor * answer

    task = mtspark.environment_task("Pendulum-v1", mean=(0.0,) * 3, deviation=(1.0,) * 3)
    plain, times = (mtspark.export(Torque(one), environment=task) for one in (1.0, factor))
    assert times.network.tasks == (task,)
    seen = np.array([[0.5, -1.0, 2.0], [-3.0, 0.25, 1.5], [0.0, 0.0, 0.0]], np.float32)
    expected = Torque(factor)(torch.from_numpy(seen)).detach().numpy()
    assert np.any(expected)
    of_plain, of_times = (one.run(seen[:, None, :, None]).values for one in (plain, times))
    np.testing.assert_allclose(of_times, factor * of_plain)
    np.testing.assert_allclose(of_times, expected, atol=0.05 * factor)
    # The bundle knows it, whose graph does not: of the float network, and with other weights.
    bundle = load_bundle(times.save(tmp_path / "times"))
    network, options = float_side(bundle)
    assert network.output.scale == pytest.approx(factor)
    again = quantised_again(network, bundle.network, replace(options, weight_bits=7))
    ratio = again.readout.scale / plain.network.readout.scale
    assert np.all((ratio > 0.99 * factor) & (ratio < 2.1 * factor))
    series = np.tile(seen[None, :, None, :, None], (4, 1, 1, 1, 1)).astype(np.float64)
    np.testing.assert_allclose(run_float(network, series).values, expected, atol=1e-5 * factor)


def test_actions_are_drawn_by_the_softmax_of_what_the_actor_returns() -> None:
    """A mean of spikes, which a chip counts."""

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.fc, self.lif = nn.Linear(4, 2), snn.Leaky(beta=0.5)
            with torch.no_grad():
                self.fc.bias.copy_(torch.tensor([2.0, 0.1]))

        def forward(self, seen: Tensor) -> Tensor:
            membrane, count = self.lif.init_leaky(), torch.zeros(2)
            for _ in range(10):
                spikes, membrane = self.lif(self.fc(seen), membrane)
                count = count + spikes
            return count / 10

    task = mtspark.environment_task("CartPole-v1", mean=[0.0] * 4, deviation=[4.0] * 4)
    chip, moments = mtspark.export(Mean(), environment=task), []
    chip.play(episodes=30, sample=1, observe=moments.append)
    values = np.concatenate([one.decision.values for one in moments])
    chances = torch.from_numpy(values).softmax(1).numpy()
    drawn = np.concatenate([one.actions for one in moments])
    assert values.max() <= 1
    assert abs((drawn == 0).mean() - chances[:, 0].mean()) < 0.1 < chances[:, 0].mean() - 0.5


def test_a_factor_that_is_none_is_a_damaged_bundle(tmp_path: Path) -> None:
    chip = mtspark.export(made(4, 2), input_shape=(4,))
    bundle = load_bundle(chip.save(tmp_path / "chip"))
    assert float_side(bundle)[0].output.scale == 1
    for text in ("-1", "nan", "inf", "much"):
        provenance = {**bundle.network.provenance, "answer_factor": text}
        odd = replace(bundle, network=replace(bundle.network, provenance=provenance))
        with pytest.raises(BadFileError, match=f"answer_factor is '{text}', not a number above 0"):
            float_side(odd)


def test_outputs_beyond_the_actions_are_told_of() -> None:
    task = mtspark.environment_task("CartPole-v1", mean=[0.0] * 4, deviation=[1.0] * 4)
    chip = mtspark.export(made(4, 3), environment=task)
    note = "CartPole-v1 takes 2 actions: of 3 outputs, the first 2 count"
    assert note in chip.fidelity.import_notes


def test_a_task_keeps_what_it_was_described_with() -> None:
    hidden = [1, 3]
    wrappers = [{"name": "HideEntries", "arguments": {"hidden": hidden}}]
    task = mtspark.environment_task(
        "CartPole-v1", mean=[0.0] * 2, deviation=[1.0] * 2, wrappers=wrappers
    )
    hidden.append(0)
    assert task.environment is not None
    assert task.environment.wrappers[0].arguments == {"hidden": [1, 3]}

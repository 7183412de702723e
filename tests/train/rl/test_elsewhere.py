"""Training on another device than the CPU: every tensor is where it has to be."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mtspark.core.environments.protocol import GameProtocol, Task
from mtspark.train.config.games import ReplayConfig, TrainConfig
from mtspark.train.config.images import ImageConfig
from mtspark.train.images.data import ImageSet
from mtspark.train.images.trainer import ImageTrainer, accuracy
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.rl import collect as games
from mtspark.train.rl import start as start_module
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import make_trainer
from mtspark.train.rl.trainer import Trainer
from tests.support.elsewhere import DEVICE, Elsewhere, Pretended, pretend

CONFIG = TrainConfig(
    games=("pong", "breakout"),
    total_steps=1000,
    games_per_task=(2,),
    rollout_steps=6,
    minibatches=2,
    exploration_ladder=(0.0, 0.2),
    rescale_values=True,
    taught_from_rewards=True,
    bfloat16=False,
    device=DEVICE,
    protocol=GameProtocol(frame_stack=1, screen_size=8),
    network=NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=5, actions=6, tasks=2),
    replay=ReplayConfig(capacity=50, warmup=10, batch_size=4, target_every=2),
)


class Noise:
    """Two copies of a game that shows noise and never ends."""

    def __init__(self) -> None:
        self.noise = np.random.default_rng(0)

    def frames(self) -> np.ndarray:
        return self.noise.integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)

    def reset(self, seed: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return self.frames(), {"lives": np.zeros(2, dtype=int)}

    def send(self, actions: np.ndarray) -> None:
        assert actions.shape == (2,)

    def recv(self) -> tuple[Any, ...]:
        never = np.zeros(2, dtype=bool)
        return self.frames(), np.ones(2), never, never, {"lives": np.zeros(2, dtype=int)}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    known = {name: Task(name, name, (0, 3, 5)) for name in CONFIG.games}
    monkeypatch.setattr(start_module, "task_for_game", known.__getitem__)
    monkeypatch.setattr(games, "make_games", lambda task, *_, **__: Noise())
    return pretend(monkeypatch)


def trained(config: TrainConfig, updates: int = 2) -> Trainer:
    """Train with a teacher of the first game."""
    trainer = make_trainer(config)
    trainer.teachers = [(copy.deepcopy(trainer.network), 1), None]
    for _ in range(updates):
        assert np.isfinite(trainer.update())
    return trainer


def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    with Pretended():
        there = torch.ones(3).to(DEVICE)
        assert isinstance(there + 1, Elsewhere)
        assert (there + there).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="on the device and on the CPU"):
            there + torch.ones(3)
        with pytest.raises((TypeError, RuntimeError)):
            there.numpy()


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "performance"},
        {"quantisation_aware": True},
    ],
    ids=["float", "integers"],
)
@pytest.mark.slow
def test_pqn_learns_on_the_device_what_it_learns_on_the_cpu(
    changes: dict[str, Any], named: list[str]
) -> None:
    config = replace(CONFIG, **changes)
    here = trained(replace(config, device="cpu")).agent().network.state_dict()
    del named[:]
    with Pretended():
        trainer = trained(config)
        assert set(named) == {DEVICE}
        assert all(isinstance(value, Elsewhere) for value in trainer.network.parameters())
        there = trainer.agent().network.state_dict()
    for name, value in here.items():
        torch.testing.assert_close(there[name], value)


@pytest.mark.slow
def test_dqn_learns_on_the_device(named: list[str]) -> None:
    config = replace(CONFIG, algorithm="dqn")
    here = trained(replace(config, device="cpu")).agent().network.state_dict()
    with Pretended():
        there = trained(config).agent().network.state_dict()
    for name, value in here.items():
        torch.testing.assert_close(there[name], value)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
def test_a_state_from_the_device_goes_on(named: list[str]) -> None:
    config = replace(CONFIG, schedule="performance")
    with Pretended():
        first = PqnTrainer(config)
        first.schedule._note_change(first.network)
        state = first.state()
        # As a file brings it: everything on the CPU.
        saved = torch.utils._pytree.tree_map(
            lambda value: value.cpu() if isinstance(value, torch.Tensor) else value, state
        )
        second = PqnTrainer(config)
        second.restore(saved)
        second.schedule._note_change(second.network)
        second.update()
        assert all(isinstance(value, Elsewhere) for value in second.network.parameters())


def test_images_are_learned_on_the_device(named: list[str]) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    sets = [ImageSet(name, images, np.arange(20) % 10, "noise") for name in ("mnist", "cifar10")]
    config = ImageConfig(
        epochs=1,
        batch=8,
        device=DEVICE,
        network=replace(ImageConfig().network, convolutions=(ConvSize(2, 8, 8),), hidden=8),
    )
    here = ImageTrainer(replace(config, device="cpu"), sets)
    here.run_epoch()
    with Pretended():
        trainer = ImageTrainer(config, sets)
        trainer.run_epoch()
        assert all(isinstance(value, Elsewhere) for value in trainer.network.parameters())
        share = accuracy(trainer.network, sets[0], 0)
        there = trainer.agent().network.state_dict()
    assert share == accuracy(here.network, sets[0], 0)
    for name, value in here.agent().network.state_dict().items():
        torch.testing.assert_close(there[name], value)

"""Commands that play say so where an environment does not follow from its seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from mtspark.core.environments import Environment, world_task
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks import MTSparkNetwork
from tests.support.worlds import Door


class OwnChance(Door):
    """Draws what it shows by chance of its own, once it was `free`."""

    free = False

    @property
    def np_random(self) -> np.random.Generator:
        """Of no seed."""
        return np.random.default_rng() if self.free else super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random = value


@pytest.fixture(autouse=True)
def chance() -> Iterator[None]:
    gymnasium.register("Chance-v0", OwnChance, disable_env_checker=True, max_episode_steps=12)
    yield
    gymnasium.registry.pop("Chance-v0")


@pytest.mark.slow
def test_run_eval_and_hil_tell_of_it(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = to_config(
        {
            "games": ["Chance-v0"],
            "network": {"hidden": 6, "time_steps": 2, "dendrite_segments": 0},
        },
        "recipe",
    )
    assert isinstance(config, TrainConfig)
    torch.manual_seed(1)
    agent = Agent(
        MTSparkNetwork(config.network).eval(), (world_task(Environment("Chance-v0")),), None
    )
    save_agent(agent, tmp_path / "a.pt")
    bundle = tmp_path / "a.deploy"
    assert call("export", tmp_path / "a.pt", "-o", bundle) == 0
    for free in (False, True):
        monkeypatch.setattr(OwnChance, "free", free)
        for command in (
            ("run", bundle),
            ("eval", bundle),
            ("eval", tmp_path / "a.pt"),
            ("hil", bundle),
        ):
            capsys.readouterr()
            assert call(*command, "--episodes", 2) == 0
            told = "note: Chance-v0: played another course from the same seed"
            assert (told in capsys.readouterr().err) == free, command

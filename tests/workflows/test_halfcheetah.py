"""The shipped agent of HalfCheetah: of its recipe, and as good on the chip."""

from __future__ import annotations

from pathlib import Path

import pytest

import mtspark
from mtspark.sim.engine import EngineChip
from mtspark.sim.play import play
from mtspark.train.config import TrainConfig, config_of

AGENT = Path(__file__).parents[2] / "examples" / "agents" / "halfcheetah" / "halfcheetah.pt"


@pytest.mark.slow
def test_the_shipped_agent_is_that_of_its_recipe_and_runs_on_the_chip() -> None:
    pytest.importorskip("mujoco")
    assert sum(path.stat().st_size for path in AGENT.parent.iterdir()) < 2**20
    recipe = config_of("halfcheetah")
    assert isinstance(recipe, TrainConfig)
    assert mtspark.load_agent(AGENT).network.config == recipe.network
    network = mtspark.export(AGENT).network
    run = play(EngineChip(network), network, "HalfCheetah-v5", episodes=2, seed=0)
    assert run.mean_return >= 3000

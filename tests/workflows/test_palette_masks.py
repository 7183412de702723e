"""What a palette changes is counted of the actions that an environment allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from mtspark.core.environments import Environment, world_task
from mtspark.train.checkpoint import Agent, save_agent
from mtspark.train.config import TrainConfig, to_config
from mtspark.train.networks import MTSparkNetwork
from mtspark.workflows.export import ExportRequest, Source, run_steps
from mtspark.workflows.export.pipeline import STEPS
from tests.support.worlds import Shows

ACTIONS = 6


class One(Shows):
    """Allows one action at a time, or, without `masked`, all of them."""

    def __init__(self, *, masked: bool) -> None:
        super().__init__(spaces.MultiBinary(12), spaces.Discrete(ACTIONS))
        self._masked = masked

    def _given(self) -> dict[str, Any]:
        only = np.arange(ACTIONS) == len(self.taken) % ACTIONS
        return {"action_mask": only.astype(np.int8)} if self._masked else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return super().reset(seed=seed)[0], self._given()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        *step, _ = super().step(action)
        return (*step, self._given())


@pytest.fixture(autouse=True)
def one() -> Iterator[None]:
    gymnasium.register("One-v0", One, disable_env_checker=True)
    yield
    del gymnasium.registry["One-v0"]


@pytest.mark.slow
@pytest.mark.parametrize("masked", [True, False])
def test_where_one_action_is_allowed_it_stays(masked: bool, tmp_path: Path) -> None:
    config = to_config(
        {
            "games": ["One-v0"],
            "environments": [{"id": "One-v0", "arguments": {"masked": masked}}],
            "network": {"hidden": 24, "time_steps": 4, "dendrite_segments": 0},
        },
        "recipe",
    )
    assert isinstance(config, TrainConfig)
    torch.manual_seed(3)
    task = world_task(Environment("One-v0", arguments={"masked": masked}))
    network = MTSparkNetwork(config.network).eval()
    with torch.no_grad():
        for weights in network.parameters():
            # Neurons of different sizes, which one threshold cannot serve.
            weights *= 3 * torch.rand_like(weights)
    save_agent(Agent(network, (task,), None), tmp_path / "a.pt")
    request = ExportRequest(source=tmp_path / "a.pt", palette=1)
    (cost,) = run_steps(request, steps=STEPS[Source.AGENT]).palette_tasks.values()
    # Its thresholds do change what the network would do if it were free to.
    assert (cost.same_action == 1) == masked
    assert any(share > 0 for share in cost.layers.values())

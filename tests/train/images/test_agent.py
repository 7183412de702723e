"""The shipped image agent: one spiking network, two image sets, the scores that it claims."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mtspark.convert.nir.agent import agent_to_nir
from mtspark.convert.nir.reader import import_tasks
from mtspark.core.chip_network.network import ChipNetwork
from mtspark.deploy.quantise.network import quantise
from mtspark.sim.engine.chip import EngineChip
from mtspark.train.checkpoint.agent import Agent, load_agent
from mtspark.train.images.data import load_images
from mtspark.train.quantised.twin import Twin

ROOT = Path(__file__).resolve().parents[3]
AGENT = ROOT / "examples" / "agents" / "images" / "images.pt"
TARGETS = {"mnist": 0.975, "cifar10": 0.56}
"""What it must reach."""


@pytest.fixture(scope="module")
def agent() -> Agent:
    return load_agent(AGENT)


@pytest.fixture(scope="module")
def chip(agent: Agent) -> ChipNetwork:
    return quantise(import_tasks(agent_to_nir(agent)), agent.tasks, agent.protocol, name="images")


def test_it_is_small_and_its_stored_scores_reach_the_targets(agent: Agent) -> None:
    assert AGENT.stat().st_size < 5_000_000
    found = {(row["task"], row["backend"]): row for row in agent.evaluations}
    assert len(found) == len(agent.evaluations) == 4
    for name, target in TARGETS.items():
        for backend in ("torch", "engine"):
            row = found[name, backend]
            assert row["images"] == 10_000
            assert row["accuracy"] == row["right"] / row["images"] >= target


def test_twin_and_engine_give_the_same_values(agent: Agent, chip: ChipNetwork) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32)).astype(np.uint8)
    frames[2:] //= 3
    engine, twin = EngineChip(chip), Twin(agent.network)
    for row in range(2):
        with torch.no_grad():
            values = twin(torch.from_numpy(frames), torch.full((4,), row))
        np.testing.assert_array_equal(engine.decide(frames, row).values, values.numpy())


@pytest.mark.parametrize(
    "task", [pytest.param(name, marks=[pytest.mark.slow] * (name == "cifar10")) for name in TARGETS]
)
def test_the_chip_names_real_images(agent: Agent, chip: ChipNetwork, task: str) -> None:
    """The images that `mtspark eval --images 200` asks about."""
    data = Path(os.environ.get("MTSPARK_IMAGES") or ROOT.parent / "shared" / "data")
    if not data.is_dir():
        pytest.skip(f"no images at {data}: set MTSPARK_IMAGES to a folder with them")
    test = load_images(task, "test", data).subset(200, seed=0)
    row = chip.task_index(task)
    values = EngineChip(chip).decide(test.images, row).values
    right = float((values.argmax(1) == test.labels).mean())
    # Three standard deviations of a share of 200 below the target.
    assert right > TARGETS[task] - 3 * (TARGETS[task] * (1 - TARGETS[task]) / 200) ** 0.5

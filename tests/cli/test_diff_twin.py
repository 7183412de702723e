"""``mtspark diff --against twin`` is equal, and sees a bundle that is not its checkpoint's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtspark.core.environments.protocol import Task
from mtspark.core.errors import BadRequestError
from mtspark.deploy.bundle import load_bundle
from mtspark.train.checkpoint.agent import Agent, load_agent, save_agent
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.workflows.diff.twin import compare_with_twin, twin_of
from mtspark.workflows.evaluate.rows import wilson_interval

Call = Callable[..., int]


def test_the_command_finds_the_twin_equal(played: Path, call: Call, tmp_path: Path) -> None:
    target = tmp_path / "diff.json"
    arguments = ("--against", "twin", "--decisions", 4, "--task", "breakout", "--json", target)
    assert call("diff", played, *arguments) == 0
    result = json.loads(target.read_text())
    assert result["equal"]
    assert result["decisions"] == 4
    assert result["compared"] > 1000


def test_one_weight_in_the_bundle_is_seen(played: Path) -> None:
    bundle = load_bundle(played)
    network = bundle.network
    link = network.connections[1]
    weights = link.weights.copy()
    weights[0] = 254
    links = (network.connections[0], replace(link, weights=weights), *network.connections[2:])
    changed = replace(network, connections=links)
    twin = twin_of(bundle)
    frames = np.random.default_rng(0).integers(0, 256, (3, *network.input.shape)).astype(np.uint8)
    assert compare_with_twin(twin, network, frames, 0).equal
    comparison = compare_with_twin(twin, changed, frames, 0)
    assert comparison.first is not None
    assert comparison.first.layer == link.target
    assert comparison.first.step is not None
    assert comparison.first.step > network.window(link.target).start


def test_bundles_without_a_twin_are_refused(played: Path, tmp_path: Path) -> None:
    bundle = load_bundle(played)
    with pytest.raises(BadRequestError, match="holds no checkpoint"):
        twin_of(replace(bundle, folder=tmp_path))
    fewer = replace(bundle.network, populations=bundle.network.populations[1:])
    with pytest.raises(BadRequestError, match="are not its checkpoint's"):
        twin_of(replace(bundle, network=fewer))


@pytest.mark.slow
def test_image_tasks_are_scored_by_accuracy(call: Call, tmp_path: Path) -> None:
    """A network whose tasks are image sets exports, compares and is scored by the same commands."""
    sizes = NetworkConfig(
        observation_shape=(3, 32, 32), convolutions=(ConvSize(4, 8, 4),), hidden=8, tasks=2
    )
    tasks = tuple(Task(name, "", (0, 1, 2)) for name in ("mnist", "cifar10"))
    save_agent(Agent(MTSparkNetwork(sizes).eval(), tasks, None), tmp_path / "images.pt")
    folder, result = tmp_path / "images.deploy", tmp_path / "eval.json"
    assert call("export", tmp_path / "images.pt", "-o", folder) == 0
    assert call("diff", folder, "--against", "twin", "--decisions", 2) == 0
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "mnist_test.npz", images=images, labels=np.arange(9) % 3)
    # Nothing is written while one of the sets is missing.
    assert call("eval", folder, "--data", tmp_path, "--json", result) == 2
    assert not result.exists()
    np.savez(tmp_path / "cifar10_test.npz", images=images, labels=np.full(9, 7))
    arguments = ("--data", tmp_path, "--json", result, "--into", tmp_path / "images.pt")
    assert call("eval", folder, *arguments) == 0
    rows = json.loads(result.read_text())["rows"]
    assert load_agent(tmp_path / "images.pt").evaluations == rows
    assert [(row["task"], row["backend"]) for row in rows] == [
        (name, backend) for name in ("mnist", "cifar10") for backend in ("torch", "engine")
    ]
    assert [row["images"] for row in rows] == [9] * 4
    # Class 7 is none of the task's own, so no image can be named rightly.
    assert [row["right"] for row in rows[2:]] == [0, 0]
    assert all(0 <= row["action_agreement"] <= 1 for row in rows[1::2])


@pytest.mark.parametrize(("right", "asked"), [(0, 10), (10, 10), (20, 20), (650, 1000)])
def test_intervals_hold_the_share(right: int, asked: int) -> None:
    low, high = wilson_interval(right, asked)
    share = right / asked
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1
    if right == 650:
        # By hand: centre 0.65192 / 1.00384, half 1.95996 / 1.00384 * sqrt(0.0002275 + 9.604e-7)
        assert (low, high) == pytest.approx((0.6199, 0.6790), abs=2e-4)

"""Which synapses are cut, when, and that a cut one stays cut down to the chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mtspark
from mtspark.core.chip_network import ConnectionKind
from mtspark.train.checkpoint.agent import load_agent, save_agent
from mtspark.train.config import TrainConfig
from mtspark.train.config.pruning import PruningConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig, network_to_json
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.sparsity.magnitude import density, prune
from tests.support.scripted import SMALL, script_games

TINY = NetworkConfig((1, 8, 8), (ConvSize(2, 4, 2),), hidden=2, masked_layers=("hidden",))


def test_the_density_falls_by_a_cubic() -> None:
    pruning = PruningConfig(("hidden",), density=0.2, start=0.1, end=0.5)
    assert pruning.density_at(0.0) == pruning.density_at(0.1) == 1.0
    assert pruning.density_at(0.3) == pytest.approx(0.2 + 0.8 * 0.125)
    assert pruning.density_at(0.5) == pruning.density_at(1.0) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"density": 0.0}, "density is 0.0"),
        ({"start": 0.5, "end": 0.5}, "0 <= start < end"),
        ({"every_updates": 0}, "every_updates is 0"),
    ],
)
def test_numbers_out_of_range(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PruningConfig(("hidden",), **fields)


def test_the_smallest_weights_that_act_are_cut_and_stay_cut() -> None:
    network = MTSparkNetwork(TINY)
    layer = network.hidden
    with torch.no_grad():
        # Standardised, the largest raw weights are the smallest: the mean of a row is 5.
        row = torch.full((18,), 5.0)
        row[:4] = torch.tensor([1.0, 9.0, 4.0, 6.0])
        layer.synapses.weight.copy_(torch.stack([row, 10 * row]))
    # One scale a row: both rows are the same after standardisation. Ties go by place.
    prune(network, ["hidden"], 5 / 36)
    mask = layer.mask
    assert mask is not None
    assert mask.nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert density(network, "hidden") == pytest.approx(5 / 36)
    weights = layer.folded_weight()
    assert (weights != 0).nonzero().tolist() == mask.nonzero().tolist()
    with torch.no_grad():
        layer.synapses.weight[0, 17] = 1000.0
    prune(network, ["hidden"], 4 / 36)
    assert not mask[0, 17]
    assert int(mask.sum()) == 4
    prune(network, ["hidden"], 1.0)
    assert int(mask.sum()) == 4


def test_one_synapse_is_left() -> None:
    network = MTSparkNetwork(TINY)
    prune(network, ["hidden"], 1e-9)
    assert int(network.hidden.mask.sum()) == 1  # type: ignore[union-attr]


def test_masks_travel_in_the_agent_file_and_to_the_chip(
    make_agent: Callable[..., Any], tmp_path: Path
) -> None:
    agent = make_agent(masked_layers=("hidden", "conv2"))
    prune(agent.network, ["hidden"], 0.1)
    prune(agent.network, ["conv2"], 0.5)
    save_agent(agent, tmp_path / "sparse.pt")
    loaded = load_agent(tmp_path / "sparse.pt")
    chip = mtspark.export(loaded).network
    links = {link.target: link for link in chip.connections}
    assert links["hidden"].kind is ConnectionKind.SPARSE
    for name in ("hidden", "conv2"):
        mask = agent.network.layer(name).mask
        torch.testing.assert_close(loaded.network.layer(name).mask, mask)
        np.testing.assert_array_equal(links[name].weights.reshape(mask.shape) != 0, mask)


def test_a_file_without_masks_is_that_of_before_masks(make_agent: Callable[..., Any]) -> None:
    agent = make_agent()
    assert "masked_layers" not in network_to_json(agent.network.config)
    assert not [name for name in agent.network.state_dict() if name.endswith("mask")]


def test_what_is_left_in_the_end_does_not_depend_on_the_updates_between_cuts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    pruning = PruningConfig(("hidden",), density=0.25, start=0.0, end=0.5, every_updates=1_000)
    config = replace(
        SMALL, pruning=pruning, network=replace(SMALL.network, masked_layers=("hidden",))
    )
    trainer = PqnTrainer(config)
    trainer.update()
    while trainer.progress.steps < config.total_steps / 2:
        assert density(trainer.network, "hidden") == 1
        trainer.update()
    assert density(trainer.network, "hidden") == pytest.approx(0.25, abs=0.01)
    assert density(trainer.target, "hidden") == pytest.approx(0.25, abs=0.01)


SCHEDULES: list[tuple[str, dict[str, Any], int, int]] = [
    # Of ten updates: the method, its window, an interval that comes in it, and one that does not.
    ("evolution", {"start": 0.0, "end": 0.5}, 4, 5),
    ("evolution", {"start": 0.3, "end": 0.5}, 4, 5),
    ("evolution", {"start": 0.35, "end": 0.55}, 5, 3),
    ("pathways", {"start": 0.0, "end": 0.5}, 9, 10),
    ("pathways", {"start": 0.7, "end": 0.9}, 9, 6),
    ("magnitude", {"start": 0.0, "end": 1.0}, 9, 10),
]


def ten_updates(method: Any, window: dict[str, float], every: int, **changes: Any) -> TrainConfig:
    owner = "pathway_layers" if method == "pathways" else "masked_layers"
    pruning = PruningConfig(("hidden",), method=method, every_updates=every, **window)
    steps = 10 * sum(SMALL.copies) * SMALL.rollout_steps
    fields: dict[str, Any] = {"pruning": pruning, "total_steps": steps, **changes}
    return replace(SMALL, **fields, network=replace(SMALL.network, **{owner: ("hidden",)}))


@pytest.mark.parametrize(("method", "window", "comes", "never"), SCHEDULES)
def test_an_interval_at_which_nothing_ever_happens_is_refused(
    method: Any, window: dict[str, float], comes: int, never: int
) -> None:
    assert ten_updates(method, window, comes).pruning.every_updates == comes
    with pytest.raises(ValueError, match=rf"every_updates is {never}: of 10 updates of 24 dec"):
        ten_updates(method, window, never)


def test_what_may_happen_is_not_refused() -> None:
    """An update begun counts as one; where one game plays at a time, there are more of them."""
    assert ten_updates("pathways", {"start": 0.0}, 9, total_steps=24 * 9 + 1)
    assert ten_updates("pathways", {"start": 0.0}, 1, total_steps=1)
    for schedule in ("sequential", "interval", "performance"):
        assert ten_updates("evolution", {"end": 0.5}, 15, schedule=schedule)
    # Magnitude cuts after its end, whatever the interval.
    assert ten_updates("magnitude", {"start": 0.0, "end": 0.8}, 1_000)
    assert ten_updates("static", {}, 1_000)

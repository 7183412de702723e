"""Synaptic operations by hand, beside the chip's own fan-outs, and their price in the loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mtspark
from mtspark.core.chip_network import fan_out
from mtspark.core.errors import BadRequestError
from mtspark.train.checkpoint.single import single_task
from mtspark.train.config.games import TrainConfig
from mtspark.train.config.pruning import PruningConfig
from mtspark.train.config.recipe import to_config
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.train.rl.dqn import DqnTrainer
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.rl.run import train
from mtspark.train.rl.trainer import Trainer
from mtspark.train.sparsity.magnitude import density, prune
from mtspark.train.sparsity.operations import operations_of, synapses_met
from tests.support.scripted import SMALL, script_games

PRICED = replace(
    SMALL,
    operation_penalties=(0.0, 1.0),
    pruning=PruningConfig(("hidden",), density=0.25, start=0.0, end=0.1, every_updates=1),
    network=replace(SMALL.network, masked_layers=("hidden",)),
)


def test_operations_by_hand() -> None:
    """Four neurons of conv1, two hidden ones, three actions; T = 2."""
    config = NetworkConfig(
        (1, 4, 4), (ConvSize(1, 2, 2),), hidden=2, actions=3, masked_layers=("hidden",)
    )
    network = MTSparkNetwork(config)
    assert network.hidden.mask is not None
    network.hidden.mask[0, :3] = False
    met = synapses_met(network)
    assert met["conv1"].tolist() == [[[1, 1], [1, 2]]]
    assert met["hidden"].tolist() == [3, 3]
    spikes = {
        "conv1": torch.tensor([[[1.0, 0, 0, 1]], [[0, 0, 0, 1]]]).view(2, 1, 1, 2, 2),
        "hidden": torch.tensor([[[0.0, 0]], [[1, 1]]]),
    }
    assert operations_of(spikes, met).tolist() == [1 + 2 + 2 + 3 + 3]


def test_synapses_are_those_of_the_chip(make_agent: Callable[..., Any]) -> None:
    # A stride that leaves a rest: 6 of 7 rows and columns are reached.
    agent = make_agent(
        observation_shape=(2, 23, 23),
        convolutions=(ConvSize(3, 5, 3), ConvSize(4, 2, 2)),
        masked_layers=("hidden",),
    )
    prune(agent.network, ["hidden"], 0.2)
    agent = replace(agent, protocol=replace(agent.protocol, screen_size=23))
    chip = mtspark.export(agent).network
    met = synapses_met(agent.network)
    for link in chip.connections[1:]:
        structural, _ = fan_out(link, chip.shape_of(link.source))
        np.testing.assert_array_equal(met[link.source].numpy(), structural)


@pytest.mark.parametrize(
    ("layers", "dense"), [(("conv1", "hidden"), ()), (("dense1", "dense2", "hidden"), (12, 7))]
)
def test_each_task_meets_the_synapses_of_its_path_as_its_chip_does(
    make_agent: Callable[..., Any], layers: tuple[str, ...], dense: tuple[int, ...]
) -> None:
    agent = make_agent(pathway_layers=layers, dense=dense)
    generator = torch.Generator().manual_seed(3)
    for name in layers:
        layer = agent.network.layer(name)
        layer.paths.copy_(torch.rand(layer.paths.shape, generator=generator) < 0.3)
        # Weights of one size: none is rounded to 0.
        layer.synapses.weight.data.sign_()
    for index, task in enumerate(agent.tasks):
        chip = mtspark.export(single_task(agent, task.name)).network
        met = synapses_met(agent.network, index)
        for link in chip.connections[1:]:
            structural, _ = fan_out(link, chip.shape_of(link.source))
            np.testing.assert_array_equal(met[link.source].numpy(), structural)


def test_operations_of_samples_with_synapses_of_their_own_by_hand() -> None:
    spikes = {"hidden": torch.tensor([[[1.0, 0], [1, 1]], [[1, 1], [0, 1]]])}
    met = {"hidden": torch.tensor([[3.0, 5], [7, 11]])}
    assert operations_of(spikes, met).tolist() == [3 + 3 + 5, 7 + 11 + 11]


def test_operations_of_pathways_are_priced_by_the_path_that_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script_games(monkeypatch)
    pruning = PruningConfig(
        ("hidden",), density=0.25, start=0.0, end=0.9, every_updates=1, method="pathways"
    )
    network = replace(SMALL.network, pathway_layers=("hidden",))
    trainer = PqnTrainer(replace(PRICED, pruning=pruning, network=network))
    assert trainer.cost is not None
    frames = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    tasks = torch.tensor([0, 1, 1, 0])
    for _ in range(2):
        spikes: dict[str, torch.Tensor] = {}
        trainer.values(trainer.network, frames, tasks, spikes)
        price = trainer.cost.of_samples(spikes, tasks, torch.ones(4))
        of_task_1 = operations_of(spikes, synapses_met(trainer.network, 1))
        assert of_task_1.any()
        torch.testing.assert_close(price, torch.where(tasks == 1, of_task_1 * 1e-5, 0.0))
        # Paths are chosen in the first update.
        trainer.update()
    paths = trainer.network.hidden.paths
    assert paths is not None
    assert float(paths[1].float().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("kind", [PqnTrainer, DqnTrainer])
def test_a_price_lowers_operations_and_cuts_come_when_they_are_due(
    monkeypatch: pytest.MonkeyPatch, kind: type[Trainer]
) -> None:
    script_games(monkeypatch)
    config = replace(PRICED, replay=replace(PRICED.replay, warmup=4, capacity=64, batch_size=4))
    config = replace(config, algorithm="pqn" if kind is PqnTrainer else "dqn")
    trainer = kind(config)
    trainer.update()
    first = trainer.measurements()
    assert first["operations"]["breakout"]
    assert 0.25 < density(trainer.network, "hidden") < 1
    masks = [network.hidden.mask for network in (trainer.network, trainer.target)]
    torch.testing.assert_close(*masks)
    while trainer.progress.steps < 110:
        trainer.update()
    trainer.measurements()
    trainer.update()
    assert density(trainer.network, "hidden") == pytest.approx(0.25, abs=0.02)


def test_the_price_reaches_the_gradient_of_its_game_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    trainer = PqnTrainer(PRICED)
    assert trainer.cost is not None
    frames = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    for task, priced in ((0, False), (1, True)):
        spikes: dict[str, torch.Tensor] = {}
        tasks = torch.full((4,), task)
        trainer.values(trainer.network, frames, tasks, spikes)
        trainer.network.zero_grad()
        price = trainer.cost.of_samples(spikes, tasks, torch.ones(4))
        wanted = operations_of(spikes, synapses_met(trainer.network)) * (1e-5 if priced else 0)
        torch.testing.assert_close(price, wanted)
        price.sum().backward()
        bias = trainer.network.hidden.synapses.bias
        assert bias is not None
        assert bias.grad is not None
        assert bool(bias.grad.any()) is priced


def test_a_run_logs_operations_and_resumes_with_its_masks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    slowly = replace(PRICED.pruning, end=0.9)
    config = replace(PRICED, total_steps=96, checkpoint_every_steps=48, pruning=slowly)
    train(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(line["operations"]["pong"] is not None for line in lines)
    assert lines[-1]["density"]["hidden"] < lines[0]["density"]["hidden"] < 1
    again = replace(config, start_from=str(tmp_path / "run" / "agent.pt"))
    trainer = PqnTrainer(again)
    assert density(trainer.network, "hidden") == pytest.approx(
        lines[-1]["density"]["hidden"], abs=1e-3
    )
    unmasked = replace(SMALL, start_from=str(tmp_path / "run" / "agent.pt"), network=SMALL.network)
    with pytest.raises(BadRequestError, match="has cut synapses in hidden"):
        PqnTrainer(unmasked)


def test_a_run_with_masks_starts_from_an_agent_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script_games(monkeypatch)
    train(replace(SMALL, total_steps=24), tmp_path / "dense")
    trainer = PqnTrainer(replace(PRICED, start_from=str(tmp_path / "dense" / "agent.pt")))
    assert density(trainer.network, "hidden") == 1.0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"operation_penalties": [-1.0]}, "a number below 0"),
        ({"operation_penalties": [1.0, 1.0]}, "2 entries for 1 games"),
        ({"operation_penalties": 0.1, "network": {"neuron": "relu"}}, "operations are counted"),
        ({"pruning": {"layers": ["hiden"]}}, "pruning.layers has 'hiden', must be of"),
        ({"pruning": {"layers": ["hidden"], "density": 2.0}}, "density is 2.0"),
    ],
)
def test_a_recipe_that_cannot_be(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        to_config({"games": ["pong"], **fields}, "recipe")


def test_a_recipe_masks_the_layers_that_it_prunes() -> None:
    config = to_config({"pruning": {"layers": "hidden"}, "operation_penalties": 0.003}, "recipe")
    assert isinstance(config, TrainConfig)
    assert config.network.masked_layers == config.pruning.layers == ("hidden",)
    assert config.operation_penalties == (0.003,)

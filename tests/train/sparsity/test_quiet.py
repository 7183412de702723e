"""Biases that drive no neuron alone: by hand, in a run, and in the drain of the chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mtspark
from mtspark.core.chip_network import INPUT
from mtspark.train.config import TrainConfig
from mtspark.train.config.plasticity import PlasticityConfig
from mtspark.train.networks.config import ConvSize, NetworkConfig
from mtspark.train.networks.network import MTSparkNetwork
from mtspark.train.networks.neurons import run_layer
from mtspark.train.rl.pqn import PqnTrainer
from mtspark.train.sparsity import quiet_biases
from tests.support.scripted import SMALL, script_games

LOUD = torch.tensor([0.1, 0.5, 0.9])


@pytest.mark.parametrize(("beta", "drive", "limit"), [(0.5, 1.0, 0.5), (0.75, 0.25, 1.0)])
def test_no_neuron_fires_without_input(beta: float, drive: float, limit: float) -> None:
    """The limit is threshold (1 - beta) / drive; a hair above it, the neuron fires in the end."""
    config = NetworkConfig((1, 8, 8), (ConvSize(3, 4, 2),), hidden=2, beta=beta, drive=drive)
    network = MTSparkNetwork(config)
    layer = network.layer("conv1")
    bias = layer.synapses.bias
    assert bias is not None
    with torch.no_grad():
        bias.copy_(torch.tensor([0.1, limit, limit + 0.4]))
    quiet_biases(network)
    assert bias.tolist() == pytest.approx([0.1, limit, limit])

    def fired(biases: torch.Tensor) -> list[float]:
        return run_layer(layer.neuron, biases[None, None], 200).sum((0, 1)).tolist()

    assert fired(layer.folded_bias().detach()) == [0, 0, 0]
    assert fired(torch.tensor([0.1, limit, limit + 0.01]) * drive)[2] > 0


@pytest.mark.slow
def test_the_chip_sends_nothing_while_it_drains(make_agent: Callable[..., Any]) -> None:
    agent = make_agent()
    for name in agent.network.layer_names:
        with torch.no_grad():
            agent.network.layer(name).synapses.bias.fill_(0.9)
    frames = np.random.default_rng(0).integers(0, 256, (3, *agent.network.config.observation_shape))

    def drained() -> int:
        chip = mtspark.export(agent)
        layers = chip.run(frames.astype(np.uint8) * chip.network.input.scale).counts.layers
        return sum(layer.spikes.drain for layer in layers if layer.name != INPUT)

    assert drained() > 0
    quiet_biases(agent.network)
    assert drained() == 0


def test_a_run_keeps_biases_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    trainer = PqnTrainer(replace(SMALL, quiet_biases=True))
    with torch.no_grad():
        trainer.network.layer("conv1").synapses.bias.fill_(0.9)
    trainer.update()
    for network in (trainer.network, trainer.target):
        for name in network.layer_names:
            assert float(network.layer(name).synapses.bias.max()) <= 0.5


def test_renewed_neurons_have_quiet_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    script_games(monkeypatch)
    redo = PlasticityConfig(redo_every=1, dormant_threshold=1.0, samples=8)
    network = replace(SMALL.network, beta=0.9)
    trainer = PqnTrainer(replace(SMALL, network=network, quiet_biases=True, plasticity=redo))
    trainer.update()
    assert sum(value or 0 for value in trainer.measurements()["renewed"].values()) > 0
    for name in trainer.network.layer_names:
        bias = trainer.network.layer(name).synapses.bias
        assert bias is not None
        # A new neuron's is 0.3, and the limit is threshold (1 - beta).
        assert float(bias.max()) <= 0.1 + 1e-6


def test_neurons_that_do_not_fire_are_refused() -> None:
    with pytest.raises(ValueError, match="quiet_biases: the neurons are relu"):
        TrainConfig(quiet_biases=True, network=NetworkConfig(neuron="relu"))

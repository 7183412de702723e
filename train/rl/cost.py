"""The price of synaptic operations in the loss, and how many there are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.sparsity import OPERATIONS_UNIT, operations_of, synapses_met


class OperationCost:
    """Adds the operations of each decision to its loss, at the price of its game.

    Args:
        config: with a penalty for each game.
        network: whose synapses count.
        device: where the run computes.
    """

    def __init__(self, config: TrainConfig, network: MTSparkNetwork, device: torch.device) -> None:
        self._games = config.games
        penalties = torch.tensor(config.operation_penalties, dtype=torch.float32)
        self._prices = (penalties / OPERATIONS_UNIT).to(device)
        self._sums = torch.zeros(len(config.games), dtype=torch.float64, device=device)
        self._samples = torch.zeros_like(self._sums)
        self.recount(network)

    def recount(self, network: MTSparkNetwork) -> None:
        """Count the synapses again, after some were cut, or other paths were chosen."""
        self._differ = bool(network.config.pathway_layers)
        if not self._differ:
            self._met = synapses_met(network)
            return
        by_task = [synapses_met(network, task) for task in range(len(self._games))]
        self._met = {name: torch.stack([met[name] for met in by_task]) for name in by_task[0]}

    def of_samples(self, spikes: Mapping[str, Tensor], task: Tensor, valid: Tensor) -> Tensor:
        """Return what the operations add to each sample's loss, (batch,).

        Args:
            spikes: (T, batch, ...) of each layer, with gradients.
            task: (batch,) task indices.
            valid: (batch,) 0 where a sample is not learned.
        """
        met = self._met
        if self._differ:
            met = {name: counts[task] for name, counts in met.items()}
        operations = operations_of(spikes, met)
        counted = operations.detach().double() * valid
        self._sums.index_add_(0, task, counted)
        self._samples.index_add_(0, task, valid.double())
        return operations * self._prices[task]

    def means(self) -> dict[str, float | None]:
        """Return the mean operations of a decision since the last call, by game."""
        means = {
            game: round(float(total / samples), 1) if samples else None
            for game, total, samples in zip(self._games, self._sums, self._samples, strict=True)
        }
        self._sums.zero_()
        self._samples.zero_()
        return means

"""The synapses that a run cuts and grows, and when."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mtspark.train.config import TrainConfig
from mtspark.train.networks import MTSparkNetwork
from mtspark.train.sparsity import draw_synapses, erk_densities, exchange_synapses, prune

STREAM = 0x5EED_C075
"""Sets the random numbers of the places of synapses apart from others of the run's seed."""


class Cuts:
    """Chooses the synapses of a run's sparse layers, see `PruningConfig`.

    Args:
        config: of the run.
        network: whose synapses they are; where the method is evolution or static, its sparse
            layers get their synapses now, unless its agent has cut some: then these stay.
    """

    def __init__(self, config: TrainConfig, network: MTSparkNetwork) -> None:
        self._pruning = config.pruning
        self._generator = np.random.default_rng([config.seed, STREAM])
        self._exchanged: dict[str, int] = {}
        self._ended = False
        if self._pruning.layers and self._pruning.method in ("evolution", "static"):
            shapes = {
                name: tuple(network.layer(name).synapses.weight.shape)
                for name in self._pruning.layers
            }
            masks = [network.layer(name).mask for name in self._pruning.layers]
            if all(mask is not None and bool(mask.all()) for mask in masks):
                densities = erk_densities(shapes, self._pruning.density)
                draw_synapses(network, densities, self._generator)

    def due(self, updates: int, share: float) -> bool:
        """Whether synapses are cut or exchanged now.

        Magnitude also cuts in the first update after its end, so that `density` is what is left
        however many updates are between two cuts.

        Args:
            updates: of the run.
            share: of the run's planned decisions.
        """
        pruning = self._pruning
        last = pruning.method == "magnitude" and share >= pruning.end and not self._ended
        return last or updates % pruning.every_updates == 0

    def make(self, network: MTSparkNetwork, target: MTSparkNetwork, share: float) -> None:
        """Make the cuts that are due after a share of the run, of both networks or the actor's.

        Args:
            network: decides which synapses go.
            target: follows it.
            share: of the run's planned decisions.
        """
        pruning = self._pruning
        self._ended = share >= pruning.end
        if pruning.method == "magnitude":
            prune(network, pruning.layers, pruning.density_at(share))
        elif pruning.method == "evolution" and pruning.start <= share < pruning.end:
            self._exchanged = exchange_synapses(
                network, pruning.layers, pruning.drop_fraction, self._generator
            )
        for name in () if pruning.scope == "actor" else pruning.layers:
            fast, slow = network.layer(name).mask, target.layer(name).mask
            assert fast is not None
            assert slow is not None
            slow.copy_(fast)

    def restore_target(self, target: MTSparkNetwork) -> None:
        """Give a target that was copied from the actor all its synapses, where it keeps them."""
        for name in self._pruning.layers if self._pruning.scope == "actor" else ():
            mask = target.layer(name).mask
            assert mask is not None
            mask.fill_(True)

    def exchanged(self) -> dict[str, int]:
        """Synapses of each layer that were exchanged since the last call; empty without any."""
        exchanged, self._exchanged = self._exchanged, {}
        return exchanged

    def state(self) -> dict[str, Any]:
        """Return the state of the random numbers; nothing where none is drawn later."""
        if not self._pruning.layers or self._pruning.method != "evolution":
            return {}
        return {"cuts": json.dumps(self._generator.bit_generator.state)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the random numbers of :meth:`state` back."""
        if "cuts" in state:
            self._generator.bit_generator.state = json.loads(state["cuts"])

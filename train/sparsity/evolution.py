"""Sparse layers whose synapses are drawn at random, and exchanged (SET)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch

from mtspark.train.networks import MTSparkNetwork


@torch.no_grad()
def draw_synapses(
    network: MTSparkNetwork, densities: Mapping[str, float], generator: np.random.Generator
) -> None:
    """Keep synapses at random places of each layer that has no cut yet.

    The gains of a layer grow by 1 / sqrt(density): how its currents vary stays, or a
    sparse layer of spiking neurons would begin silent.

    Args:
        network: its `masked_layers` hold the layers.
        densities: of each layer, by its name; rounded to whole synapses, at least one is left.
        generator: of the random places.
    """
    for name, density in densities.items():
        layer = network.layer(name)
        assert layer.mask is not None
        if not bool(layer.mask.all()):
            continue
        count = layer.mask.numel()
        kept = max(1, round(density * count))
        mask = torch.zeros(count, dtype=torch.bool)
        mask[torch.from_numpy(generator.choice(count, kept, replace=False))] = True
        layer.mask.copy_(mask.view_as(layer.mask))
        layer.standardise.gain.mul_(math.sqrt(count / kept))


@torch.no_grad()
def exchange_synapses(
    network: MTSparkNetwork,
    layers: Iterable[str],
    fraction: float,
    generator: np.random.Generator,
) -> dict[str, int]:
    """Drop the smallest weights of each layer and grow as many at random other places.

    Sparse evolutionary training (Mocanu et al. 2018, arXiv:1707.04780). The weights that act
    decide, with standardisation folded in; equal ones go in the order of their places. A new
    synapse has the weight that lay behind its cut: the random one that the network began with,
    moved by what its neuron learned since.

    Args:
        network: its `masked_layers` hold the layers.
        layers: names.
        fraction: share of a layer's synapses that are dropped, rounded down; no more than there
            are places without a synapse.
        generator: of the random places.

    Returns:
        Synapses that were exchanged, by layer.
    """
    exchanged = {}
    for name in layers:
        layer = network.layer(name)
        assert layer.mask is not None
        mask = layer.mask.flatten().clone()
        # Before the drop: what is dropped now does not grow again at once.
        places = torch.nonzero(~mask).flatten().cpu().numpy()
        count = min(int(fraction * int(mask.sum())), len(places))
        size = torch.where(layer.mask, layer.folded_weight().abs(), torch.inf).flatten()
        dropped = size.argsort(stable=True)[:count]
        grown = torch.from_numpy(generator.choice(places, count, replace=False)).to(mask.device)
        mask[dropped], mask[grown] = False, True
        layer.mask.copy_(mask.view_as(layer.mask))
        exchanged[name] = count
    return exchanged

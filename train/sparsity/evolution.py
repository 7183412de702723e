"""Sparse layers whose synapses are drawn at random, and exchanged (SET)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from mtspark.train.networks import MTSparkNetwork


@torch.no_grad()
def draw_synapses(
    network: MTSparkNetwork, densities: Mapping[str, float], generator: np.random.Generator
) -> None:
    """Keep synapses at random places of each layer.

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
        layer.mask.copy_(drawn_like(layer.mask, density, generator))
        layer.standardise.gain.mul_(math.sqrt(layer.mask.numel() / int(layer.mask.sum())))


def drawn_like(mask: Tensor, density: float, generator: np.random.Generator) -> Tensor:
    """Draw a mask of this density, rounded to whole synapses, at least one, in a mask's shape."""
    count = mask.numel()
    drawn = torch.zeros(count, dtype=torch.bool, device=mask.device)
    places = generator.choice(count, max(1, round(density * count)), replace=False)
    drawn[torch.from_numpy(places).to(mask.device)] = True
    return drawn.view_as(mask)


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
        mask, exchanged[name] = exchanged_in(layer.folded_weight(), layer.mask, fraction, generator)
        layer.mask.copy_(mask)
    return exchanged


def exchanged_in(
    weight: Tensor, mask: Tensor, fraction: float, generator: np.random.Generator
) -> tuple[Tensor, int]:
    """Drop the smallest weights that a mask has and grow as many at random other places.

    Args:
        weight: of a layer.
        mask: in its shape, True where a synapse is there.
        fraction: see :func:`exchange_synapses`.
        generator: of the random places.

    Returns:
        The new mask, in the same shape, and how many synapses were exchanged.
    """
    flat = mask.flatten().clone()
    # Before the drop: what is dropped now does not grow again at once.
    places = torch.nonzero(~flat).flatten().cpu().numpy()
    count = min(int(fraction * int(flat.sum())), len(places))
    size = torch.where(mask, weight.abs(), torch.inf).flatten()
    dropped = size.argsort(stable=True)[:count]
    grown = torch.from_numpy(generator.choice(places, count, replace=False)).to(flat.device)
    flat[dropped], flat[grown] = False, True
    return flat.view_as(mask), count

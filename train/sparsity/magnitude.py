"""Cuts of the synapses with the smallest weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mtspark.train.networks import MTSparkNetwork


@torch.no_grad()
def prune(network: MTSparkNetwork, layers: Iterable[str], share: float) -> None:
    """Cut synapses of each layer until this share of them is left.

    The weights that act decide, with standardisation folded in. A synapse that is cut stays cut;
    equal weights are cut in the order of their places.

    Args:
        network: its `masked_layers` hold the layers.
        layers: names.
        share: of all synapses of a layer, rounded to whole synapses; at least one is left.
    """
    for name in layers:
        layer = network.layer(name)
        assert layer.mask is not None
        kept = max(1, round(share * layer.mask.numel()))
        if kept >= int(layer.mask.sum()):
            continue
        layer.mask.copy_(largest_of(layer.folded_weight(), layer.mask, kept))


def largest_of(weight: Tensor, mask: Tensor, kept: int) -> Tensor:
    """Mask the largest weights of those that a mask has; equal ones in the order of their places.

    Args:
        weight: of a layer.
        mask: in its shape, True where a synapse is there.
        kept: how many stay; at most those that are there.

    Returns:
        The new mask, in the same shape.
    """
    # Behind every weight that acts, also behind those that are exactly 0.
    size = torch.where(mask, weight.abs(), -1.0).flatten()
    order = size.argsort(descending=True, stable=True)
    chosen = torch.zeros_like(mask).flatten()
    chosen[order[:kept]] = True
    return chosen.view_as(mask)


def density(network: MTSparkNetwork, layer: str) -> float:
    """Return the share of a layer's synapses that are not cut."""
    mask = network.layer(layer).mask
    return 1.0 if mask is None else float(mask.float().mean())

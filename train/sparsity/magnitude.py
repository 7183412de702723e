"""Cuts of the synapses with the smallest weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch

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
        # Behind every weight that acts, also behind those that are exactly 0.
        size = torch.where(layer.mask, layer.folded_weight().abs(), -1.0).flatten()
        order = size.argsort(descending=True, stable=True)
        mask = torch.zeros_like(layer.mask).flatten()
        mask[order[:kept]] = True
        layer.mask.copy_(mask.view_as(layer.mask))


def density(network: MTSparkNetwork, layer: str) -> float:
    """Return the share of a layer's synapses that are not cut."""
    mask = network.layer(layer).mask
    return 1.0 if mask is None else float(mask.float().mean())

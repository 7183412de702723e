"""Synapses that were cut come back, so that a later run may choose others."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from mtspark.train.networks import MTSparkNetwork, act_as


@torch.no_grad()
def reopen(network: MTSparkNetwork, layers: Iterable[str]) -> None:
    """Give layers all their synapses back, near the network that it is.

    Those that act keep their weights and the others begin at 0, but for what standardisation asks:
    where it takes a row's mean off, every weight of the row, new or old, is less by that mean, and
    the gain is the one of least squares. A row without a synapse begins with its stored weights at
    a gain of 0. Layers without cuts stay as they are.

    Args:
        network: its `masked_layers` hold the layers.
        layers: names.
    """
    for name in layers:
        layer = network.layer(name)
        assert layer.mask is not None
        if bool(layer.mask.all()):
            continue
        acting = layer.folded_weight().clone()
        layer.mask.fill_(True)
        act_as(layer, acting)

"""Stored weights and gains that act as given weights do."""

from __future__ import annotations

import torch
from torch import Tensor

from mtspark.train.networks.network import SpikingLayer


@torch.no_grad()
def act_as(layer: SpikingLayer, acting: Tensor) -> None:
    """Give a layer stored weights and gains whose folded weights are `acting`.

    Stored weights of cut synapses act no more, so they take the mean of each row, which
    standardisation subtracts, to 0. A row without a cut that has another mean comes close: each of
    its weights is less by that mean, and the gain is the one of least squares. A row of equal
    weights keeps its stored ones at a gain of 0.

    Args:
        layer: its mask stays.
        acting: in the shape of its weights, 0 where a synapse is cut.
    """
    rows, stored = acting.double().flatten(1), layer.synapses.weight.flatten(1).double()
    there = torch.ones_like(rows, dtype=torch.bool)
    if layer.mask is not None:
        there = layer.mask.flatten(1)
    cut = (~there).sum(1, keepdim=True)
    filled = torch.where(there, rows, -rows.sum(1, keepdim=True) / cut.clamp(min=1))
    alive = filled.std(1, keepdim=True) > 0
    # The optimiser's steps suit weights of the stored size.
    size = stored.std(1, keepdim=True) / filled.std(1, keepdim=True)
    new = torch.where(alive, filled * size, stored)
    layer.synapses.weight.copy_(new.view_as(layer.synapses.weight))
    layer.standardise.gain.fill_(1.0)
    unit = layer.folded_weight().flatten(1).double()
    fitted = (unit * rows).sum(1) / unit.square().sum(1)
    layer.standardise.gain.copy_(torch.where(alive[:, 0], fitted, 0.0))

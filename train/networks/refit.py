"""Stored weights and gains that act as given weights do."""

from __future__ import annotations

import torch
from torch import Tensor

from mtspark.train.networks.network import SpikingLayer

LEAST_SPREAD = 1e-9
"""Rows whose weights differ by a smaller share are rows of equal weights, but for rounding."""


@torch.no_grad()
def act_as(layer: SpikingLayer, acting: Tensor) -> None:
    """Give a layer stored weights and gains whose folded weights are `acting`.

    Stored weights of cut synapses act no more, so they take the mean of each row, which
    standardisation subtracts, to 0. A row without a cut that has another mean comes close: each of
    its weights is less by that mean, and the gain is the one of least squares. A row of equal
    weights keeps its stored ones at a gain of 0. A layer that takes no mean off, as the first one
    of numbers, can act as any weights.

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
    wanted, before = (_spread(layer, one) for one in (filled, stored))
    alive = wanted > LEAST_SPREAD * filled.abs().amax(1, keepdim=True)
    # The optimiser's steps suit weights of the stored size.
    size = torch.where(before > 0, before, 1.0) / wanted
    new = torch.where(alive, filled * size, stored)
    layer.synapses.weight.copy_(new.view_as(layer.synapses.weight))
    layer.standardise.gain.fill_(1.0)
    unit = layer.folded_weight().flatten(1).double()
    fitted = (unit * rows).sum(1) / unit.square().sum(1)
    layer.standardise.gain.copy_(torch.where(alive[:, 0], fitted, 0.0))


def _spread(layer: SpikingLayer, rows: Tensor) -> Tensor:
    """What standardisation divides each row by, (rows, 1)."""
    if layer.standardise.centred:
        return rows.std(1, correction=0, keepdim=True)
    return rows.square().mean(1, keepdim=True).sqrt()

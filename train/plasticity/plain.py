"""Plasticity of plain networks, as SAC's critics are: linear layers with ReLUs between them.

Layer norms may stand in front of the ReLUs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtspark.train.plasticity.metrics import activity_scores, dormant, effective_rank
from mtspark.train.plasticity.renewal import forget


def measure_plain(
    layers: nn.Sequential, inputs: Tensor, *, threshold: float, delta: float
) -> dict[str, float]:
    """Measure a plain network; neither its weights nor random numbers change.

    Args:
        layers: linear layers with a ReLU behind each but the last, with or without a layer norm
            before each ReLU.
        inputs: (samples, numbers) on which is measured.
        threshold: a unit is dormant if its score is at most this.
        delta: share of the singular values' sum that the effective rank leaves out.

    Returns:
        The share of dormant units, the effective rank of the last hidden layer, and the norm of
        all weights.
    """
    activity = _activity(layers, inputs)
    asleep = sum(int(_dormant(one, threshold).sum()) for one in activity)
    weights = [layer.weight.detach().flatten() for layer in _linear(layers)]
    return {
        "dormant_ratio": asleep / max(1, sum(one.shape[1] for one in activity)),
        "effective_rank": float(effective_rank(activity[-1], delta)) if activity else 0.0,
        "weight_norm": float(torch.cat(weights).norm()),
    }


@torch.no_grad()
def renew_plain(
    layers: nn.Sequential,
    inputs: Tensor,
    threshold: float,
    optimizer: torch.optim.Optimizer | None = None,
) -> int:
    """Give dormant units new incoming weights, and outgoing ones of 0.

    Sokar et al. 2023, arXiv:2302.12902, algorithm 1. Where layers are normalised, the gain and the
    bias of such a unit are those of a new one, too, as they may be what keeps it silent; the units
    beside it then hear the new weights through the mean and the deviation of their layer.

    Args:
        layers: as for :func:`measure_plain`; their random numbers are PyTorch's.
        inputs: (samples, numbers) on which units are judged.
        threshold: a unit is dormant if its score is at most this.
        optimizer: its running means of the weights that change are set to 0.

    Returns:
        How many units were renewed.
    """
    linear = _linear(layers)
    asleep = [_dormant(one, threshold) for one in _activity(layers, inputs)]
    norms = [layer for layer in layers if isinstance(layer, nn.LayerNorm)]
    for norm, which in zip(norms, asleep, strict=bool(norms)):
        norm.weight[which] = 1.0
        norm.bias[which] = 0.0
        for learned in (norm.weight, norm.bias):
            forget(optimizer, learned, which)
    for layer, which in zip(linear[:-1], asleep, strict=True):
        if not bool(which.any()):
            continue
        fresh = nn.Linear(layer.in_features, layer.out_features).to(layer.weight.device)
        layer.weight[which], layer.bias[which] = fresh.weight[which], fresh.bias[which]
        for parameter in (layer.weight, layer.bias):
            forget(optimizer, parameter, which)
    # Last, so that no new weight of the next layer hears a new unit.
    for after, which in zip(linear[1:], asleep, strict=True):
        after.weight[:, which] = 0
        forget(optimizer, after.weight, (slice(None), which))
    return sum(int(which.sum()) for which in asleep)


@torch.no_grad()
def reset_output(
    layers: nn.Sequential, target: nn.Sequential, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Draw the weights of the last layer as those of a new one; layers before it stay.

    Nikishin et al. 2022, arXiv:2205.07802.

    Args:
        layers: as for :func:`measure_plain`; their random numbers are PyTorch's.
        target: gets the same last layer, or it would teach the old values.
        optimizer: its running means of the layer are set to 0.
    """
    last = _linear(layers)[-1]
    last.reset_parameters()
    _linear(target)[-1].load_state_dict(last.state_dict())
    for parameter in (last.weight, last.bias):
        forget(optimizer, parameter, slice(None))


def _linear(layers: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


@torch.no_grad()
def _activity(layers: nn.Sequential, inputs: Tensor) -> list[Tensor]:
    """(samples, units) of every hidden layer."""
    found, values = [], inputs
    for layer in layers:
        values = layer(values)
        if isinstance(layer, nn.ReLU):
            found.append(values)
    return found


def _dormant(activity: Tensor, threshold: float) -> Tensor:
    counted = torch.ones(activity.shape[1], dtype=torch.bool, device=activity.device)
    return dormant(activity_scores(activity, counted), counted, threshold)

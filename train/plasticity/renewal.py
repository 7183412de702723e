"""New weights: for dormant neurons (ReDo), and for the heads (reset)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from mtspark.train.networks import HEAD_SPREAD, MTSparkNetwork, SpikingLayer
from mtspark.train.plasticity.measures import layer_activity
from mtspark.train.plasticity.metrics import activity_scores, dormant

BIAS = 0.3
"""Of a new neuron, as of those that a network begins with."""


@torch.no_grad()
def renew_dormant(
    network: MTSparkNetwork,
    frames: Tensor,
    task: Tensor,
    threshold: float,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, int]:
    """Give every dormant neuron new incoming weights, and outgoing ones that act as 0.

    Sokar et al. 2023, arXiv:2302.12902, algorithm 1. The channel of a convolution counts as one
    neuron. A weight under standardisation acts as 0 where it is the mean of the others of its row.
    So what a layer computes changes by a silent neuron only as far as standardisation asks: the
    other acting weights of a row are less by their mean. Those of the heads stay. Masks stay.

    Args:
        network: its random numbers are PyTorch's.
        frames: (samples, stack, height, width) on which neurons are judged.
        task: (samples,) task indices.
        threshold: a neuron is dormant if its score is at most this.
        optimizer: its running means of the weights that change are set to 0.

    Returns:
        Neurons that were renewed, by layer.

    Raises:
        BadRequestError: the network is stateful.
    """
    activity = layer_activity(network, frames, task)
    asleep = {
        name: dormant(activity_scores(*of_layer), of_layer[1], threshold)
        for name, of_layer in activity.items()
    }
    names = network.layer_names
    for name, after in itertools.zip_longest(names, names[1:], fillvalue=""):
        which = asleep[name]
        if not bool(which.any()):
            continue
        _renew(network.layer(name), which, optimizer)
        if not after:
            for head in (network.advantage, network.value):
                if head is not None:
                    head.weight[:, which] = 0
                    forget(optimizer, head.weight, (slice(None), which))
        else:
            _silence(network.layer(after), which, optimizer)
    return {name: int(which.sum()) for name, which in asleep.items()}


@torch.no_grad()
def reset_heads(
    network: MTSparkNetwork, target: MTSparkNetwork, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Draw the weights of the heads as those of a new network; layers before them stay.

    Nikishin et al. 2022, arXiv:2205.07802.

    Args:
        network: its random numbers are PyTorch's.
        target: gets the same heads, or it would teach the old values.
        optimizer: its running means of the heads are set to 0.
    """
    for head, slow in ((network.advantage, target.advantage), (network.value, target.value)):
        if head is None or slow is None:
            continue
        head.weight.normal_(std=HEAD_SPREAD)
        head.bias.zero_()
        slow.load_state_dict(head.state_dict())
        for parameter in (head.weight, head.bias):
            forget(optimizer, parameter, slice(None))


def _renew(layer: SpikingLayer, which: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """Draw the weights of some neurons as PyTorch draws those of a new layer."""
    weight, bias = layer.synapses.weight, layer.synapses.bias
    assert bias is not None
    bound = 1 / math.sqrt(weight[0].numel())
    weight[which] = torch.empty_like(weight[which]).uniform_(-bound, bound)
    bias[which] = BIAS
    gain = layer.standardise.gain
    gain[which] = 1.0
    if layer.there is not None:
        # As of a layer that begins sparse: its currents vary as those of a dense one.
        gain[which] = layer.row_density()[which].rsqrt()
    for parameter in (weight, bias, gain):
        forget(optimizer, parameter, which)


def _silence(layer: SpikingLayer, which: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """Let the weights from some neurons before a layer act as 0."""
    weight = layer.synapses.weight
    if not isinstance(layer.synapses, nn.Conv2d):
        # Behind a convolution, each channel has its places.
        which = which.repeat_interleave(weight.shape[1] // len(which))
    if bool(which.all()):
        return
    kept = weight[:, ~which]
    means = kept.flatten(1).mean(1).view(-1, *[1] * (weight.dim() - 1))
    before = weight.flatten(1).std(1, correction=0)
    weight[:, which] = means.expand_as(weight[:, which])
    # Standardisation divides by a row's deviation, which is smaller now.
    after = weight.flatten(1).std(1, correction=0)
    layer.standardise.gain.mul_(torch.where(before > 0, after / before, 1.0))
    forget(optimizer, weight, (slice(None), which))


def forget(
    optimizer: torch.optim.Optimizer | None,
    parameter: Tensor,
    places: Tensor | slice | tuple[slice, Tensor],
) -> None:
    """Set an optimizer's running means at some places of a parameter to 0."""
    state = {} if optimizer is None else optimizer.state.get(parameter, {})
    for mean in ("exp_avg", "exp_avg_sq"):
        if mean in state:
            state[mean][places] = 0

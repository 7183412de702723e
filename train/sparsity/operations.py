"""Synaptic operations of a decision: the spikes of each layer times the synapses they meet."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtspark.train.networks import MTSparkNetwork

OPERATIONS_UNIT = 1e5
"""A penalty is the price of so many operations."""


@torch.no_grad()
def synapses_met(network: MTSparkNetwork, task: int | None = None) -> dict[str, Tensor]:
    """Count the synapses that one spike of each neuron meets; cut synapses do not count.

    As :func:`mtspark.core.chip_network.fan_out` counts them on the chip. The head is one layer
    of a synapse for each action, as it is exported.

    Args:
        network: with or without masks and paths.
        task: counts the synapses of this task's path; None: of a network without paths.

    Returns:
        Float tensors in the shape of each spiking layer, by its name.
    """
    names, shapes = network.layer_names, network.layer_shapes
    met: dict[str, Tensor] = {}
    for name, after in itertools.pairwise(names):
        layer = network.layer(after)
        weight = layer.synapses.weight
        there = torch.ones_like(weight) if layer.mask is None else layer.mask.to(weight.dtype)
        if task is not None and layer.paths is not None:
            there = there * layer.paths[task]
        if not isinstance(layer.synapses, nn.Conv2d):
            met[name] = there.sum(0).view(shapes[name])
            continue
        outputs = torch.ones(1, *shapes[after], dtype=weight.dtype, device=weight.device)
        reached = functional.conv_transpose2d(outputs, there, stride=layer.synapses.stride)[0]
        # Rows and columns that no window reaches, where the stride leaves a rest.
        rest = [have - got for have, got in zip(shapes[name], reached.shape, strict=True)]
        met[name] = functional.pad(reached, (0, rest[2], 0, rest[1]))
    last = names[-1]
    head = network.advantage.weight
    count = float(network.config.actions)
    met[last] = torch.full(shapes[last], count, dtype=head.dtype, device=head.device)
    return met


def operations_of(spikes: Mapping[str, Tensor], met: Mapping[str, Tensor]) -> Tensor:
    """Count the synaptic operations of binary messages in each sample's decision.

    Messages of the input are left out: no weight changes how many there are.

    Args:
        spikes: (T, batch, ...) of each spiking layer; gradients flow through them.
        met: see :func:`synapses_met`; or with a batch before each shape, where the synapses of
            samples differ.

    Returns:
        (batch,) operations.
    """
    totals = []
    for name, counts in met.items():
        fired = spikes[name].flatten(2).sum(0)
        shared = counts.ndim == spikes[name].ndim - 2
        totals.append(fired @ counts.flatten() if shared else (fired * counts.flatten(1)).sum(1))
    return torch.stack(totals).sum(0)

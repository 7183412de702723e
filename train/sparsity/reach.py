"""Whether anything that a network sees still reaches its answer."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mtspark.train.networks import MTSparkNetwork


@torch.no_grad()
def deaf_tasks(network: MTSparkNetwork) -> list[int]:
    """Tasks in which no chain of synapses leads from the input to the last layer.

    Each layer keeps some synapses, whatever the density; they need not meet those of the next. The
    answer is then the same whatever is shown.

    Args:
        network: with masks or paths.

    Returns:
        Their indices, in order.
    """
    deaf = []
    for task in range(network.config.tasks):
        reached = torch.ones(1, *network.config.observation_shape)
        for name in network.layer_names:
            layer = network.layer(name)
            there = (layer.folded_weight(task) != 0).float().cpu()
            if isinstance(layer.synapses, nn.Conv2d):
                found = functional.conv2d(reached, there, stride=layer.synapses.stride)
            else:
                found = functional.linear(reached.flatten(1), there)
            reached = (found > 0).float()
        if not reached.any():
            deaf.append(task)
    return deaf

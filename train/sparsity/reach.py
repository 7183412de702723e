"""Whether anything that a network sees still reaches its answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from mtspark.core.environments import Task
from mtspark.train.networks import MTSparkNetwork


@torch.no_grad()
def deaf_tasks(network: MTSparkNetwork, tasks: Sequence[Task]) -> list[int]:
    """Tasks in which no chain of synapses leads from the input to the last layer.

    Each layer keeps some synapses, whatever the density; they need not meet those of the next. The
    answer is then the same whatever is shown.

    Args:
        network: with masks or paths.
        tasks: its own; one that has a place of its own in the frame is shown nothing elsewhere.

    Returns:
        Their indices, in order.
    """
    deaf = []
    for task, shown in enumerate(tasks):
        reached = torch.zeros(1, *network.config.observation_shape)
        reached.view(-1)[shown.place] = 1
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

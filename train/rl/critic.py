"""Plain critics: what is worth what, of a state or of an action in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtspark.train.networks import NetworkConfig


class Critic(nn.Module):
    """A plain network that sees what the actor sees, with a head for each task.

    Args:
        network: of the actor: its observations, convolutions and tasks.
        widths: of the hidden layers behind the convolutions.
        outputs: of a task: 1 of states, or one for each action of a list.
        numbers: of a decision, which it sees, too; 0: none.
        activation: behind each hidden layer.
        layer_norm: hidden layers are normalised, see :func:`with_layer_norm`; convolutions are not.
    """

    def __init__(
        self,
        network: NetworkConfig,
        widths: tuple[int, ...],
        *,
        outputs: int = 1,
        numbers: int = 0,
        activation: type[nn.Module] = nn.Tanh,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.unit, self.tasks = network.message_value, network.tasks
        channels = network.observation_shape[0]
        looks: list[nn.Module] = []
        for size in network.convolutions:
            looks += [nn.Conv2d(channels, size.channels, size.kernel, size.stride), nn.ReLU()]
            channels = size.channels
        self.convolutions = nn.Sequential(*looks, nn.Flatten())
        shapes = [network.observation_shape, *network.layer_shapes.values()]
        width = math.prod(shapes[len(network.convolutions)]) + network.tasks + numbers
        thoughts: list[nn.Module] = []
        for following in widths:
            thoughts += [nn.Linear(width, following), activation()]
            width = following
        layers = nn.Sequential(*thoughts, nn.Linear(width, network.tasks * outputs))
        self.layers = with_layer_norm(layers) if layer_norm else layers

    def forward(self, frames: Tensor, task: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Return values, (batch,) of one output, otherwise (batch, outputs)."""
        seen = self.convolutions(frames.float() * self.unit)
        which = functional.one_hot(task, self.tasks).float()
        parts = [seen, which] if numbers is None else [seen, which, numbers]
        values: Tensor = self.layers(torch.cat(parts, 1)).unflatten(1, (self.tasks, -1))
        return values[torch.arange(len(task), device=task.device), task].squeeze(1)


def with_layer_norm(layers: nn.Sequential) -> nn.Sequential:
    """Normalise what each hidden layer hands to its activation (Ba et al. 2016, arXiv:1607.06450).

    Args:
        layers: linear layers with an activation behind each but the last.

    Returns:
        The same layers, with a layer norm of its width behind each linear one but the last.
    """
    last = max(index for index, one in enumerate(layers) if isinstance(one, nn.Linear))
    normed: list[nn.Module] = []
    for index, one in enumerate(layers):
        normed.append(one)
        if isinstance(one, nn.Linear) and index < last:
            normed.append(nn.LayerNorm(one.out_features).to(one.weight.device))
    return nn.Sequential(*normed)

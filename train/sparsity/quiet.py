"""Biases that drive no neuron alone, so that a layer is silent outside of its window."""

from __future__ import annotations

import torch

from mtspark.train.networks import MTSparkNetwork


@torch.no_grad()
def quiet_biases(network: MTSparkNetwork) -> None:
    """Cut each bias to the largest one that never makes its neuron fire without input.

    A membrane under a constant current b tends to b / (1 - beta), and from below the threshold it
    never passes a limit that is no higher. On the chip, layers run on while the pipeline drains;
    neurons that their bias drives would send spikes there that nobody reads. Dendritic gains are
    below 1 and only lower the current.

    Args:
        network: of spiking neurons; its biases change in place.
    """
    for name in network.layer_names:
        layer = network.layer(name)
        constants = network.config.neuron_constants(name)
        bias = layer.synapses.bias
        assert bias is not None
        bias.clamp_(max=constants.threshold * (1 - constants.beta) / layer.drive)

"""Action values of a run's networks, and the scale on which they are learned."""

from __future__ import annotations

import torch
from torch import Tensor

from mtspark.core.environments import Task
from mtspark.train.config import TrainConfig
from mtspark.train.networks import (
    MTSparkNetwork,
    NetworkTrace,
    legal_action_mask,
    mask_illegal,
)
from mtspark.train.quantised import Twin, TwinOptions, TwinTrace


def rescale(value: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x (Pohlen et al. 2018, arXiv:1805.11593)."""
    return value.sign() * ((value.abs() + 1).sqrt() - 1) + 1e-3 * value


def unscale(value: Tensor) -> Tensor:
    """The inverse of :func:`rescale`."""
    eps = 1e-3
    root = (1 + 4 * eps * (value.abs() + 1 + eps)).sqrt()
    return value.sign() * (((root - 1) / (2 * eps)) ** 2 - 1)


class ActionValues:
    """Evaluates the networks of a run: in bfloat16, or on the chip's integers where asked.

    Attributes:
        mask: (tasks, actions), True for legal actions.
    """

    def __init__(
        self,
        config: TrainConfig,
        tasks: tuple[Task, ...],
        networks: tuple[MTSparkNetwork, ...],
        device: torch.device,
    ) -> None:
        self._device, self._bfloat16 = device, config.bfloat16
        options = TwinOptions(weight_bits=config.weight_bits)
        self._twins = (
            {
                network: Twin(network, options, bfloat16_gradients=config.bfloat16)
                for network in networks
            }
            if config.quantisation_aware
            else {}
        )
        legal = [task.legal_actions for task in tasks]
        self.mask = legal_action_mask(legal, config.network.actions).to(device)

    def __call__(
        self,
        network: MTSparkNetwork,
        frames: Tensor,
        task: Tensor,
        spikes: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """(batch, actions) values; illegal actions are out of reach of any maximum.

        Args:
            network: one of the run's.
            frames: uint8 (batch, stack, height, width).
            task: (batch,) task indices.
            spikes: filled with the spikes of each layer, (T, batch, ...), when given.
        """
        if network in self._twins:
            chip = None if spikes is None else TwinTrace()
            values = self._twins[network](frames, task, chip).float()
            if spikes is not None and chip is not None:
                spikes.update({name: chip.spikes[name] for name in network.layer_names})
            return mask_illegal(values, self.mask[task])
        trace = None if spikes is None else NetworkTrace()
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            values = network(frames, task, trace)
        if spikes is not None and trace is not None:
            spikes.update({name: layer.spikes for name, layer in trace.layers.items()})
        return mask_illegal(values, self.mask[task])

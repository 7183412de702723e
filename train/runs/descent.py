"""One step down a gradient, which every kind of training takes, and its stop where it diverges."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtspark.core.errors import DivergedError
from mtspark.train.checkpoint import not_finite


def descend(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, gradient_norm: float
) -> None:
    """Take one step down the gradient of a loss, clipped to its largest norm.

    A spiking network hides such a divergence: a membrane that is not a number fires no spike, so
    later losses may be finite again. Therefore the weights are looked at, too.

    Args:
        network: what learns.
        optimizer: of its parameters.
        loss: (), what it is to lower.
        gradient_norm: largest norm of the gradient.

    Raises:
        DivergedError: the loss was, or a weight is now, not finite. Nothing is saved.
    """
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), gradient_norm)
    optimizer.step()
    # In one go: on CUDA each look at a value waits for all that was asked for before.
    weights = dict(network.named_parameters())
    sound = [
        loss.detach().isfinite().all(),
        *(weight.isfinite().all() for weight in weights.values()),
    ]
    if bool(torch.stack(sound).all()):
        return
    if not bool(sound[0]):
        raise DivergedError(f"the loss is {float(loss.detach())}")
    raise DivergedError(f"weights are not finite ({not_finite(weights)[0]})")


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Check the weights of a checkpoint.

    Raises:
        ValueError: some are not finite.
    """
    if names := not_finite(weights):
        raise ValueError(f"weights are not finite: {names[0]}")

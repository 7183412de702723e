"""Spiking neurons that can be deployed: snntorch's Leaky with zero reset and no reset delay.

Other resets and surrogate gradients serve comparisons; :mod:`mtspark.train.networks.variants` says
which networks can be deployed.
"""

from __future__ import annotations

import math
from typing import Any

import snntorch as snn
import torch
from torch import Tensor, nn

from mtspark.train.networks.config import NeuronConstants
from mtspark.train.networks.fusing import fused


def surrogate_derivative(overshoot: Tensor, surrogate: str, slope: float) -> Tensor:
    """Derivative in place of a step's, with x = membrane - threshold and a = slope.

    inverse_square: 1 / (1 + (a x)^2). atan: (a/2) / (1 + (pi a x / 2)^2) (Fang et al. 2021,
    doi:10.1109/ICCV48922.2021.00266). sigmoid: a s (1 - s), s = sigmoid(a x). fast_sigmoid:
    1 / (1 + a |x|)^2 (Zenke and Ganguli 2018, doi:10.1162/neco_a_01086). triangle:
    max(0, 1 - a |x|) (Bellec et al. 2018, arXiv:1803.09574).
    """
    if surrogate == "inverse_square":
        scaled = slope * overshoot
        return 1 / (1 + scaled * scaled)
    if surrogate == "atan":
        return slope / 2 / (1 + (math.pi / 2 * slope * overshoot) ** 2)
    if surrogate == "sigmoid":
        level = torch.sigmoid(slope * overshoot)
        return slope * level * (1 - level)
    if surrogate == "fast_sigmoid":
        return 1 / (1 + slope * overshoot.abs()) ** 2
    return (1 - slope * overshoot.abs()).clamp(min=0)


class _SurrogateSpike(torch.autograd.Function):
    """Heaviside step with a surrogate derivative."""

    @staticmethod
    def forward(ctx: Any, overshoot: Tensor, surrogate: str, slope: float) -> Tensor:
        ctx.save_for_backward(overshoot)
        ctx.surrogate, ctx.slope = surrogate, slope
        return (overshoot > 0).to(overshoot.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (overshoot,) = ctx.saved_tensors
        derivative = surrogate_derivative(overshoot, ctx.surrogate, ctx.slope)
        return grad_outputs[0] * derivative, None, None


def spike_with_surrogate(
    overshoot: Tensor, surrogate: str = "inverse_square", slope: float = 2.0
) -> Tensor:
    """Spike where the membrane is strictly above threshold; smooth gradient."""
    return _SurrogateSpike.apply(overshoot, surrogate, slope)  # type: ignore[no-untyped-call]


class DeployableLeaky(snn.Leaky):  # type: ignore[misc]
    """snntorch ``Leaky(reset_mechanism="zero", reset_delay=False)`` with a detached reset.

    Same spikes and membranes as the parent; only the gradient differs: the parent lets it
    flow through the reset when there is no reset delay, which learned worse. With other constants
    than the parent's, it is the neuron that they describe.
    """

    def __init__(self, constants: NeuronConstants) -> None:
        super().__init__(
            beta=constants.beta,
            threshold=constants.threshold,
            spike_grad=spike_with_surrogate,
            reset_mechanism=constants.reset,
            reset_delay=False,
        )
        self.constants = constants

    def forward(self, current: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step: integrate, fire, reset. Shapes of `current`, `mem`, results agree."""
        return step(current, mem, self.constants)


def step(current: Tensor, mem: Tensor | None, constants: NeuronConstants) -> tuple[Tensor, Tensor]:
    """One time step from membrane `mem` (None: rest); spikes and the membrane after reset."""
    mem = current if mem is None else constants.beta * mem + current
    spike = spike_with_surrogate(mem - constants.threshold, constants.surrogate, constants.slope)
    if constants.winners:
        spike = spike * _winners(mem, constants.winners)
    fired = spike.detach() if constants.detach_reset else spike
    if constants.reset == "zero":
        return spike, mem * (1.0 - fired)
    if constants.reset == "subtract":
        return spike, mem - constants.threshold * fired
    return spike, mem


def _winners(mem: Tensor, count: int) -> Tensor:
    """1 for the `count` highest membranes of each sample's layer, 0 for the others."""
    flat = mem.flatten(1)
    chosen = flat.topk(min(count, flat.shape[1]), dim=1).indices
    return torch.zeros_like(flat).scatter(1, chosen, 1.0).view_as(mem)


def _all_steps(currents: Tensor, constants: NeuronConstants, time_steps: int) -> Tensor:
    spikes = []
    mem: Tensor | None = None
    for number in range(time_steps):
        spike, mem = step(currents[number if currents.shape[0] > 1 else 0], mem, constants)
        spikes.append(spike)
    return torch.stack(spikes)


def run_layer(
    neuron: DeployableLeaky, currents: Tensor, time_steps: int, *, compiled: bool = False
) -> Tensor:
    """Run one layer over a decision from rest.

    Args:
        neuron: the layer's neuron model.
        currents: (T, batch, ...) or, for a constant current, (1, batch, ...).
        time_steps: T.
        compiled: fuse the steps with torch.compile (needs a C++ compiler), a minute to start.

    Returns:
        Spikes (T, batch, ...).
    """
    run = fused(_all_steps) if compiled else _all_steps
    with torch.autocast(currents.device.type, enabled=False):
        return run(currents, neuron.constants, time_steps)


def run_episode(
    neuron: DeployableLeaky,
    currents: Tensor,
    going: Tensor,
    mem: Tensor | None = None,
    gains: Tensor | None = None,
    loop: nn.Module | None = None,
    before: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one layer over decisions of one step each, between which its state lasts.

    Args:
        neuron: the layer's neuron model.
        currents: (decisions, batch, ...).
        going: (decisions, batch) 0 where an episode begins, and the state is at rest; else 1.
        mem: membranes after the decision before; None: rest.
        gains: (batch, ...) factors on all that arrives; None: 1.
        loop: what the layer hears of its own spikes of the decision before.
        before: these spikes, (batch, ...); None: none.

    Returns:
        Currents with what came round the loop, spikes (decisions, batch, ...) and the last
        membranes.
    """
    mem = torch.zeros_like(currents[0]) if mem is None else mem
    spike = torch.zeros_like(currents[0]) if before is None or loop is None else before
    heard, sent = [], []
    for current, on in zip(currents, going, strict=True):
        last = on.view(-1, *[1] * (current.dim() - 1))
        arriving = current if loop is None else current + loop(spike * last)
        arriving = arriving if gains is None else arriving * gains
        spike, mem = step(arriving, mem * last, neuron.constants)
        heard.append(arriving)
        sent.append(spike)
    return torch.stack(heard), torch.stack(sent), mem

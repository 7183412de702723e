"""Spiking neurons as they deploy: snntorch's Leaky with zero reset and no reset delay."""

from __future__ import annotations

from typing import Any

import snntorch as snn
import torch
from torch import Tensor, nn


class _InverseSquareSpike(torch.autograd.Function):
    """Heaviside step with the surrogate derivative 1 / (1 + (2 x)^2)."""

    @staticmethod
    def forward(ctx: Any, overshoot: Tensor) -> Tensor:
        ctx.save_for_backward(overshoot)
        return (overshoot > 0).to(overshoot.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (overshoot,) = ctx.saved_tensors
        return grad_outputs[0] / (1 + 4 * overshoot * overshoot)


def spike_with_surrogate(overshoot: Tensor) -> Tensor:
    """Spike where the membrane is strictly above threshold; smooth gradient 1/(1+(2x)^2)."""
    return _InverseSquareSpike.apply(overshoot)  # type: ignore[no-untyped-call]


class ZeroResetLeaky(snn.Leaky):  # type: ignore[misc]
    """snntorch ``Leaky(reset_mechanism="zero", reset_delay=False)`` with a detached reset.

    Same spikes and membranes as the parent; only the gradient differs: the parent lets it
    flow through the reset when there is no reset delay, which learned worse.
    """

    def __init__(self, beta: float, threshold: float) -> None:
        super().__init__(
            beta=beta,
            threshold=threshold,
            spike_grad=spike_with_surrogate,
            reset_mechanism="zero",
            reset_delay=False,
        )
        self.constants = (float(beta), float(threshold))

    def forward(self, current: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step: integrate, fire, reset. Shapes of `current`, `mem`, results agree."""
        return _step(current, mem, *self.constants)


def _step(
    current: Tensor, mem: Tensor | None, beta: float, threshold: float
) -> tuple[Tensor, Tensor]:
    mem = current if mem is None else beta * mem + current
    spike = spike_with_surrogate(mem - threshold)
    return spike, mem * (1.0 - spike.detach())


def _all_steps(currents: Tensor, beta: float, threshold: float, time_steps: int) -> Tensor:
    spikes = []
    mem: Tensor | None = None
    for step in range(time_steps):
        spike, mem = _step(currents[step if currents.shape[0] > 1 else 0], mem, beta, threshold)
        spikes.append(spike)
    return torch.stack(spikes)


# One compilation for each layer shape, batch size and gradient mode.
torch._dynamo.config.recompile_limit = 64
_all_steps_compiled = torch.compile(_all_steps, dynamic=False)


def run_layer(
    neuron: ZeroResetLeaky, currents: Tensor, time_steps: int, *, compiled: bool = False
) -> Tensor:
    """Run one layer over a decision from rest.

    Args:
        neuron: the layer's neuron model.
        currents: (T, batch, ...) or, for a constant current, (1, batch, ...).
        time_steps: T.
        compiled: fuse the steps with torch.compile (needs a C++ compiler): four times
            faster in training, a minute to start.

    Returns:
        Spikes (T, batch, ...).
    """
    run = _all_steps_compiled if compiled else _all_steps
    with torch.autocast(currents.device.type, enabled=False):
        return run(currents, *neuron.constants, time_steps)


class ActiveDendrites(nn.Module):
    """A gain per neuron and task: sigmoid of the strongest dendritic segment.

    Each neuron has K segments over a context vector; the segment with the largest absolute
    response is chosen and its signed value gates the neuron's input current, bias included
    (Iyer et al. 2022, doi:10.3389/fnbot.2022.846219, with the gate on the current).
    """

    def __init__(self, neurons: int, segments: int, context_size: int) -> None:
        super().__init__()
        self.segments = nn.Parameter(0.5 * torch.randn(neurons, segments, context_size))

    def forward(self, context: Tensor) -> Tensor:
        """Gains in (0, 1) of shape (batch, neurons) for contexts (batch, context_size)."""
        responses = torch.einsum("nkc,bc->bnk", self.segments, context)
        strongest = responses.abs().argmax(dim=-1, keepdim=True)
        return torch.sigmoid(responses.gather(-1, strongest).squeeze(-1))

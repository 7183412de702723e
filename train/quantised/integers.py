"""The integers of the chip as differentiable tensors: what an export would make of the weights.

Every rounded quantity has a smooth one beside it: forward gives the integer, backward passes
the gradient to the smooth one (a straight-through estimator, Bengio et al. 2013,
arXiv:1308.3432). The choices of scales are those of the export; a test holds the two together.
Integers are held in float32 or float64 tensors, which is exact as far as each can count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtspark.core.arithmetic import (
    BIAS_EXPONENTS,
    BIAS_LIMIT,
    CURRENT_LIMIT,
    DECAY_ONE,
    STATE_SHIFT,
    THRESHOLD_LIMIT,
    WEIGHT_EXPONENTS,
)
from mtspark.core.errors import BadNetworkError

STATE_ONE = 2**STATE_SHIFT
EXACT_FLOAT32 = 2**24
"""Up to here float32 holds every integer."""
LARGEST = {"pixels": 255, "values": 128, "spikes": 1}
"""Magnitude of a message, by what a frame holds."""


@dataclass(frozen=True)
class TwinOptions:
    """How weights become integers; the options of ``mtspark export``.

    Attributes:
        weight_bits: 2 to 8.
        per_channel: one scale per output channel, otherwise one per layer.
        keep_sums: round so that the sum of every kernel survives.
        with_value: the head computes V + A - mean A; otherwise only A - mean A.
    """

    weight_bits: int = 8
    per_channel: bool = True
    keep_sums: bool = True
    with_value: bool = True

    @property
    def step(self) -> int:
        """Distance of two neighbouring weights in chip units."""
        return 2 ** (9 - self.weight_bits)

    @property
    def levels(self) -> int:
        """Largest weight in steps."""
        return int(2 ** (self.weight_bits - 1)) - 1


@dataclass(frozen=True)
class LayerIntegers:
    """One layer as the chip holds it; tensors carry gradients to the float network.

    Attributes:
        weight: in steps of the weight grid (float64 integers), shaped as the float weights.
        step: chip units a step.
        exponent: of the weights.
        unit: float value of one membrane unit, of each output channel; no gradient.
        bias: added to the membrane in every step, of each output channel.
        bias_exponent: its lowest bits are 0.
        thresholds: mantissas, (tasks, *shape of the layer); None for the readout.
        membrane_decay: dv of 4096.
        largest_sum: bound on every partial sum of steps times messages.
    """

    weight: Tensor
    step: int
    exponent: int
    unit: Tensor
    bias: Tensor
    bias_exponent: int
    thresholds: Tensor | None
    membrane_decay: int
    largest_sum: float


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor]:
        return None, grad_outputs[0]


def straight(exact: Tensor, smooth: Tensor) -> Tensor:
    """`exact` forward, to the bit; the gradient goes to `smooth`. Both of one shape."""
    return _Straight.apply(exact.detach(), smooth)  # type: ignore[no-untyped-call]


def integers_of_layer(
    weight: Tensor,
    bias: Tensor,
    thresholds: Tensor | None,
    *,
    largest_message: int,
    input_scale: float,
    membrane_decay: int,
    steps: int,
    options: TwinOptions,
    signed: bool = False,
) -> LayerIntegers:
    """Find the largest exponent for which no sum can overflow, and the integers that go with it.

    Args:
        weight: folded float weights, (channels, ...).
        bias: folded float biases, (channels,).
        thresholds: float thresholds of the gated neurons over the drive, (tasks, *shape), or
            None for a layer that is read out.
        largest_message: 1 for spikes, 255 for pixels, 128 for signed values.
        input_scale: float value of a message of 1.
        membrane_decay: dv of 4096.
        steps: between two resets of the state.
        options: the weight grid.
        signed: messages may be negative.

    Raises:
        BadNetworkError: no exponent is small enough.
    """
    weight, bias = weight.double(), bias.double()
    unit = _unit(weight.detach(), options)
    in_steps = weight / (unit * options.step).view(-1, *[1] * (weight.dim() - 1))
    rounded = round_weights(in_steps.detach(), options)
    unit = unit * input_scale
    above, below = _signed_sums(rounded * options.step, largest_message)
    if signed:
        above = below = above + below
    for exponent in reversed(WEIGHT_EXPONENTS):
        gain = 2.0**exponent / unit
        smooth_bias = bias * gain * STATE_ONE
        fitted = _fit_bias(smooth_bias.detach())
        if fitted is None:
            continue
        # A shift to the right rounds down, by less than one.
        slack = 1 if exponent < 0 else 0
        added = (torch.maximum(above, below) * 2.0**exponent + slack) * STATE_ONE
        if not _fits(added, fitted[0].abs(), membrane_decay, steps):
            continue
        mantissas = None
        if thresholds is not None:
            smooth = thresholds * gain.view(-1, *[1] * (thresholds.dim() - 2))
            mantissas = straight(smooth.detach().round().clamp(max=THRESHOLD_LIMIT), smooth)
        return LayerIntegers(
            weight=straight(rounded, in_steps),
            step=options.step,
            exponent=exponent,
            unit=unit / 2.0 ** (exponent + STATE_SHIFT),
            bias=straight(fitted[0], smooth_bias),
            bias_exponent=fitted[1],
            thresholds=mantissas,
            membrane_decay=membrane_decay,
            largest_sum=float(torch.maximum(above, below).max()) / options.step,
        )
    raise BadNetworkError(
        f"no weight exponent from {WEIGHT_EXPONENTS[0]} keeps the sums of a layer within 24 bits "
        f"(fan-in {weight[0].numel()}); use fewer inputs or smaller biases"
    )


def _unit(weight: Tensor, options: TwinOptions) -> Tensor:
    """Float value of one chip unit that puts the largest weight on the end of the grid."""
    largest = weight.flatten(1).abs().amax(1)
    if not options.per_channel:
        largest = largest.max().expand_as(largest)
    whole = float(options.levels * options.step)
    return torch.where(largest > 0, largest, torch.full_like(largest, whole)) / whole


def round_weights(in_steps: Tensor, options: TwinOptions) -> Tensor:
    """Integers of the weight grid for weights in steps, (channels, ...) float64."""
    if not options.keep_sums:
        return in_steps.round().clamp(-options.levels - 1, options.levels)
    groups = in_steps.flatten(2).flatten(0, 1) if in_steps.dim() > 2 else in_steps
    low = groups.floor()
    fraction = groups - low
    up = fraction.sum(1, keepdim=True).round()
    # Largest remainders go up; the first of equal ones.
    order = torch.sort(fraction, dim=1, descending=True, stable=True).indices
    places = torch.arange(order.shape[1], device=order.device, dtype=groups.dtype)
    goes_up = torch.zeros_like(groups).scatter(1, order, (places < up).to(groups.dtype))
    return (low + goes_up).view_as(in_steps).clamp(-options.levels - 1, options.levels)


def _signed_sums(weights: Tensor, largest_message: int) -> tuple[Tensor, Tensor]:
    """Largest sum, and largest negative sum as a magnitude, of each output row."""
    rows = weights.flatten(1)
    return rows.clamp(min=0).sum(1) * largest_message, -rows.clamp(max=0).sum(1) * largest_message


def _fit_bias(bias: Tensor) -> tuple[Tensor, int] | None:
    """Biases on the finest common grid that holds them, in membrane units; None: too large."""
    for exponent in BIAS_EXPONENTS:
        mantissa = (bias / 2**exponent).round()
        if float(mantissa.abs().max()) <= BIAS_LIMIT:
            return mantissa * 2**exponent, exponent
    return None


def _fits(added: Tensor, bias: Tensor, membrane_decay: int, steps: int) -> bool:
    """No current reaches the limit where it wraps, no membrane the largest threshold."""
    keep = 1 - membrane_decay / DECAY_ONE
    membrane = torch.zeros_like(added)
    for _ in range(steps):
        membrane = keep * membrane + added + bias
    safe = THRESHOLD_LIMIT * STATE_ONE
    return float(added.max()) < CURRENT_LIMIT and float(membrane.max()) < safe

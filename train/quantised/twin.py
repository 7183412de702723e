"""The twin: the float network's weights acting as the chip's integers, with gradients.

Forward it computes what the chip computes, spike for spike and membrane for membrane; backward
it is the float network with its surrogate gradients. So an agent can be fine-tuned on the very
network that is deployed: train :class:`Twin`, export its ``network``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtspark.core.arithmetic import DECAY_ONE, STATE_SHIFT, THRESHOLD_LIMIT
from mtspark.core.errors import BadNetworkError
from mtspark.train.networks import (
    MTSparkNetwork,
    NeuronConstants,
    fused,
    spike_with_surrogate,
    why_not_deployable,
)
from mtspark.train.quantised.integers import (
    EXACT_FLOAT32,
    LARGEST,
    STATE_ONE,
    LayerIntegers,
    TwinOptions,
    integers_of_layer,
    straight,
)

HEAD = "head"
SMALLEST_GAIN = 1e-12
"""A gain below it means off; an export keeps gains above it, too."""
STEP_S = 1e-4
"""The time step of exported graphs; it cancels but for rounding."""


@dataclass
class TwinTrace:
    """Spikes and membranes of one decision, by layer: (T, batch, ...), each in its own window."""

    spikes: dict[str, Tensor] = field(default_factory=dict)
    membranes: dict[str, Tensor] = field(default_factory=dict)


class Twin(nn.Module):
    """A network that acts on the chip's integers and learns as floats.

    Its parameters are those of `network`, which can be exported at any time, with the same
    options, to exactly the integers that acted here. Where ``network.compiled`` is set, the steps
    of a layer are fused; spikes and membranes stay the same.

    Args:
        network: the float network; it is shared, not copied.
        options: the weight grid, as for the export.
        bfloat16_gradients: gradients of products are products in bfloat16, whose sums are exact no
            more; what the twin computes forward stays the chip's.

    Raises:
        BadNetworkError: a network that no chip can run.
    """

    def __init__(
        self,
        network: MTSparkNetwork,
        options: TwinOptions | None = None,
        *,
        bfloat16_gradients: bool = False,
    ) -> None:
        super().__init__()
        reason = why_not_deployable(network.config)
        if reason is not None:
            raise BadNetworkError(f"this network has no integer twin: {reason}")
        self.network = network
        self.options = options or TwinOptions()
        self.bfloat16_gradients = bfloat16_gradients
        self._kept: tuple[Tensor, dict[str, LayerIntegers]] | None = None
        if not 2 <= self.options.weight_bits <= 8:
            raise BadNetworkError(f"{self.options.weight_bits} weight bits: 2 to 8 exist")

    def integers(self) -> dict[str, LayerIntegers]:
        """The integers of every layer and of the head, as an export would choose them now."""
        network, config = self.network, self.network.config
        beta = config.beta
        # As the exported neuron says it: tau = dt / (1 - beta), r = 1 / (1 - beta).
        tau, resistance = STEP_S / (1 - beta), 1 / (1 - beta)
        drive = STEP_S * resistance / tau
        decay = round(DECAY_ONE * (STEP_S / tau))
        steps = config.time_steps + len(network.layer_names) + 1
        layers: dict[str, LayerIntegers] = {}
        for name in network.layer_names:
            layer = network.layer(name)
            first = not layers
            layers[name] = integers_of_layer(
                layer.folded_weight(),
                layer.folded_bias(),
                config.threshold / self._gains(name) / drive,
                largest_message=LARGEST[config.input] if first else 1,
                signed=first and config.input == "values",
                input_scale=config.message_value if first else 1.0,
                membrane_decay=decay,
                steps=steps,
                options=self.options,
            )
        weight, bias = network.folded_head(with_value=self.options.with_value)
        layers[HEAD] = integers_of_layer(
            weight.float(),
            bias.float(),
            None,
            largest_message=1,
            input_scale=1.0,
            membrane_decay=0,
            steps=steps,
            options=self.options,
        )
        return layers

    def _gains(self, name: str) -> Tensor:
        """Gains of a layer's neurons under every task, float64 (tasks, *shape)."""
        network = self.network
        # One task at a time, as the export asks: a product's last bit may depend on its batch.
        tasks = range(network.config.tasks)
        gains_of_tasks = [network.gains_of_tasks(name, slice(i, i + 1)) for i in tasks]
        device = network.advantage.weight.device
        ones = torch.ones(1, *network.layer_shapes[name], device=device)
        gains = torch.cat([ones if gain is None else gain for gain in gains_of_tasks])
        return gains.double().clamp(min=SMALLEST_GAIN)

    def forward(
        self,
        frames: Tensor,
        task: Tensor,
        trace: TwinTrace | None = None,
        integers: dict[str, LayerIntegers] | None = None,
    ) -> Tensor:
        """Compute the action values of the chip.

        Args:
            frames: (batch, channels, height, width) uint8 or int8.
            task: (batch,) task indices.
            trace: filled with every spike and membrane when given.
            integers: :meth:`integers` of the weights as they are; computed when not given.

        Returns:
            float64 (batch, actions), those of the chip to the last digit.
        """
        with torch.autocast(frames.device.type, enabled=False):
            return self._forward(frames, task, trace, integers or self._integers_now())

    def _integers_now(self) -> dict[str, LayerIntegers]:
        """As :meth:`integers`; computed once while the network keeps its weights."""
        weight = self.network.hidden.kept
        if weight is None:
            return self.integers()
        if self._kept is None or self._kept[0] is not weight:
            self._kept = (weight, self.integers())
        return self._kept[1]

    def _forward(
        self,
        frames: Tensor,
        task: Tensor,
        trace: TwinTrace | None,
        integers: dict[str, LayerIntegers],
    ) -> Tensor:
        network, steps = self.network, self.network.config.time_steps
        sent: Tensor | None = None
        for name in network.layer_names:
            layer, whole = network.layer(name), integers[name]
            # A frame is held: one product serves all T steps.
            messages = frames if sent is None else sent.flatten(0, 1)
            synapses = layer.synapses
            if isinstance(synapses, nn.Linear):
                messages = messages.flatten(1)
            stride = int(synapses.stride[0]) if isinstance(synapses, nn.Conv2d) else None
            sums = _sums(messages, whole, stride, self.bfloat16_gradients)
            sums = sums.unflatten(0, (-1, len(frames)))
            thresholds, scale = self._thresholds(name, whole, task)
            run = fused(_all_steps) if network.compiled else _all_steps
            constants, decay = network.config.neuron_constants(name), whole.membrane_decay
            sent, membranes = run(
                sums, _step(whole), whole.bias, decay, thresholds, scale, constants, steps
            )
            if trace is not None:
                trace.spikes[name], trace.membranes[name] = sent, membranes
        assert sent is not None
        head = integers[HEAD]
        # Sums over steps are exact below 2^53, so their order does not matter.
        sums = _sums(sent.flatten(0, 1), head, None, self.bfloat16_gradients)
        added = arriving(sums, _step(head)).unflatten(0, (steps, -1)).double()
        membrane = added.sum(0) + steps * head.bias
        if trace is not None:
            trace.membranes[HEAD] = (added + head.bias).cumsum(0)
            trace.spikes[HEAD] = torch.zeros_like(added)
        return membrane * (head.unit / steps)

    def _thresholds(self, name: str, whole: LayerIntegers, task: Tensor) -> tuple[Tensor, Tensor]:
        """Of each sample's neurons: threshold in membrane units, float value of a unit gated."""
        assert whole.thresholds is not None
        per_neuron = (-1,) + (1,) * (whole.thresholds.dim() - 2)
        gated = self._gains(name) * whole.unit.view(per_neuron)
        if name not in self.network.config.gated_layers:
            return (whole.thresholds[:1] * STATE_ONE).float(), gated[:1].float()
        return (whole.thresholds * STATE_ONE).float()[task], gated.float()[task]


def _step(whole: LayerIntegers) -> Tensor:
    """Chip units of one step of the weight grid, shifted: a whole power of two."""
    return torch.full((), whole.step * 2.0**whole.exponent, device=whole.weight.device)


def _all_steps(
    sums: Tensor,
    step_units: Tensor,
    bias: Tensor,
    membrane_decay: int,
    thresholds: Tensor,
    scale: Tensor,
    constants: NeuronConstants,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """All steps of one layer from rest: spikes and membranes after reset, (T, batch, ...).

    Args:
        sums: of weights times messages, (T, batch, channels, ...), or (1, ...) where it is held.
        step_units: as of :func:`arriving`.
        bias: of each channel.
        membrane_decay: dv of 4096.
        thresholds, scale: of each sample's neurons, in membrane units, and the float value of one.
        constants: surrogate and reset.
        steps: T.
    """
    added = arriving(sums, step_units) + bias.float().view((-1,) + (1,) * (sums.dim() - 3))
    membrane = torch.zeros_like(added[0])
    spikes, membranes = [], []
    for step in range(steps):
        now = added[step if len(added) > 1 else 0]
        membrane = now if step == 0 else decayed(membrane, membrane_decay) + now
        # Integers below 2^24: the difference is exact, and a positive scale keeps its sign.
        overshoot = (membrane - thresholds) * scale
        spike = spike_with_surrogate(overshoot, constants.surrogate, constants.slope)
        fired = spike.detach() if constants.detach_reset else spike
        membrane = membrane * (1.0 - fired)
        spikes.append(spike)
        membranes.append(membrane)
    return torch.stack(spikes), torch.stack(membranes)


class _ProductsWithRoughGradients(torch.autograd.Function):
    """The exact products of :func:`_sums`; their gradients are products in bfloat16."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, stride: int | None) -> Tensor:
        # Messages and weights are integers of at most 8 bits and a sign: bfloat16 holds them.
        ctx.save_for_backward(values.bfloat16(), weight.bfloat16())
        ctx.stride = stride
        return _products(values, weight, stride)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, weight = ctx.saved_tensors
        kind, grad = grad_outputs[0].dtype, grad_outputs[0].bfloat16()
        of_values = of_weight = None
        if ctx.stride is None:
            if ctx.needs_input_grad[0]:
                of_values = grad @ weight
            if ctx.needs_input_grad[1]:
                of_weight = grad.T @ values
        else:
            wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
            of_values, of_weight, _ = torch.ops.aten.convolution_backward(
                grad,
                values,
                weight,
                None,
                [ctx.stride] * 2,
                [0, 0],
                [1, 1],
                False,
                [0, 0],
                1,
                wanted,
            )
        return (
            None if of_values is None else of_values.to(kind),
            None if of_weight is None else of_weight.to(kind),
            None,
        )


def _products(values: Tensor, weight: Tensor, stride: int | None) -> Tensor:
    if stride is None:
        return functional.linear(values, weight)
    return functional.conv2d(values, weight, stride=stride)


def _sums(
    messages: Tensor, whole: LayerIntegers, stride: int | None, bfloat16_gradients: bool
) -> Tensor:
    """Weights, in steps of their grid, times messages: exact integers in float32 or float64.

    Args:
        messages: (batch, ...) pixels 0..255, values -128..127 or spikes.
        whole: the layer's integers.
        stride: of a convolution; None for a dense layer.
        bfloat16_gradients: as of :class:`Twin`.
    """
    # Convolutions of a GPU may use Winograd's fractions in float32, never in float64.
    exact = whole.largest_sum <= EXACT_FLOAT32 and (stride is None or messages.is_cpu)
    kind = torch.float32 if exact else torch.float64
    weight, values = whole.weight.to(kind), messages.to(kind)
    if bfloat16_gradients and torch.is_grad_enabled():
        return _ProductsWithRoughGradients.apply(values, weight, stride)  # type: ignore[no-untyped-call]
    return _products(values, weight, stride)


def arriving(sums: Tensor, step_units: Tensor) -> Tensor:
    """What a layer's synapses add to its currents, in membrane units: float32 integers.

    The sum over inputs is shifted by the exponent, rounding down, and 6 bits to the left.

    Args:
        sums: of weights, in steps of their grid, times messages.
        step_units: chip units of a step times two to the exponent, a whole power of two: () tensor.
    """
    shifted = sums * step_units.to(sums.dtype)
    return (straight(shifted.floor(), shifted) * STATE_ONE).float()


def decayed(membrane: Tensor, decay: int) -> Tensor:
    """membrane * (4096 - decay) / 4096, rounded toward zero."""
    keep = DECAY_ONE - decay
    if keep & (keep - 1) == 0:
        smooth = membrane * (keep / DECAY_ONE)
    else:
        # 24 and 12 bits: beyond float32, within float64.
        smooth = membrane.double() * keep / DECAY_ONE
    return straight(smooth.trunc(), smooth).float()


assert THRESHOLD_LIMIT << STATE_SHIFT < EXACT_FLOAT32

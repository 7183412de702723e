"""The MTSpark network: spiking convolutions, active dendrites, a dueling head."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtspark.train.neurons import ActiveDendrites, ZeroResetLeaky, run_layer

ILLEGAL_ACTION_VALUE = -1e9


@dataclass(frozen=True)
class ConvSize:
    """One convolution: output channels, square kernel, stride."""

    channels: int
    kernel: int
    stride: int


SMALL_CONVOLUTIONS = (ConvSize(16, 8, 4), ConvSize(32, 4, 2), ConvSize(32, 3, 1))
NATURE_CONVOLUTIONS = (ConvSize(32, 8, 4), ConvSize(64, 4, 2), ConvSize(64, 3, 1))


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and neuron constants of an MTSpark network.

    Attributes:
        observation_shape: channels, height, width of a frame stack (uint8 pixels).
        convolutions: spiking convolutions, in order, without padding.
        hidden: width of the spiking fully connected layer that carries the dendrites.
        actions: width of the shared action head.
        tasks: number of tasks, the size of the one-hot context.
        dendrite_segments: K segments a neuron; 0 leaves the dendrites out.
        dueling: value and advantage streams; otherwise one linear head.
        time_steps: T, how often a frame is presented for one decision.
        beta: membrane decay a step; a multiple of 1/4096 is exact on the chip.
        threshold: firing threshold, strictly above fires.
    """

    observation_shape: tuple[int, int, int] = (4, 84, 84)
    convolutions: tuple[ConvSize, ...] = SMALL_CONVOLUTIONS
    hidden: int = 256
    actions: int = 18
    tasks: int = 1
    dendrite_segments: int = 1
    dueling: bool = True
    time_steps: int = 4
    beta: float = 0.5
    threshold: float = 1.0


class ScaledStandardisation(nn.Module):
    """Weight standardisation W^ = 2 g (W - mean) / (std sqrt(fan_in)) per output channel.

    A function of the weights alone, so it folds into them exactly at export. Scaled weight
    standardisation: Brock et al. 2021, arXiv:2101.08692; the factor 2 suits binary spikes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the standardised weights; shape (channels, ...) in and out."""
        rows = weight.flatten(1)
        std, mean = torch.std_mean(rows, dim=1, keepdim=True, correction=0)
        scale = 2.0 * self.gain[:, None] / (std * math.sqrt(rows.shape[1]) + 1e-8)
        return ((rows - mean) * scale).view_as(weight)


class SpikingLayer(nn.Module):
    """A synapse layer with standardised weights and the LIF neurons that it drives."""

    def __init__(self, synapses: nn.Conv2d | nn.Linear, config: NetworkConfig) -> None:
        super().__init__()
        self.synapses = synapses
        self.standardise = ScaledStandardisation(synapses.weight.shape[0])
        self.neuron = ZeroResetLeaky(config.beta, config.threshold)
        assert synapses.bias is not None
        nn.init.constant_(synapses.bias, 0.3)

    def folded_weight(self) -> Tensor:
        """The weights that act, standardisation folded in."""
        return self.standardise(self.synapses.weight)

    def current(self, spikes: Tensor) -> Tensor:
        """Input current of every neuron; `spikes` has a plain batch axis first."""
        weight, bias = self.folded_weight(), self.synapses.bias
        if isinstance(self.synapses, nn.Conv2d):
            return functional.conv2d(spikes, weight, bias, stride=self.synapses.stride)
        return functional.linear(spikes, weight, bias)


@dataclass
class LayerTrace:
    """What one spiking layer did: tensors of shape (T, batch, ...)."""

    current: Tensor
    spikes: Tensor


@dataclass
class NetworkTrace:
    """What the whole network did in one decision, by layer name."""

    layers: dict[str, LayerTrace] = field(default_factory=dict)


class MTSparkNetwork(nn.Module):
    """Q values of a batch of frame stacks, each under its own task.

    State starts at rest for every decision. Only mean spikes of the last spiking layer reach
    the head, so Q is linear in the spikes: a rate readout.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.compiled = False
        channels, height, width = config.observation_shape
        self.convolutions = nn.ModuleList()
        for size in config.convolutions:
            synapses = nn.Conv2d(channels, size.channels, size.kernel, size.stride)
            self.convolutions.append(SpikingLayer(synapses, config))
            channels = size.channels
            height = (height - size.kernel) // size.stride + 1
            width = (width - size.kernel) // size.stride + 1
        self.hidden = SpikingLayer(nn.Linear(channels * height * width, config.hidden), config)
        self.dendrites = (
            ActiveDendrites(config.hidden, config.dendrite_segments, config.tasks)
            if config.dendrite_segments
            else None
        )
        self.advantage = nn.Linear(config.hidden, config.actions)
        self.value = nn.Linear(config.hidden, 1) if config.dueling else None
        for head in (self.advantage, self.value):
            if head is not None:
                nn.init.normal_(head.weight, std=0.01)
                nn.init.zeros_(head.bias)

    @property
    def layer_names(self) -> list[str]:
        """Names of the spiking layers, input side first."""
        return [f"conv{index + 1}" for index in range(len(self.convolutions))] + ["hidden"]

    def forward(self, frames: Tensor, task: Tensor, trace: NetworkTrace | None = None) -> Tensor:
        """Compute Q values.

        Args:
            frames: (batch, channels, height, width) uint8 pixels.
            task: (batch,) task indices.
            trace: filled with every layer's currents and spikes when given.

        Returns:
            (batch, actions) values of all actions, legal or not.
        """
        steps, batch = self.config.time_steps, frames.shape[0]
        pixels = (frames.float() / 255.0).contiguous(memory_format=torch.channels_last)
        context = functional.one_hot(task, self.config.tasks).float()
        spikes: Tensor | None = None
        for name, layer in zip(self.layer_names, [*self.convolutions, self.hidden], strict=True):
            assert isinstance(layer, SpikingLayer)
            # A constant frame gives a constant current: one product serves all T steps.
            drive = pixels if spikes is None else spikes.flatten(0, 1)
            if name == "hidden":
                drive = drive.flatten(1)
            current = _time_major(layer.current(drive).float(), batch)
            if name == "hidden" and self.dendrites is not None:
                current = current * self.dendrites(context).float()
            spikes = _batch_major(run_layer(layer.neuron, current, steps, compiled=self.compiled))
            if trace is not None:
                full = _batch_major(current).expand(steps, *spikes.shape[1:])
                trace.layers[name] = LayerTrace(full, spikes)
        assert spikes is not None
        # Action values differ in the third digit, which bfloat16 products would drown.
        with torch.autocast(spikes.device.type, enabled=False):
            rate = spikes.mean(0)
            advantage: Tensor = self.advantage(rate)
            if self.value is None:
                return advantage
            value: Tensor = self.value(rate)
            return value + advantage - advantage.mean(1, keepdim=True)


def _time_major(current: Tensor, batch: int) -> Tensor:
    """Split (T * batch, ...) into (T, batch, ...), images with channels last.

    Stacking channels-last images along a new axis would copy them into another layout at
    every step; as (T, batch, height, width, channels) they stay where the convolution put them.
    """
    if current.dim() == 4:
        current = current.permute(0, 2, 3, 1)
    return current.unflatten(0, (-1, batch))


def _batch_major(spikes: Tensor) -> Tensor:
    """Bring images of (T, batch, height, width, channels) back to channels first (a view)."""
    return spikes.permute(0, 1, 4, 2, 3) if spikes.dim() == 5 else spikes


def legal_action_mask(legal_actions: list[tuple[int, ...]], actions: int) -> Tensor:
    """(tasks, actions) mask: True where the task has that action."""
    mask = torch.zeros(len(legal_actions), actions, dtype=torch.bool)
    for row, legal in enumerate(legal_actions):
        mask[row, list(legal)] = True
    return mask


def mask_illegal(values: Tensor, mask: Tensor) -> Tensor:
    """Put the values of illegal actions out of reach of any maximum."""
    return values.masked_fill(~mask, ILLEGAL_ACTION_VALUE)

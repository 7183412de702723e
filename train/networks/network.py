"""The MTSpark network: spiking convolutions and dense layers, dendrites, a dueling head."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtspark.core.errors import BadRequestError
from mtspark.train.networks.config import (
    HIDDEN,
    NetworkConfig,
    NeuronConstants,
    OverlapRule,
    check_network_config,
)
from mtspark.train.networks.dendrites import ActiveDendrites, TaskContext
from mtspark.train.networks.experts import orthonormal
from mtspark.train.networks.neurons import DeployableLeaky, run_episode, run_layer
from mtspark.train.networks.paths import weights_of_tasks

ILLEGAL_ACTION_VALUE = -1e9
LOOP_GAIN = 0.5
"""Spectral size of the weights of a new loop: what goes round dies away."""
SPREAD_BIASES = (-1.0, 1.0)
"""Between which the biases of a new stateful network lie."""
Memory = dict[str, Tensor]
"""State of a batch between decisions: ``membrane.LAYER``, and the last ``spikes`` of the hidden
layer and ``values``."""
HEAD_SPREAD = 0.01
"""Standard deviation of the weights of a new head."""


class ScaledStandardisation(nn.Module):
    """Weight standardisation W^ = 2 g (W - mean) / (std sqrt(fan_in)) per output channel.

    A function of the weights alone, so it folds into them exactly at export. Scaled weight
    standardisation: Brock et al. 2021, arXiv:2101.08692; the factor 2 suits binary spikes.

    Args:
        channels: output channels.
        centred: take the mean off. Of few signed inputs it would be a dimension of what they
            can say; then std is the root mean square.
    """

    def __init__(self, channels: int, *, centred: bool = True) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.centred = centred

    def forward(self, weight: Tensor) -> Tensor:
        """Return the standardised weights; shape (channels, ...) in and out."""
        rows = weight.flatten(1)
        if not self.centred:
            size = rows.square().mean(1, keepdim=True).sqrt()
            scale = 2.0 * self.gain[:, None] / (size * math.sqrt(rows.shape[1]) + 1e-8)
            return (rows * scale).view_as(weight)
        std, mean = torch.std_mean(rows, dim=1, keepdim=True, correction=0)
        scale = 2.0 * self.gain[:, None] / (std * math.sqrt(rows.shape[1]) + 1e-8)
        return ((rows - mean) * scale).view_as(weight)


class SpikingLayer(nn.Module):
    """A synapse layer with standardised weights and the neurons that it drives.

    Attributes:
        mask: False where a synapse is cut, in the shape of the weights; None without cuts.
        paths: (tasks, *weights) True where a task uses a synapse; None where all use all.
        trial: weights that act in every task instead, while paths are scored; None otherwise.
    """

    mask: Tensor | None
    paths: Tensor | None

    def __init__(
        self,
        synapses: nn.Conv2d | nn.Linear,
        constants: NeuronConstants,
        drive: float = 1.0,
        *,
        masked: bool = False,
        centred: bool = True,
        paths: int = 0,
    ) -> None:
        super().__init__()
        self.synapses = synapses
        self.standardise = ScaledStandardisation(synapses.weight.shape[0], centred=centred)
        self.neuron = DeployableLeaky(constants)
        self.drive = drive
        self.kept: Tensor | None = None
        uncut = torch.ones_like(synapses.weight, dtype=torch.bool) if masked else None
        self.register_buffer("mask", uncut)
        shape = (paths, *synapses.weight.shape)
        self.register_buffer("paths", torch.ones(shape, dtype=torch.bool) if paths else None)
        self.trial: Tensor | None = None
        assert synapses.bias is not None
        nn.init.constant_(synapses.bias, 0.3)

    @property
    def there(self) -> Tensor | None:
        """True where some task uses a synapse, in the shape of the weights; None: everywhere."""
        return self.mask if self.paths is None else self.paths.any(0)

    def row_density(self) -> Tensor:
        """Share of each row's synapses that are there, (channels,); the mean over tasks."""
        if self.paths is not None:
            return self.paths.flatten(2).float().mean((0, 2))
        there = torch.ones_like(self.synapses.weight) if self.mask is None else self.mask
        return there.flatten(1).float().mean(1)

    def shared_weight(self) -> Tensor:
        """Standardisation and drive folded in, cut synapses 0; not yet masked for a task."""
        if self.kept is not None:
            return self.kept
        weight: Tensor = self.standardise(self.synapses.weight)
        # Standardisation subtracts the mean: the mask acts behind it, or zeros would fill.
        weight = weight if self.mask is None else weight * self.mask
        return weight if self.drive == 1 else weight * self.drive

    def folded_weight(self, task: int | None = None) -> Tensor:
        """The weights that act in a task; without one, those that act in any."""
        weight = self.shared_weight()
        if self.paths is None:
            return weight
        return weight * (self.paths.any(0) if task is None else self.paths[task])

    def folded_bias(self) -> Tensor:
        """The biases that act, drive folded in."""
        bias = self.synapses.bias
        assert bias is not None
        return bias if self.drive == 1 else bias * self.drive

    def current(
        self,
        spikes: Tensor,
        unit: float = 1.0,
        tasks: TaskGroups | None = None,
        rule: OverlapRule = "participants",
    ) -> Tensor:
        """Input current of every neuron.

        Args:
            spikes: with a plain batch axis first.
            unit: value of a spike of 1; it goes into the weights.
            tasks: of the samples, for a layer with paths; None: all synapses of all tasks act.
            rule: how the gradients of tasks that share a weight are combined.
        """
        if self.paths is None or self.trial is not None or tasks is None:
            weight = self.folded_weight() if self.trial is None else self.trial
            return self._driven(spikes, weight * unit if unit != 1 else weight)
        weights = weights_of_tasks(self.shared_weight() * unit, self.paths, tasks.present, rule)
        # (T * batch) with the samples of a task side by side within each step.
        samples = spikes.unflatten(0, (-1, sum(tasks.sizes)))
        parts = [
            self._driven(part.flatten(0, 1), weight).unflatten(0, (len(samples), -1))
            for part, weight in zip(samples.split(tasks.sizes, 1), weights, strict=True)
        ]
        return torch.cat(parts, 1).flatten(0, 1)

    def _driven(self, spikes: Tensor, weight: Tensor) -> Tensor:
        bias = self.folded_bias()
        if isinstance(self.synapses, nn.Conv2d):
            return functional.conv2d(spikes, weight, bias, stride=self.synapses.stride)
        return functional.linear(spikes, weight, bias)


@dataclass(frozen=True)
class TaskGroups:
    """The samples of a batch by task.

    Attributes:
        order: (batch,) indices that put the samples of a task side by side.
        present: (groups,) indices of the tasks that have any.
        sizes: samples of each of these.
    """

    order: Tensor
    present: Tensor
    sizes: list[int]

    @staticmethod
    def of(task: Tensor) -> TaskGroups:
        """Sort a batch of task indices."""
        present, counts = task.unique(return_counts=True)
        return TaskGroups(task.argsort(stable=True), present, counts.tolist())


@dataclass
class LayerTrace:
    """Currents and spikes of one layer: tensors of shape (T, batch, ...)."""

    current: Tensor
    spikes: Tensor


@dataclass
class NetworkTrace:
    """Currents and spikes of the whole network in one decision, by layer name."""

    layers: dict[str, LayerTrace] = field(default_factory=dict)


class MTSparkNetwork(nn.Module):
    """Computes Q values of a batch of frame stacks, each under its own task.

    State starts at rest for every decision, or of a stateful network for every episode, see
    :meth:`unroll`. Only mean spikes of the last spiking layer reach the head, so Q is linear in
    the spikes: a rate readout.

    Attributes:
        overlap: how the gradients of tasks whose paths share a weight are combined.

    Raises:
        BadNetworkError: an unknown choice in the configuration.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        check_network_config(config)
        self.config = config
        self.compiled = False
        self.overlap: OverlapRule = "participants"
        channels, height, width = config.observation_shape
        self.layer_shapes = config.layer_shapes
        self.convolutions = nn.ModuleList()
        for name, size in zip(config.layer_names, config.convolutions, strict=False):
            synapses = nn.Conv2d(channels, size.channels, size.kernel, size.stride)
            constants = config.neuron_constants(name)
            layer = SpikingLayer(
                synapses,
                constants,
                config.drive,
                masked=name in config.masked_layers,
                centred=bool(self.convolutions) or config.input == "pixels",
                paths=config.tasks if name in config.pathway_layers else 0,
            )
            self.convolutions.append(layer)
            channels, height, width = self.layer_shapes[name]
        self.dense = nn.ModuleList()
        inputs = channels * height * width
        for name in config.layer_names[len(config.convolutions) :]:
            (neurons,) = self.layer_shapes[name]
            layer = SpikingLayer(
                nn.Linear(inputs, neurons),
                config.neuron_constants(name),
                config.drive,
                masked=name in config.masked_layers,
                centred=name != config.layer_names[0] or config.input == "pixels",
                paths=config.tasks if name in config.pathway_layers else 0,
            )
            if name == HIDDEN:
                self.hidden = layer
            else:
                self.dense.append(layer)
            inputs = neurons
        self.context = TaskContext(config.context, config.tasks, config.context_size)
        dendrites = {
            name: ActiveDendrites(*shape, config.dendrite_selection)
            for name, shape in config.segment_shapes.items()
        }
        self.dendrites = dendrites.pop(HIDDEN, None)
        convolved = config.layer_names[: len(config.convolutions)]
        self.conv_dendrites = nn.ModuleDict(
            {name: dendrites.pop(name) for name in convolved if name in dendrites}
        )
        self.dense_dendrites = nn.ModuleDict(dendrites)
        heads, width = config.tasks if config.heads == "task" else 1, config.head_inputs
        self.advantage = nn.Linear(width, config.actions * heads)
        self.value = nn.Linear(width, heads) if config.dueling else None
        for head in (self.advantage, self.value):
            if head is not None:
                nn.init.normal_(head.weight, std=HEAD_SPREAD)
                nn.init.zeros_(head.bias)
        self.recurrent: nn.Linear | None = None
        if config.recurrent:
            self.recurrent = nn.Linear(config.hidden, config.hidden, bias=False)
            nn.init.orthogonal_(self.recurrent.weight, gain=LOOP_GAIN)
        if config.stateful:
            # One step tells on which side of a threshold its frame lies: thresholds must differ.
            for name in self.layer_names:
                bias = self.layer(name).synapses.bias
                assert bias is not None
                nn.init.uniform_(bias, *SPREAD_BIASES)
        self.norms: nn.ModuleDict | None = None
        if config.layer_norm:
            self.norms = nn.ModuleDict(
                {name: nn.LayerNorm(shape[0]) for name, shape in self.layer_shapes.items()}
            )
        self.expert_gate: nn.Parameter | None = None
        if config.experts:
            # Factors of currents are logistic functions of it; other weights begin as a mean.
            begin = 0.0 if config.expert_gate == "current" else 1 / config.experts
            spread = 0.5 * torch.randn(config.tasks, config.experts)
            self.expert_gate = nn.Parameter(begin + spread * (begin or 1.0))

    @property
    def layer_names(self) -> list[str]:
        """Names of the spiking layers, input side first."""
        return list(self.config.layer_names)

    def layer(self, name: str) -> SpikingLayer:
        """The spiking layer of a name."""
        index = self.layer_names.index(name)
        layer = [*self.convolutions, *self.dense, self.hidden][index]
        assert isinstance(layer, SpikingLayer)
        return layer

    def dendrites_of(self, name: str) -> ActiveDendrites | None:
        """The dendrites of the layer of a name, None where it has none."""
        if name == HIDDEN:
            return self.dendrites
        for dendrites in (self.conv_dendrites, self.dense_dendrites):
            if name in dendrites:
                found = dendrites[name]
                assert isinstance(found, ActiveDendrites)
                return found
        return None

    def gains(self, name: str, contexts: Tensor) -> Tensor | None:
        """Dendritic gain of every neuron of a layer, None where it has no dendrites.

        Gains of tasks, with those of experts, are :meth:`gains_of_tasks`.

        Args:
            name: of the layer.
            contexts: (batch, context size); of the tasks: ``network.context()``.

        Returns:
            (batch, *shape of the layer).
        """
        dendrites = self.dendrites_of(name)
        if dendrites is None:
            return None
        gains: Tensor = dendrites(contexts)
        shape = self.layer_shapes[name]
        if gains.shape[1] < math.prod(shape):
            return gains[:, :, None, None].expand(-1, *shape)
        return gains.view(-1, *shape)

    def gains_of_tasks(self, name: str, tasks: slice) -> Tensor | None:
        """Factors on the input of every neuron in some tasks, by dendrites and by experts.

        Args:
            name: of the layer.
            tasks: indices.

        Returns:
            (tasks, *shape of the layer); None where it has none.
        """
        gains = self.gains(name, self.context()[tasks])
        if name != HIDDEN or self.expert_gate is None or self.config.expert_gate != "current":
            return gains
        share = self.config.head_inputs
        factors = torch.sigmoid(self.expert_gate[tasks]).repeat_interleave(share, 1)
        return factors if gains is None else gains * factors

    def folded_head(self, *, with_value: bool = True) -> tuple[Tensor, Tensor]:
        """Value and advantage streams as one affine layer: float64 weight and bias.

        W = 1 W_V + (I - 11'/n) W_A and likewise for the biases; V + A - mean A is then one
        product. Without the value stream it is A - mean A, which picks the same actions. It reads
        every hidden neuron: weights of experts are folded in. Where tasks have heads or weights of
        their own, it is that of the first.
        """
        actions = self.config.actions
        weight, bias = self.advantage.weight[:actions].double(), self.advantage.bias[:actions]
        bias = bias.double()
        if self.value is not None:
            weight, bias = weight - weight.mean(0), bias - bias.mean()
            if with_value:
                weight, bias = weight + self.value.weight[:1], bias + self.value.bias[:1]
        if self.expert_gate is not None:
            summed = self.config.expert_gate == "current"
            factors = torch.ones_like(self.expert_gate[0]) if summed else self.expert_gate[0]
            weight = torch.cat([weight * factor for factor in factors.double()], 1)
        return weight, bias

    def forward(self, frames: Tensor, task: Tensor, trace: NetworkTrace | None = None) -> Tensor:
        """Compute Q values.

        Args:
            frames: (batch, channels, height, width) uint8 pixels or spikes, or int8 values.
            task: (batch,) task indices, or any float context vectors (batch, context size).
            trace: filled with every layer's currents and spikes when given.

        Returns:
            (batch, actions) values of all actions, legal or not.

        Raises:
            BadRequestError: context vectors, where tasks have synapses of their own.
        """
        own = self.config.by_task or ("gates of experts" if self.config.experts else "")
        if own and task.is_floating_point():
            raise BadRequestError(f"task: context vectors, but tasks have {own}; give task indices")
        if self.config.stateful:
            return self.unroll(frames[None], task, trace=trace)[0][0]
        if not self.config.pathway_layers:
            return self._values(frames, task, trace, None)
        groups = TaskGroups.of(task)
        values = self._values(frames[groups.order], task[groups.order], trace, groups)
        back = groups.order.argsort()
        if trace is not None:
            for layer in trace.layers.values():
                layer.current, layer.spikes = layer.current[:, back], layer.spikes[:, back]
        return values[back]

    def _values(
        self,
        frames: Tensor,
        task: Tensor,
        trace: NetworkTrace | None,
        groups: TaskGroups | None,
    ) -> Tensor:
        """As :meth:`forward`; with groups, of samples in their order."""
        spiking = self.config.neuron == "lif"
        steps, batch = self.config.time_steps if spiking else 1, frames.shape[0]
        pixels, unit = self._pixels(frames)
        spikes: Tensor | None = None
        for name in self.layer_names:
            layer = self.layer(name)
            # A constant frame gives a constant current: one product serves all T steps.
            drive = pixels if spikes is None else spikes.flatten(0, 1)
            if isinstance(layer.synapses, nn.Linear):
                drive = drive.flatten(1)
            current = layer.current(drive, unit if spikes is None else 1.0, groups, self.overlap)
            current = _time_major(current.float(), batch)
            if self.norms is not None:
                current = self.norms[name](current)
            gains = self._gains_of_samples(name, task)
            if gains is not None:
                current = current * gains
            sent = (
                run_layer(layer.neuron, current, steps, compiled=self.compiled)
                if spiking
                else self._rectify(name, current)
            )
            spikes = _batch_major(sent)
            if trace is not None:
                full = _batch_major(current).expand(steps, *spikes.shape[1:])
                trace.layers[name] = LayerTrace(full, spikes)
        assert spikes is not None
        return self._head(spikes.mean(0), task)

    def _head(self, rate: Tensor, task: Tensor) -> Tensor:
        """(batch, actions) values of (batch, hidden) mean spikes."""
        # Action values differ in the third digit, which bfloat16 products would drown.
        with torch.autocast(rate.device.type, enabled=False):
            rate = self._mixed(rate, task)
            advantage = self._of_task(self.advantage(rate), task)
            if self.value is None:
                return advantage
            value = self._of_task(self.value(rate), task)
            return value + advantage - advantage.mean(1, keepdim=True)

    def unroll(
        self,
        frames: Tensor,
        task: Tensor,
        memory: Memory | None = None,
        begins: Tensor | None = None,
        *,
        trace: NetworkTrace | None = None,
    ) -> tuple[Tensor, Memory]:
        """Compute the values of decisions one after another, of a stateful network.

        Membranes, loops and the values themselves go on from decision to decision; the values
        are membranes of the head, v <- beta v + head(spikes).

        Args:
            frames: (decisions, batch, channels, height, width).
            task: (batch,) indices.
            memory: of the batch; None: at rest.
            begins: (decisions, batch) True where an episode begins: state is at rest there.
            trace: filled with every layer's currents and spikes (decisions, batch, ...).

        Returns:
            Values (decisions, batch, actions), and the memory after the last one.
        """
        steps, batch = frames.shape[:2]
        given, after = memory or {}, Memory()
        if begins is None:
            begins = torch.zeros(steps, batch, dtype=torch.bool, device=frames.device)
        going = (~begins).float()
        pixels, unit = self._pixels(frames.flatten(0, 1))
        spikes: Tensor | None = None
        for name in self.layer_names:
            layer = self.layer(name)
            drive = pixels if spikes is None else spikes.flatten(0, 1)
            drive = drive.flatten(1) if isinstance(layer.synapses, nn.Linear) else drive
            current = layer.current(drive, unit if spikes is None else 1.0)
            current = _time_major(current.float(), batch)
            gains, loop = self._gains_of_samples(name, task), None
            with torch.autocast(frames.device.type, enabled=False):
                if name == HIDDEN and self.recurrent is not None:
                    loop = self.recurrent
                heard, sent, after[f"membrane.{name}"] = run_episode(
                    layer.neuron,
                    current,
                    going,
                    given.get(f"membrane.{name}"),
                    gains,
                    loop,
                    given.get("spikes"),
                )
            spikes = _batch_major(sent)
            if trace is not None:
                trace.layers[name] = LayerTrace(_batch_major(heard), spikes)
        assert spikes is not None
        after["spikes"] = spikes[-1]
        instant = self._head(spikes.flatten(0, 1), task.repeat(steps)).unflatten(0, (steps, batch))
        value = given.get("values", torch.zeros_like(instant[0]))
        values = []
        for number in range(steps):
            value = self.config.beta * value * going[number][:, None] + instant[number]
            values.append(value)
        after["values"] = value
        return torch.stack(values), {name: one.detach() for name, one in after.items()}

    def _mixed(self, rate: Tensor, task: Tensor) -> Tensor:
        """What reaches the head: the experts of each sample, weighed by its task."""
        if self.expert_gate is None:
            return rate
        experts = rate.unflatten(1, (self.config.experts, -1))
        if self.config.expert_gate == "current":
            return experts.sum(1)
        if self.config.expert_gate == "orthogonal":
            experts = orthonormal(experts)
        return torch.einsum("be,ben->bn", self.expert_gate[_index(task)], experts)

    def _of_task(self, outputs: Tensor, task: Tensor) -> Tensor:
        """The outputs of each sample's own head."""
        if self.config.heads != "task":
            return outputs
        heads = outputs.unflatten(1, (self.config.tasks, -1))
        return heads[torch.arange(len(heads), device=heads.device), _index(task)]

    def _pixels(self, frames: Tensor) -> tuple[Tensor, float]:
        """Frames with channels last, and the value of a pixel of 1 in them.

        Whole numbers to 256 are exact in bfloat16, their 255ths are not.
        """
        kind = frames.device.type
        if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
            whole = frames.to(torch.bfloat16)
            return whole.contiguous(memory_format=torch.channels_last), self.config.message_value
        seen = frames.float()
        seen = seen / 255.0 if self.config.input == "pixels" else seen * self.config.message_value
        return seen.contiguous(memory_format=torch.channels_last), 1.0

    @contextmanager
    def weights_kept(self) -> Iterator[None]:
        """Fold the weights once for many calls between which nothing is learned."""
        layers = [self.layer(name) for name in self.layer_names]
        try:
            for layer in layers:
                layer.kept = layer.shared_weight().detach()
            yield
        finally:
            for layer in layers:
                layer.kept = None

    def _gains_of_samples(self, name: str, task: Tensor) -> Tensor | None:
        """Gains of each sample's task, laid out as :func:`_time_major` lays out currents."""
        known = not task.is_floating_point()
        with torch.autocast(task.device.type, enabled=False):
            gains = self.gains_of_tasks(name, slice(None)) if known else self.gains(name, task)
        if gains is None:
            return None
        gains = gains[task] if known else gains
        return gains.permute(0, 2, 3, 1) if gains.dim() == 4 else gains

    def _rectify(self, name: str, current: Tensor) -> Tensor:
        """ReLU in place of spikes; with k-winners, only the largest stay."""
        active = current.relu()
        winners = self.config.neuron_constants(name).winners
        if winners and winners < active.shape[-1]:
            least = active.topk(winners, dim=-1).values[..., -1:]
            active = torch.where(active >= least, active, torch.zeros_like(active))
        return active


def _index(task: Tensor) -> Tensor:
    """Task indices; of context vectors, which only a network of one task takes, zeros."""
    return torch.zeros_like(task[:, 0]).long() if task.is_floating_point() else task


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

"""Sizes, neurons and dendrites of a network, and the checks of these choices."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

from mtspark.core.environments import MESSAGES_PER_DEVIATION
from mtspark.core.errors import BadNetworkError, one_line

HIDDEN = "hidden"
"""Name of the last fully connected layer; the convolutions are conv1, conv2 and so on, the fully
connected layers between them dense1, dense2 and so on."""

OverlapRule = Literal["participants", "sum", "mean", "euclidean", "stochastic"]
"""How the gradients of tasks that share a weight are combined, see
:func:`mtspark.train.networks.paths.combined_gradient`."""
OVERLAP_RULES: tuple[OverlapRule, ...] = get_args(OverlapRule)
PathRanking = Literal["network", "layer"]
"""Among which synapses a task's path takes the best: all of the network's, or each layer's."""
PATH_RANKINGS: tuple[PathRanking, ...] = get_args(PathRanking)

SELECTIONS = ("absolute_max", "max")
"""Rules that choose the dendritic segment that counts."""
EXPERT_GATES = ("current", "output", "orthogonal")
"""What the weights of experts act on."""
HEADS = ("shared", "task")
CONTEXTS = ("one_hot", "embedding", "prototype")
"""Kinds of context vectors."""
SURROGATES = {
    "inverse_square": 2.0,
    "atan": 2.0,
    "sigmoid": 4.0,
    "fast_sigmoid": 25.0,
    "triangle": 1.0,
}
"""Names of surrogate derivatives and their usual slopes, see
:func:`mtspark.train.networks.neurons.surrogate_derivative`."""

RESETS = ("zero", "subtract", "none")
INPUTS = {"pixels": 1 / 255, "values": 1 / MESSAGES_PER_DEVIATION, "spikes": 1.0}
"""What a frame holds, and what one unit of it is to the network: bytes of pixels, signed messages
of numbers in deviations (:mod:`mtspark.core.environments.messages`), or spikes."""


class NeuronConstants(NamedTuple):
    """What all neurons of a layer share.

    Attributes:
        beta: membrane decay a step.
        threshold: strictly above it a neuron fires.
        reset: zero: a spike sets the membrane to 0; subtract: it takes the threshold off; both
            in the step of the spike; none: the membrane stays.
        detach_reset: no gradient flows through the reset.
        surrogate: name of the derivative that stands in for the step's.
        slope: of that derivative.
        winners: at most this many neurons of the layer, those of the highest membranes, may
            fire in a step; 0: all.
    """

    beta: float = 0.5
    threshold: float = 1.0
    reset: str = "zero"
    detach_reset: bool = True
    surrogate: str = "inverse_square"
    slope: float = 2.0
    winners: int = 0


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
        dense: widths of spiking fully connected layers after them, in order.
        hidden: width of the last spiking layer, which is fully connected, too.
        actions: width of the shared action head.
        tasks: number of tasks.
        dendrite_segments: K segments a neuron; 0 leaves the dendrites out.
        dueling: value and advantage streams; otherwise one linear head.
        time_steps: T, how often a frame is presented for one decision.
        beta: membrane decay a step; a multiple of 1/4096 is exact on the chip.
        threshold: firing threshold, strictly above fires.
        neuron: lif, or relu for a network that does not spike (time steps mean nothing to it).
        reset: what a spike does to the membrane: zero, subtract or none.
        detach_reset: no gradient flows through the reset.
        drive: factor on the input current; 1 - beta makes the LIF of a time constant.
        surrogate: derivative of the spike: inverse_square, atan, sigmoid, fast_sigmoid, triangle.
        surrogate_slope: its steepness; 0 for the usual one of its kind.
        dendrite_layers: the layers that carry dendrites: hidden, conv1, ..., dense1, ...
        conv_gate: neuron: each neuron of a convolution has segments of its own; channel: the
            neurons of a channel share them.
        dendrite_selection: which segment of a neuron counts: absolute_max or max.
        context: the tasks' context vectors: one_hot, embedding (learned) or prototype.
        context_size: length of an embedding or a prototype; one_hot has one entry a task.
        k_winners: share of the hidden neurons that may fire in a step; 0 for all of them.
        masked_layers: the layers some of whose synapses may be cut: hidden, conv1, ..., dense1, ...
        pathway_layers: the layers of which each task uses synapses of its own, its pathway.
        experts: groups of equal size into which the hidden neurons are divided, the experts of a
            mixture; their sum goes to the head. 0: one group.
        expert_gate: what a task's weights of the experts act on. current: their input, by factors
            below 1, so that they are thresholds on a chip; output: their mean spikes, so that they
            are weights of the head; orthogonal: the same, after the experts are made orthonormal
            for every sample (Hendawy et al. 2024, arXiv:2311.11385), which no chip does.
        layer_norm: the currents of each place and step are normalised over channels or neurons
            (Ba et al. 2016, arXiv:1607.06450), which no chip does.
        heads: shared: all tasks have one head; task: each has its own.
        input: what a frame holds: pixels, values or spikes, see :data:`INPUTS`.
        stateful: membranes last from decision to decision of an episode; time_steps is 1, and the
            action values leak as membranes do.
        recurrent: hidden neurons hear each other's spikes of the decision before.
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
    neuron: str = "lif"
    reset: str = "zero"
    detach_reset: bool = True
    drive: float = 1.0
    surrogate: str = "inverse_square"
    surrogate_slope: float = 0.0
    dendrite_layers: tuple[str, ...] = (HIDDEN,)
    conv_gate: str = "neuron"
    dendrite_selection: str = "absolute_max"
    context: str = "one_hot"
    context_size: int = 0
    k_winners: float = 0.0
    masked_layers: tuple[str, ...] = ()
    input: str = "pixels"
    pathway_layers: tuple[str, ...] = ()
    experts: int = 0
    expert_gate: str = "current"
    heads: str = "shared"
    layer_norm: bool = False
    stateful: bool = False
    recurrent: bool = False
    dense: tuple[int, ...] = ()

    @property
    def by_task(self) -> str:
        """What of the network each of several tasks has for itself, beside thresholds; or ""."""
        if self.tasks == 1:
            return ""
        own = {
            "synapses (pathways)": bool(self.pathway_layers),
            "weights of experts in the head": self.experts and self.expert_gate != "current",
            "heads": self.heads == "task",
        }
        names = [name for name, present in own.items() if present]
        return f"{' and '.join(names)} of their own" if names else ""

    @property
    def head_inputs(self) -> int:
        """Width of what reaches the head."""
        return self.hidden // max(1, self.experts)

    @property
    def message_value(self) -> float:
        """What a frame's unit is to the network."""
        return INPUTS[self.input]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the spiking layers, input side first."""
        return spiking_layers(len(self.convolutions), len(self.dense))

    @property
    def layer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every spiking layer, input side first."""
        shapes: dict[str, tuple[int, ...]] = {}
        height, width = self.observation_shape[1:]
        for name, size in zip(self.layer_names, self.convolutions, strict=False):
            height = (height - size.kernel) // size.stride + 1
            width = (width - size.kernel) // size.stride + 1
            shapes[name] = (size.channels, height, width)
        connected = self.layer_names[len(self.convolutions) :]
        widths = (*self.dense, self.hidden)
        return {
            **shapes,
            **{name: (width,) for name, width in zip(connected, widths, strict=True)},
        }

    @property
    def gated_layers(self) -> tuple[str, ...]:
        """Layers whose input has gains of each task, by dendrites or experts, input side first."""
        segments = self.segment_shapes
        experts = (HIDDEN,) if self.experts and self.expert_gate == "current" else ()
        return tuple(name for name in self.layer_names if name in segments or name in experts)

    @property
    def segment_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Segments of every layer with dendrites: (neurons or channels, K, context size)."""
        shapes: dict[str, tuple[int, int, int]] = {}
        if not self.dendrite_segments:
            return shapes
        for name in (name for name in self.layer_names if name in self.dendrite_layers):
            shape = self.layer_shapes[name]
            shared = len(shape) > 1 and self.conv_gate == "channel"
            shapes[name] = (
                shape[0] if shared else math.prod(shape),
                self.dendrite_segments,
                self.context_size or self.tasks,
            )
        return shapes

    def neuron_constants(self, layer: str) -> NeuronConstants:
        """Constants that the neurons of a layer share."""
        return NeuronConstants(
            beta=float(self.beta),
            threshold=float(self.threshold),
            reset=self.reset,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            slope=float(self.surrogate_slope or SURROGATES[self.surrogate]),
            winners=self._winners if layer == HIDDEN else 0,
        )

    @property
    def _winners(self) -> int:
        """Hidden neurons that may fire in a step; 0: all."""
        # As a product of floats, 0.07 of 100 would be above 7.
        share = math.ceil(round(self.k_winners * self.hidden, 9))
        return max(1, share) if self.k_winners else 0


def spiking_layers(convolutions: int, dense: int) -> tuple[str, ...]:
    """Names of the spiking layers of a network with so many of each kind, input side first."""
    return (
        *(f"conv{index + 1}" for index in range(convolutions)),
        *(f"dense{index + 1}" for index in range(dense)),
        HIDDEN,
    )


LARGEST_STRIDE = 2**15
"""Of a convolution: longer than any frame; PyTorch takes no number of 64 bits here."""

FIRST_FIELDS = tuple(entry.name for entry in fields(NetworkConfig))[:10]
"""Fields of every saved network; a file that lacks a younger field has its default."""


YOUNG_FIELDS = (
    "pathway_layers",
    "experts",
    "expert_gate",
    "heads",
    "layer_norm",
    "stateful",
    "recurrent",
    "dense",
)
"""Fields that a file names only where they differ from their default."""


def network_to_json(config: NetworkConfig) -> dict[str, Any]:
    """Return the fields by name; without `masked_layers`, `input` and younger ones as usual.

    Files of such networks are those of before these fields existed.
    """
    content = asdict(config)
    if not config.masked_layers:
        del content["masked_layers"]
    if config.input == NetworkConfig.input:
        del content["input"]
    for name in YOUNG_FIELDS:
        if content[name] == getattr(NetworkConfig, name):
            del content[name]
    return content


def check_network_config(config: NetworkConfig) -> None:
    """Check the choices of a network.

    Both the start of a run and the reader of an agent file call this.

    Raises:
        BadNetworkError: one line that names the first unknown choice, or the first number that is
            not finite or out of range.
    """
    _check_types(config)
    choices = {
        "neuron": (config.neuron, ("lif", "relu")),
        "reset": (config.reset, RESETS),
        "surrogate": (config.surrogate, tuple(SURROGATES)),
        "conv_gate": (config.conv_gate, ("neuron", "channel")),
        "dendrite_selection": (config.dendrite_selection, SELECTIONS),
        "context": (config.context, CONTEXTS),
        "expert_gate": (config.expert_gate, EXPERT_GATES),
        "heads": (config.heads, HEADS),
        "input": (config.input, tuple(INPUTS)),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise BadNetworkError(f"network {name} {value!r}: choose {', '.join(known)}")
    for name in ("dendrite_layers", "masked_layers", "pathway_layers"):
        named = getattr(config, name)
        if len(set(named)) < len(named):
            raise BadNetworkError(f"{name} {', '.join(named)}: name each layer once")
        unknown = sorted(set(named) - set(config.layer_names))
        if unknown:
            raise BadNetworkError(
                f"{name} {', '.join(unknown)}: this network has {', '.join(config.layer_names)}"
            )
    both = sorted(set(config.masked_layers) & set(config.pathway_layers))
    if both:
        raise BadNetworkError(
            f"masked_layers and pathway_layers both have {', '.join(both)}: a layer's synapses are "
            "cut for all tasks or for each; name it once"
        )
    sizes = {
        "observation_shape": config.observation_shape,
        "convolutions": tuple(size for conv in config.convolutions for size in astuple(conv)),
        "dense": config.dense,
        "hidden": (config.hidden,),
        "actions": (config.actions,),
    }
    for name, values in sizes.items():
        if min(values, default=1) < 1:
            raise BadNetworkError(f"network.{name} has {min(values)}: at least 1 is needed")
    stride = max((size.stride for size in config.convolutions), default=1)
    if stride > LARGEST_STRIDE:
        raise BadNetworkError(
            f"network.convolutions has a stride of {stride:,}: {LARGEST_STRIDE:,} is the limit"
        )
    empty = [name for name, shape in config.layer_shapes.items() if min(shape) < 1]
    if empty:
        raise BadNetworkError(
            f"{empty[0]} would have no neurons: frames of {config.observation_shape[1:]} are too "
            "small for these convolutions"
        )
    if config.context_size < 0 or (config.context == "one_hot") != (config.context_size == 0):
        raise BadNetworkError(
            f"context_size {config.context_size} with context {config.context}: an embedding or "
            "prototype needs a size, one_hot takes none (0)"
        )
    if config.time_steps < 1 or config.tasks < 1 or config.dendrite_segments < 0:
        raise BadNetworkError(
            f"{config.time_steps} time steps, {config.tasks} tasks, {config.dendrite_segments} "
            "segments: at least 1, 1 and 0 are needed"
        )
    _check_state(config)
    if config.experts < 0 or config.hidden % max(1, config.experts):
        raise BadNetworkError(
            f"experts {config.experts} of {config.hidden} hidden neurons: 0, or a divisor of them, "
            "is needed"
        )
    if not 0 <= config.k_winners <= 1 or not config.surrogate_slope >= 0 or not config.drive > 0:
        raise BadNetworkError(
            f"k_winners {config.k_winners}, surrogate_slope {config.surrogate_slope}, drive "
            f"{config.drive}: a share from 0 to 1, 0 or more, and above 0 are needed"
        )


def check_fan_in(config: NetworkConfig) -> None:
    """Check that weights are left where their mean is taken off, of a network that is to learn.

    Raises:
        BadNetworkError: a layer hears one value.
    """
    before: tuple[int, ...] = config.observation_shape
    for index, name in enumerate(config.layer_names):
        heard = math.prod(before)
        if index < len(config.convolutions):
            heard = before[0] * config.convolutions[index].kernel ** 2
        # That of a first layer of numbers or spikes is not.
        if heard == 1 and (index or config.input == "pixels"):
            raise BadNetworkError(
                f"{name}: each of its neurons hears one value, and the mean of its weights is "
                "taken off, so that all would be 0; give what it hears two values or more"
            )
        before = config.layer_shapes[name]


def _check_state(config: NetworkConfig) -> None:
    """Check what networks cannot have whose state survives decisions."""
    if config.recurrent and not config.stateful:
        raise BadNetworkError(
            "recurrent = true: hidden neurons hear the decision before; set stateful = true, too"
        )
    if not config.stateful:
        return
    if config.time_steps != 1:
        raise BadNetworkError(
            f"stateful = true with {config.time_steps} time steps: state survives decisions of "
            "one step; set time_steps = 1"
        )
    others = {
        f"neuron {config.neuron!r}": config.neuron != "lif",
        "experts": config.experts,
        "heads of tasks": config.heads != "shared",
        "pathway_layers": config.pathway_layers,
        "layer_norm": config.layer_norm,
    }
    for name, is_given in others.items():
        if is_given:
            raise BadNetworkError(f"stateful = true with {name}: leave one of the two out")


def _check_types(config: NetworkConfig) -> None:
    """Check that integers are integers and floats finite, since a file may hold anything."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.name in ("layer_norm", "stateful", "recurrent") and type(value) is not bool:
            raise BadNetworkError(f"network.{entry.name} is {value!r}, must be true or false")
        if entry.type == "int" and type(value) is not int:
            raise BadNetworkError(f"network.{entry.name} is {value!r}, must be a whole number")
        number = type(value) in (int, float) and math.isfinite(value)
        if entry.type == "float" and not number:
            raise BadNetworkError(f"network.{entry.name} is {value!r}, must be a finite number")
    lengths = {
        "observation_shape": config.observation_shape,
        "convolutions": tuple(size for conv in config.convolutions for size in astuple(conv)),
        "dense": config.dense,
    }
    for name, values in lengths.items():
        if any(type(value) is not int for value in values):
            raise BadNetworkError(
                f"network.{name} has {one_line(str(values), 80)}: whole numbers are needed"
            )

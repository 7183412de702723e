"""A second count of synaptic operations by NeuroBench, on a torch twin of the chip.

NeuroBench is a package of its own (an extra of mtspark) that hooks the layers of a torch
network and runs each of them again on inputs and weights that it has made binary. The twin
holds the chip's integers, in float64, where its sums stay exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtspark.core.arithmetic import CURRENT_LIMIT, DECAY_ONE, MEMBRANE_LIMIT, STATE_SHIFT
from mtspark.core.chip_network import (
    INPUT,
    ChipNetwork,
    Connection,
    Encoder,
    Population,
    Reset,
    check_forgets,
    fan_out,
)
from mtspark.core.errors import BackendMissingError, BadNetworkError, BadRequestError

if TYPE_CHECKING:
    from mtspark.core.backend import AgentBackend
    from mtspark.sim.recording import Study


@dataclass(frozen=True)
class SecondCount:
    """Counts of one decision within its window.

    Attributes:
        binary, graded: effective synaptic operations of messages without and with a payload.
        spikes: of all populations.
        sparsity: share of neurons and steps without a spike.
    """

    binary: int
    graded: int
    spikes: int
    sparsity: float


@dataclass(frozen=True)
class SecondOpinion:
    """Our counts of some decisions beside those of NeuroBench.

    Attributes:
        ours, theirs: one a decision.
        counter: name and version of NeuroBench.
    """

    ours: tuple[SecondCount, ...]
    theirs: tuple[SecondCount, ...]
    counter: str

    @property
    def equal(self) -> int:
        """Number of decisions whose counts are equal."""
        return sum(one == other for one, other in zip(self.ours, self.theirs, strict=True))

    @property
    def operations(self) -> int:
        """Effective synaptic operations of all decisions, by our count."""
        return sum(count.binary + count.graded for count in self.ours)

    @property
    def first_difference(self) -> int | None:
        """Number of the first decision whose counts differ; None where all are equal."""
        pairs = enumerate(zip(self.ours, self.theirs, strict=True))
        return next((number for number, (one, other) in pairs if one != other), None)

    def summary(self) -> str:
        """Return one line for a report."""
        line = (
            f"{self.equal} of {len(self.ours)} recorded decisions agree exactly in effective "
            f"synaptic operations within the windows ({self.operations:,} in all) and activation "
            "sparsity"
        )
        place = self.first_difference
        if place is None:
            sparsity = np.mean([count.sparsity for count in self.ours])
            return f"{line} ({sparsity:.4%}); counted by {self.counter}."
        return (
            f"{line}; first difference, decision {place}: ours {self.ours[place]}, theirs "
            f"{self.theirs[place]}."
        )


def check_with_neurobench(
    backend: AgentBackend, network: ChipNetwork, study: Study, decisions: int
) -> SecondOpinion:
    """Count recorded decisions ourselves and with NeuroBench.

    Args:
        backend: that answers the recorded frames.
        network: that it runs.
        study: the recording.
        decisions: how many, spread evenly over the recording.

    Raises:
        BackendMissingError: NeuroBench is not installed.
        BadRequestError: fewer decisions were recorded.
        BadNetworkError: no chain of layers that reset to zero.
    """
    check_forgets(network, "NeuroBench counts decisions alone", "leave --neurobench out")
    if decisions > len(study.shots):
        raise BadRequestError(
            f"--neurobench {decisions}: {len(study.shots)} decisions were recorded; ask for fewer, "
            "or for more --seconds"
        )
    task = network.task_index(study.task)
    chosen = np.linspace(0, len(study.shots) - 1, decisions).round().astype(int)
    frames = np.stack([study.shots[index].observation for index in chosen])
    before = [study.shots[index - 1].observation if index else None for index in chosen]
    theirs = count_with_neurobench(network, frames, task, before)
    ours = [
        count_ours(backend, network, frame, task, earlier)
        for frame, earlier in zip(frames, before, strict=True)
    ]
    return SecondOpinion(tuple(ours), tuple(theirs), _counter())


def count_ours(
    backend: AgentBackend,
    network: ChipNetwork,
    frame: NDArray[Any],
    task: int,
    before: NDArray[Any] | None = None,
) -> SecondCount:
    """Count what the chip did within its windows, from its activity and the fan-outs.

    Args:
        backend: that answers the frame.
        network: that it runs.
        frame: uint8 or int8 (*input shape), or (T, *input shape).
        task: row of the task.
        before: the frame that was shown last, from which an encoder of changes counts; None: it
            sends the whole frame.
    """
    sent = frame.astype(np.int64)
    if network.input.encoder is Encoder.CHANGES:
        backend.start(1)
        if before is not None:
            backend.decide(before[None], task)
            sent = sent - before
    window = backend.decide(frame[None], task).activity.window
    # NeuroBench goes by the values that it sees: a frame of zeros and ones is binary to it.
    binary = np.abs(sent).max() <= 1
    operations = {True: 0, False: 0}
    for link in network.connections:
        fans = fan_out(link, network.shape_of(link.source))[1]
        effective = int((window[link.source][0] * fans).sum())
        graded = link.source == INPUT and network.input.payload_bits > 0 and not binary
        operations[graded] += effective
    spikes = sum(int(window[population.name].sum()) for population in network.populations)
    neurons = sum(population.size for population in network.populations) * network.time_steps
    return SecondCount(operations[False], operations[True], spikes, (neurons - spikes) / neurons)


def count_with_neurobench(
    network: ChipNetwork,
    frames: NDArray[Any],
    task: int,
    before: Sequence[NDArray[Any] | None] = (),
) -> list[SecondCount]:
    """Count with NeuroBench on the twin, one decision at a time.

    Args:
        network: of the chip.
        frames: uint8 or int8 (decisions, *input shape), or (decisions, T, *input shape).
        task: row of the task.
        before: for each of them the frame that was shown last, as for :func:`count_ours`; empty:
            none was.

    Raises:
        BackendMissingError: NeuroBench is not installed.
        BadNetworkError: no chain of layers that reset to zero.
    """
    try:
        from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
        from neurobench.models import NeuroBenchModel
    except ImportError as error:
        raise BackendMissingError(
            "NeuroBench is not installed; pip install 'mtspark[neurobench]', or leave "
            "--neurobench out"
        ) from error
    twin = ChipTwin(network, task)

    class Model(NeuroBenchModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.add_activation_module(ChipNeurons)

        def __call__(self, batch: Tensor) -> Tensor:
            return twin(batch)

        def __net__(self) -> nn.Module:
            return twin

    model = Model()
    model.register_hooks()
    # NeuroBench swallows errors and then reports zeros, so the hooks are counted.
    layers = len(network.populations)
    if (len(model.connection_hooks), len(model.activation_hooks)) != (layers, layers):
        raise BadNetworkError(f"NeuroBench hooked {len(model.connection_hooks)} of {layers} layers")
    counts = []
    for frame, earlier in zip(frames, before or [None] * len(frames), strict=True):
        twin.forget()
        if earlier is not None and network.input.encoder is Encoder.CHANGES:
            twin(_steps(network, earlier))
            model.reset_hooks()
        batch = _steps(network, frame)
        operations, sparsity = SynapticOperations(), ActivationSparsity()
        with torch.no_grad():
            answer = model(batch)
            data = (batch, answer)
            share = float(sparsity(model, answer, data))
            dense = operations(model, answer, data)["Dense"]
        if not dense:
            raise BadNetworkError("NeuroBench counted no operation at all")
        spikes = sum(
            int(torch.count_nonzero(step))
            for hook in model.activation_hooks
            for step in hook.activation_outputs
        )
        counts.append(SecondCount(int(operations.AC), int(operations.MAC), spikes, share))
        model.reset_hooks()
    model.cleanup_hooks()
    return counts


def _steps(network: ChipNetwork, frame: NDArray[Any]) -> Tensor:
    """The frame of each step, (1, T, *input shape)."""
    steps = frame if not network.input.held else np.stack([frame] * network.time_steps)
    return torch.from_numpy(steps[None].astype(np.float64))


class ChipTwin(nn.Module):
    """A chain of layers with the chip's integers; layers work in the same step, not in turn.

    Raises:
        BadNetworkError: a population hears several connections, one that is delayed or closes a
            loop, or resets in another way than to zero.
    """

    def __init__(self, network: ChipNetwork, task: int) -> None:
        super().__init__()
        self.binary = network.input.payload_bits == 0
        self.encoder = network.input.encoder
        source = INPUT
        layers: list[_Layer] = []
        for population in network.populations:
            links = [link for link in network.connections if link.target == population.name]
            plain = len(links) == 1 and links[0].source == source and not links[0].delay
            plain = plain and population.reset is Reset.ZERO
            if not plain or links[0].recurrent:
                raise BadNetworkError(
                    f"population {population.name!r}: the check with NeuroBench takes chains of "
                    "layers that reset to zero; leave --neurobench out"
                )
            flat = not links[0].kind.convolves
            synapses = _linear(links[0]) if flat else _convolution(links[0])
            layers.append(_Layer(synapses, ChipNeurons(population, links[0].exponent, task), flat))
            source = population.name
        self.layers = nn.ModuleList(layers)
        self.neurons = [layer.neurons for layer in layers]
        self.neurons[0].sums = self.encoder is not Encoder.EVERY_STEP
        self.forget()

    def forget(self) -> None:
        """Begin a game: no frame was shown yet, which an encoder of changes would count from."""
        self.shown: Tensor | None = None
        self.neurons[0].sum = None

    def forward(self, frames: Tensor) -> Tensor:
        """Membranes of the last layer after T steps; frames are (1, T, *input shape)."""
        for neurons in self.neurons:
            neurons.rest()
        if self.encoder is Encoder.HELD:
            self.forget()
        for step in range(frames.shape[1]):
            sent = frames[:, step]
            if self.encoder is not Encoder.EVERY_STEP:
                # Once a decision: the frame, or what has changed of it; then nothing.
                sent = sent if self.shown is None else sent - self.shown
                self.shown = frames[:, step]
            if self.binary:
                sent = (sent != 0).to(sent.dtype)
            for layer in self.layers:
                sent = layer(sent)
        return self.neurons[-1].membrane


class _Layer(nn.Module):
    def __init__(self, synapses: nn.Module, neurons: ChipNeurons, flat: bool) -> None:
        super().__init__()
        self.synapses, self.neurons, self.flat = synapses, neurons, flat

    def forward(self, sent: Tensor) -> Tensor:
        spikes: Tensor = self.neurons(self.synapses(sent.flatten(1) if self.flat else sent))
        return spikes


class ChipNeurons(nn.Module):
    """Fixed-point neurons, one step a call; state in int64."""

    def __init__(self, population: Population, exponent: int, task: int) -> None:
        super().__init__()
        self.shape, self.exponent = population.shape, exponent
        self.current_keep = DECAY_ONE - (_integers(population.current_decay) + 1)
        self.membrane_keep = DECAY_ONE - _integers(population.membrane_decay)
        self.threshold = _integers(population.thresholds[task]) << STATE_SHIFT
        if population.fires_at_threshold:
            self.threshold -= 1
        self.bias = _integers(population.bias_mantissa) << population.bias_exponent
        self.sums = False
        """Whether what arrives is added to what has arrived before, as behind a frame that is sent
        once."""
        self.sum: Tensor | None = None
        self.rest()

    def rest(self) -> None:
        """Begin a decision."""
        self.current = torch.zeros(1, *self.shape, dtype=torch.int64)
        self.membrane = self.current.clone()

    def forward(self, arriving: Tensor) -> Tensor:
        """Spikes (0 or 1) of one step."""
        total = arriving.to(torch.int64).reshape(1, *self.shape)
        if self.sums:
            self.sum = total = total if self.sum is None else self.sum + total
        total = total << self.exponent if self.exponent >= 0 else total >> -self.exponent
        current = _decayed(self.current, self.current_keep) + (total << STATE_SHIFT)
        current = torch.where(current > CURRENT_LIMIT, current - 2 * CURRENT_LIMIT, current)
        self.current = torch.where(current <= -CURRENT_LIMIT, current + 2 * CURRENT_LIMIT, current)
        membrane = _decayed(self.membrane, self.membrane_keep) + self.current + self.bias
        membrane = membrane.clamp(-MEMBRANE_LIMIT, MEMBRANE_LIMIT)
        spikes = membrane > self.threshold
        self.membrane = torch.where(spikes, torch.zeros_like(membrane), membrane)
        return spikes.to(torch.float64)


def _decayed(state: Tensor, keep: Tensor) -> Tensor:
    """Rounded toward zero."""
    return torch.sign(state) * ((state.abs() * keep) >> 12)


def _integers(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values, np.int64))


def _linear(link: Connection) -> nn.Linear:
    out, inputs = link.weights.shape
    layer = nn.Linear(inputs, out, bias=False, dtype=torch.float64)
    layer.weight.data = torch.from_numpy(link.weights.astype(np.float64))
    return layer


def _convolution(link: Connection) -> nn.Conv2d:
    out, per_group, height, width = link.weights.shape
    layer = nn.Conv2d(
        per_group * link.groups,
        out,
        (height, width),
        stride=link.stride,
        padding=link.padding,
        dilation=link.dilation,
        groups=link.groups,
        bias=False,
        dtype=torch.float64,
    )
    layer.weight.data = torch.from_numpy(link.weights.astype(np.float64))
    return layer


def _counter() -> str:
    from importlib.metadata import version

    return f"NeuroBench {version('neurobench')}"

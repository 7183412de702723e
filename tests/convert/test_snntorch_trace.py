"""Any snntorch module in: many styles of writing one, against snntorch's own spikes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mtspark.convert.snntorch_trace import trace_module
from mtspark.convert.snntorch_trace_check import compare_with_recording
from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network import FloatKind, FloatReset, OutputKind
from mtspark.core.float_simulator import run_float

STEPS, BATCH = 50, 2


def drive(shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(STEPS, BATCH, *shape, generator=generator) - 0.5


def trace(
    module: nn.Module, shape: tuple[int, ...], steps: int | None = STEPS, **options: Any
) -> Any:
    """Trace, and check what the export would check; every layer must have been compared."""
    traced = trace_module(module, name="net", input_shape=shape, time_steps=steps, **options)
    agreement = compare_with_recording(traced)
    assert [layer.name for layer in agreement] == list(traced.layers)
    assert all(layer.different == 0 for layer in agreement)
    return traced


def float_spikes(traced: Any, series: torch.Tensor) -> dict[str, np.ndarray]:
    network = traced.network
    values = series.double().numpy().reshape(*series.shape[:2], *network.input.shape)
    return run_float(network, values).spikes


def differing(ours: np.ndarray, theirs: torch.Tensor) -> int:
    """Spikes that differ on an input that the tracer has never seen."""
    return int((ours.reshape(theirs.shape) != (theirs.double().numpy() != 0)).sum())


def positive(module: nn.Module) -> nn.Module:
    """Weights without inhibition, so that neurons fire."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.abs_()
    return module


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


# Neurons and their resets


class OneLayer(nn.Module):
    """A dense layer and one kind of neuron, states handed on explicitly."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.lif = neuron

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.lif.reset_mem()
        states = states if isinstance(states, tuple) else (states,)
        states = tuple(torch.zeros(x.size(1), 8) for _ in states)
        spikes = []
        for step in range(x.size(0)):
            out = self.lif(self.fc(x[step]), *states)
            states = out if isinstance(self.lif, (snn.RLeaky, snn.RSynaptic)) else out[1:]
            spikes.append(out[0])
        return torch.stack(spikes)


NEURONS = {
    "Leaky": lambda **o: snn.Leaky(0.8, **o),
    "Synaptic": lambda **o: snn.Synaptic(0.6, 0.8, **o),
    "RLeaky": lambda **o: snn.RLeaky(0.8, linear_features=8, **o),
    "RSynaptic": lambda **o: snn.RSynaptic(0.6, 0.8, linear_features=8, **o),
}
RESETS = {
    ("subtract", True): FloatReset.SUBTRACT_LATE,
    ("subtract", False): FloatReset.SUBTRACT_GUARDED,
    ("zero", True): FloatReset.ZERO,
    ("zero", False): FloatReset.ZERO,
    ("none", True): FloatReset.NONE,
    ("none", False): FloatReset.NONE,
}


@pytest.mark.parametrize("kind", NEURONS)
@pytest.mark.parametrize(("mechanism", "delay"), RESETS)
def test_every_neuron_and_reset_gives_snntorchs_spikes(
    kind: str, mechanism: str, delay: bool
) -> None:
    neuron = NEURONS[kind](threshold=0.7, reset_mechanism=mechanism, reset_delay=delay)
    module = OneLayer(neuron)
    drops = mechanism == "zero" and kind != "Leaky" and (delay or kind == "RSynaptic")
    if drops:
        with pytest.raises(BadNetworkError, match="also drops its input") as caught:
            trace(module, (6,))
        assert "use reset" in str(caught.value)
        return
    traced = trace(module, (6,))
    expected = RESETS[mechanism, delay]
    if kind == "RSynaptic" and mechanism == "subtract":
        expected = FloatReset.SUBTRACT_LATE  # Its reset without delay is lost, see the facts.
    assert traced.network.population("lif").reset is expected
    series = drive((6,))
    theirs = module(series).detach()
    assert 0.05 < float(theirs.mean()) < 1.0
    assert differing(float_spikes(traced, series)["lif"], theirs) == 0


def test_the_quirk_of_an_undelayed_subtraction_matters() -> None:
    """Against a textbook subtraction many spikes differ, so the test above is not vacuous."""
    from dataclasses import replace

    module = positive(OneLayer(snn.Leaky(0.9, threshold=1.5, reset_delay=False)))
    traced = trace(module, (6,))
    (lif,) = traced.network.populations
    textbook = replace(traced.network, populations=(replace(lif, reset=FloatReset.SUBTRACT),))
    series = drive((6,))
    ours = run_float(textbook, series.double().numpy()).spikes["lif"]
    assert differing(ours, module(series).detach()) > 10
    assert differing(float_spikes(traced, series)["lif"], module(series).detach()) == 0


@given(
    beta=st.floats(-0.2, 1.2),
    alpha=st.floats(-0.2, 1.2),
    threshold=st.floats(0.0, 3.0),
    factor=st.sampled_from([1.0, 0.5, -2.0]),
    mechanism=st.sampled_from(["subtract", "zero", "none"]),
    kind=st.sampled_from(["Leaky", "Synaptic", "RLeaky"]),
    seed=st.integers(0, 1000),
)
def test_random_constants(
    beta: float, alpha: float, threshold: float, factor: float, mechanism: str, kind: str, seed: int
) -> None:
    """Constants out of range are clamped as snntorch clamps them; factors of spikes travel on."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "threshold": threshold,
        "reset_mechanism": mechanism,
        "reset_delay": mechanism == "subtract",
        "learn_threshold": bool(seed % 2),
        "learn_beta": bool(seed % 3),
    }
    first = {
        "Leaky": lambda: snn.Leaky(beta, **options),
        "Synaptic": lambda: snn.Synaptic(alpha, beta, **options),
        "RLeaky": lambda: snn.RLeaky(beta, V=0.3, all_to_all=False, **options),
    }[kind]()
    first.graded_spikes_factor = torch.tensor(factor)
    module = nn.Sequential(nn.Linear(4, 5), first, nn.Linear(5, 3), snn.Leaky(0.5))
    for part in (first, module[3]):
        part.init_hidden = True
    traced = trace(module, (4,), steps=12)
    assert traced.network.output.kind is OutputKind.SPIKES


@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
def test_constants_of_each_neuron(kind: str) -> None:
    beta, threshold = torch.linspace(0, 1, 4 * 5 * 3).reshape(4, 5, 3), torch.rand(4, 1, 1) + 0.2
    neuron = (
        snn.Leaky(beta, threshold=threshold, init_hidden=True)
        if kind == "Leaky"
        else snn.Synaptic(torch.rand(4, 5, 3), beta, threshold=threshold, init_hidden=True)
    )
    module = nn.Sequential(nn.Conv2d(2, 4, (2, 3)), neuron)
    traced = trace(module, (2, 6, 5))
    assert traced.network.population("1").membrane_keep.shape == (4, 5, 3)
    series = drive((2, 6, 5))
    for part in (neuron,):
        part.reset_mem()
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert differing(float_spikes(traced, series)["1"], theirs) == 0


# Styles of writing a module


class Explicit(nn.Module):
    """One step a call; states go in and out, in another order than they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 9), snn.Leaky(0.9, threshold=0.6)
        self.fc2, self.lif2 = nn.Linear(9, 4), snn.Synaptic(0.5, 0.8, threshold=0.4)

    def forward(self, x: Any, mem2: Any, syn2: Any, mem1: Any) -> Any:
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
        return mem1, spk1, mem2, syn2, spk2


def test_states_as_arguments() -> None:
    module = Explicit()
    traced = trace(module, (6,))
    assert traced.network.output.population == "lif2"
    series = drive((6,))
    mem1 = mem2 = syn2 = torch.zeros(0)
    theirs = []
    for slice_ in series:
        mem1, _, mem2, syn2, spk = module(slice_, mem2, syn2, mem1)
        theirs.append(spk.detach())
    assert differing(float_spikes(traced, series)["lif2"], torch.stack(theirs)) == 0


class Packed(nn.Module):
    """One step a call; all states in one tuple that may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 9), snn.Leaky(0.9, threshold=0.6)
        self.head = nn.Linear(9, 3)

    def forward(self, x: Any, state: Any = None) -> Any:
        (mem,) = state if state is not None else (self.lif1.init_leaky(),)
        spk, mem = self.lif1(self.fc1(x), mem)
        return self.head(spk), (mem,)


def test_packed_states_and_a_head_without_neurons() -> None:
    module = Packed()
    traced = trace(module, (6,))
    network = traced.network
    assert (network.output.population, network.output.kind) == ("readout", OutputKind.MEMBRANE)
    series = drive((6,))
    state, total = None, torch.zeros(BATCH, 3)
    for slice_ in series:
        out, state = module(slice_, state)
        total = total + out.detach()
    values = run_float(network, series.double().numpy()).values
    np.testing.assert_allclose(values, total.numpy(), rtol=1e-5)


class Loop(nn.Module):
    """A loop over a series, samples first or steps first; the answer collected in some way."""

    def __init__(self, axis: int, collect: str) -> None:
        super().__init__()
        self.axis, self.collect = axis, collect
        self.conv, self.lif1 = nn.Conv2d(2, 3, 3, stride=2, bias=False), snn.Leaky(0.9)
        self.fc, self.lif2 = nn.Linear(3 * 3 * 2, 4), snn.Leaky(0.7, threshold=0.2)

    def forward(self, x: Any) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        steps = x.size(self.axis)
        record, total = [], 0
        buffer = torch.zeros(steps, x.size(1 - self.axis), 4)
        for step in range(steps):
            frame = x[step] if self.axis == 0 else x[:, step]
            spk1, mem1 = self.lif1(self.conv(frame), mem1)
            spk2, mem2 = self.lif2(self.fc(spk1.flatten(1)), mem2)
            record.append(spk2)
            total = total + spk2
            buffer[step] = spk2
        return {
            "stack": lambda: torch.stack(record),
            "stack of samples": lambda: torch.stack(record, dim=1),
            "sum": lambda: torch.stack(record).sum(0),
            "mean": lambda: torch.stack(record).mean(dim=0),
            "total": lambda: total,
            "buffer": lambda: buffer,
            "pair": lambda: (torch.stack(record), mem2),
        }[self.collect]()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "collect", ["stack", "stack of samples", "sum", "mean", "total", "buffer", "pair"]
)
def test_loops_over_a_series(axis: int, collect: str) -> None:
    module = Loop(axis, collect)
    traced = trace(module, (2, 7, 6), steps=10)
    assert traced.network.time_steps == 10
    output = traced.network.output
    assert (output.population, output.kind) == ("lif2", OutputKind.SPIKES)
    if axis == 0 and collect == "total":
        series = drive((2, 7, 6))
        theirs = module(series).detach()
        ours = run_float(traced.network, series.double().numpy()).values
        assert np.array_equal(ours, theirs.numpy())
        assert theirs.any()


def test_a_series_of_no_stated_length_leaves_the_steps_open() -> None:
    traced = trace(Loop(0, "stack"), (2, 7, 6), steps=None)
    assert traced.network.time_steps == 0
    assert traced.recording.time_steps > 1


class Held(nn.Module):
    """One frame, held over a loop of 7 steps; one neuron module serves two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 9), nn.Linear(9, 4)
        self.lif = snn.Leaky(0.9, threshold=0.4)

    def forward(self, x: Any) -> Any:
        mem1 = mem2 = self.lif.init_leaky()
        current = self.fc1(x)
        total = torch.zeros(len(x), 4)
        for _ in range(7):
            spk, mem1 = self.lif(current, mem1)
            spk, mem2 = self.lif(self.fc2(spk), mem2)
            total += spk
        return total / 7


def test_a_frame_that_is_held_and_a_shared_neuron() -> None:
    traced = trace(Held(), (6,), steps=None)
    assert traced.network.time_steps == 7
    assert [p.name for p in traced.network.populations] == ["lif", "lif#2"]
    with pytest.raises(BadNetworkError, match="--time-steps says 5"):
        trace(Held(), (6,), steps=5)


class Branches(nn.Module):
    """A residual sum, a recurrent path of its own, a skip of one step, and a constant gate."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 8), snn.Leaky(0.8, init_hidden=True, threshold=0.5)
        self.fc2, self.lif2 = nn.Linear(8, 8), snn.Leaky(0.9, init_hidden=True, threshold=0.5)
        self.back = nn.Linear(8, 8)
        self.register_buffer("gate", torch.rand(8))

    def forward(self, x: Any) -> Any:
        self.lif1.reset_mem()
        self.lif2.reset_mem()
        before1 = before2 = torch.zeros(x.size(1), 8)
        record = []
        for slice_ in x:
            spk1 = self.lif1(self.fc1(slice_) + 0.5 * self.back(before1))
            spk2 = self.lif2((self.fc2(spk1) + spk1 - before1) * self.gate + before2)
            before1, before2 = spk1, spk2
            record.append(spk2)
        return torch.stack(record)


def test_branches_loops_and_skips() -> None:
    module = Branches()
    traced = trace(module, (6,))
    links = {(link.source, link.target, link.delay) for link in traced.network.connections}
    assert ("lif1", "lif1", 1) in links
    assert ("lif1", "lif2", 1) in links
    assert ("lif2", "lif2", 1) in links
    series = drive((6,))
    theirs = module(series).detach()
    assert theirs.mean() > 0.05
    assert differing(float_spikes(traced, series)["lif2"], theirs) == 0


# Layers


def sequential(*layers: nn.Module, shape: tuple[int, ...]) -> Any:
    layers = tuple(positive(layer) if isinstance(layer, nn.Linear) else layer for layer in layers)
    module = nn.Sequential(*layers, snn.Leaky(0.8, init_hidden=True, threshold=0.05)).eval()
    traced = trace(module, shape, steps=6)
    (neuron,) = [part for part in module if isinstance(part, snn.Leaky)]
    neuron.reset_mem()
    series = drive(shape)[:6]
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert theirs.any()
    ours = run_float(
        traced.network, series.double().numpy().reshape(6, BATCH, *traced.network.input.shape)
    )
    assert differing(ours.spikes[str(len(layers))], theirs) == 0
    return traced.network.connections


def normalised(features: int, layer: Any = nn.BatchNorm2d) -> nn.Module:
    norm = layer(features)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.3, 3.0)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


LAYERS: dict[str, tuple[list[Any], tuple[int, ...], FloatKind]] = {
    "groups, dilation, rectangle": (
        [lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2)],
        (4, 7, 8),
        FloatKind.CONV,
    ),
    "same, even kernel": (
        [lambda: nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(1, 3))],
        (2, 6, 9),
        FloatKind.CONV,
    ),
    "conv1d": ([lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1)], (3, 11), FloatKind.CONV),
    "conv1d same": ([lambda: nn.Conv1d(3, 4, 4, padding="same")], (3, 11), FloatKind.CONV),
    "batch norm": (
        [lambda: nn.Conv2d(2, 3, 3), lambda: normalised(3)],
        (2, 6, 5),
        FloatKind.CONV,
    ),
    "batch norm first": (
        [lambda: normalised(2), lambda: nn.Conv2d(2, 3, 3, padding=1)],
        (2, 6, 5),
        FloatKind.CONV,
    ),
    "batch norm of values": (
        [lambda: nn.Linear(5, 4), lambda: normalised(4, nn.BatchNorm1d)],
        (5,),
        FloatKind.DENSE,
    ),
    "pool then conv": (
        [lambda: nn.AvgPool2d(2), lambda: nn.Conv2d(2, 3, 3, padding=1, groups=1)],
        (2, 8, 8),
        FloatKind.CONV,
    ),
    "pool with a rest, then a padded conv": (
        [lambda: nn.AvgPool2d(2), lambda: nn.Conv2d(2, 3, 3, padding=1)],
        (2, 7, 9),
        FloatKind.DENSE,
    ),
    "overlapping pool, padded": (
        [lambda: nn.AvgPool2d(3, stride=2, padding=1)],
        (2, 7, 8),
        FloatKind.CONV,
    ),
    "pool that counts no padding": (
        [lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)],
        (2, 5, 6),
        FloatKind.DENSE,
    ),
    "pool that rounds up": ([lambda: nn.AvgPool2d(2, ceil_mode=True)], (2, 5, 5), FloatKind.DENSE),
    "global pool": (
        [lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, lambda: nn.Linear(2, 3)],
        (2, 5, 6),
        FloatKind.DENSE,
    ),
    "two convs": (
        [lambda: nn.Conv2d(2, 4, 3, stride=2, groups=2), lambda: nn.Conv2d(4, 3, 2, dilation=2)],
        (2, 11, 12),
        FloatKind.CONV,
    ),
    "conv, flatten, linear": (
        [lambda: nn.Conv2d(1, 2, 3, stride=2), nn.Flatten, lambda: nn.Linear(18, 4)],
        (1, 7, 8),
        FloatKind.DENSE,
    ),
    "two linears, dropout, identity": (
        [lambda: nn.Linear(5, 7), nn.Dropout, nn.Identity, lambda: nn.Linear(7, 4)],
        (5,),
        FloatKind.DENSE,
    ),
    "zero padding, circular padding": (
        [
            lambda: nn.ZeroPad2d((1, 2, 0, 1)),
            lambda: nn.Conv2d(1, 2, 3, padding_mode="circular", padding=1),
        ],
        (1, 5, 5),
        FloatKind.DENSE,
    ),
    "transposed convolution": (
        [lambda: nn.ConvTranspose2d(2, 3, 3, stride=2)],
        (2, 3, 4),
        FloatKind.DENSE,
    ),
    "unflatten": (
        [lambda: nn.Linear(6, 12), lambda: nn.Unflatten(1, (2, 2, 3)), nn.Flatten],
        (6,),
        FloatKind.DENSE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    made, shape, kind = LAYERS[name]
    (link,) = sequential(*[make() for make in made], shape=shape)
    assert link.kind is kind


class Moves(nn.Module):
    """Channels split, joined, reordered; features transposed before a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
        self.lif = snn.Leaky(0.8, init_hidden=True, threshold=0.3)
        self.fc = nn.Linear(6 * 4 * 4, 5)
        self.last = snn.Leaky(0.8, init_hidden=True, threshold=0.3)

    def forward(self, x: Any) -> Any:
        joined = torch.cat([self.one(x[:, :2]), self.two(x[:, [3, 2]])], dim=1)
        left, right = self.lif(joined).chunk(2, dim=1)
        turned = torch.cat([right, -left], 1).permute(0, 2, 3, 1).reshape(x.size(0), -1)
        return self.last(self.fc(turned))


def test_moves_of_channels() -> None:
    module = Moves()
    traced = trace(module, (4, 6, 6), steps=6)
    for part in (module.lif, module.last):
        part.reset_mem()
    series = drive((4, 6, 6))[:6]
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert theirs.any()
    assert differing(float_spikes(traced, series)["last"], theirs) == 0


@pytest.mark.parametrize(
    "neuron",
    [
        lambda: snn.RLeaky(0.8, conv2d_channels=3, kernel_size=3, init_hidden=True, threshold=0.1),
        lambda: snn.RLeaky(
            0.8, V=torch.rand(3, 5, 4), all_to_all=False, init_hidden=True, threshold=0.1
        ),
        lambda: snn.RSynaptic(
            0.5, 0.8, conv2d_channels=3, kernel_size=(3, 1), init_hidden=True, threshold=0.1
        ),
    ],
)
def test_recurrence_in_images(neuron: Any) -> None:
    module = nn.Sequential(positive(nn.Conv2d(2, 3, 3)), neuron())
    traced = trace(module, (2, 7, 6), steps=20)
    back = [link for link in traced.network.connections if link.source == "1"]
    assert [link.delay for link in back] == [1]
    module[1].reset_mem()
    series = drive((2, 7, 6))
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert theirs.mean() > 0.02
    assert differing(float_spikes(traced, series)["1"], theirs) == 0


def test_a_membrane_is_read_where_nothing_resets_it() -> None:
    module = nn.Sequential(
        nn.Linear(6, 8),
        snn.Leaky(0.8, init_hidden=True, threshold=0.3),
        nn.Linear(8, 3),
        snn.Leaky(0.9, init_hidden=True, output=True, reset_mechanism="none"),
    )
    traced = trace(module, (6,), steps=9)
    network = traced.network
    assert (network.output.population, network.output.kind) == ("3", OutputKind.MEMBRANE)
    assert not network.population("3").spiking
    for part in module:
        if isinstance(part, snn.Leaky):
            part.reset_mem()
    series = drive((6,))[:9]
    for slice_ in series:
        _, mem = module(slice_)
    np.testing.assert_allclose(
        run_float(network, series.double().numpy()).values, mem.detach().numpy(), rtol=1e-4
    )


# The module itself is not touched


def test_the_module_is_left_as_it_was() -> None:
    module = Explicit()
    before = copy.deepcopy(module.state_dict())
    trace(module, (6,), steps=4)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert "forward" not in vars(module.lif1)
    assert not module.lif1._forward_pre_hooks


# Refusals: the line, and what to write instead


class Refused(nn.Module):
    def __init__(self, operation: Any) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True)
        self.fc2, self.lif2 = nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True)
        self.operation = operation

    def forward(self, x: Any) -> Any:
        spk = self.lif1(self.fc1(x))
        return self.lif2(self.fc2(self.operation(spk)))


OPERATIONS: dict[str, tuple[Any, str]] = {
    "relu": (lambda s: functional.relu(s), "spiking neurons are the nonlinearity"),
    "product": (lambda s: s * s.roll(1, 1), "of two signals"),
    "attention": (lambda s: torch.softmax(s @ s.T, 1) @ s, "of two signals"),
    "layer norm": (lambda s: functional.layer_norm(s, (6,)), "nn.BatchNorm2d"),
    "softmax": (lambda s: torch.softmax(s, 1), "changes no order"),
    "dropout": (lambda s: functional.dropout(s, 0.5), "training=self.training"),
    "branch": (lambda s: s if s.sum() > 3 else -s, "branch on"),
    "item": (lambda s: s * float(s.mean()), "branch on"),
    "batch": (lambda s: s - s.mean(0), "over the samples"),
    "unknown": (lambda s: torch.fft.fft(s).real, "not known as a linear operation"),
    "in place": (lambda s: s.view(-1).add_(1).view(-1, 6), "in place"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_no_synapse_can_do(name: str) -> None:
    operation, remedy = OPERATIONS[name]
    with pytest.raises(BadNetworkError, match=remedy) as caught:
        trace(Refused(operation), (6,), steps=4)
    line = operation.__code__.co_firstlineno
    assert str(caught.value).startswith(f"test_snntorch_trace.py:{line}: ")
    assert "\n" not in str(caught.value)


def test_what_a_module_only_records_does_no_harm() -> None:
    """The same product and softmax, where no neuron and no answer needs them."""

    class Watching(Refused):
        def forward(self, x: Any) -> Any:
            spk = self.lif1(self.fc1(x))
            self.seen = torch.softmax(spk * spk, 1)
            return self.lif2(self.fc2(spk))

    trace(Watching(None), (6,), steps=4)


NEURON_REFUSALS: dict[str, tuple[Any, str]] = {
    "Lapicque": (
        lambda: snn.Lapicque(beta=0.9, init_hidden=True),
        r"snn.Leaky\(beta=0.894639, threshold=1\) and multiply the weights and biases before it "
        "by 0.105361",
    ),
    "Alpha": (lambda: snn.Alpha(0.9, 0.8, init_hidden=True), r"snn.Synaptic\(alpha=0.9, beta=0.8"),
    "inhibition": (lambda: snn.Leaky(0.9, inhibition=True, init_hidden=True), "negative recurrent"),
    "state_quant": (
        lambda: snn.Leaky(0.9, state_quant=torch.round, init_hidden=True),
        "state_quant",
    ),
    "surrogate": (
        lambda: snn.Leaky(0.9, spike_grad=lambda x: x.clamp(0, 1), init_hidden=True),
        "spike_grad",
    ),
    "threshold": (lambda: snn.Leaky(0.9, threshold=-1.0, init_hidden=True), "must not be < 0"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Inhibition")
@pytest.mark.parametrize("name", NEURON_REFUSALS)
def test_neurons_that_the_chip_does_not_have(name: str) -> None:
    make, remedy = NEURON_REFUSALS[name]
    with pytest.raises(BadNetworkError, match=remedy):
        trace(nn.Sequential(nn.Linear(6, 6), make()), (6,), steps=4)


def test_lapicques_replacement_is_the_same_neuron() -> None:
    """The refusal's own recipe, followed to the letter, gives Lapicque's spikes."""
    lapicque = nn.Sequential(nn.Linear(6, 8), snn.Lapicque(beta=0.9, init_hidden=True))
    with pytest.raises(BadNetworkError) as caught:
        trace(lapicque, (6,), steps=4)
    words = str(caught.value)
    beta = float(words.split("beta=")[1].split(",")[0])
    gain = float(words.rsplit(" ", 1)[1])
    leaky = nn.Sequential(nn.Linear(6, 8), snn.Leaky(beta, init_hidden=True))
    leaky[0].load_state_dict({key: gain * value for key, value in lapicque[0].state_dict().items()})
    traced = trace(leaky, (6,))
    lapicque[1].reset_mem()
    series = 4 * drive((6,))
    theirs = torch.stack([lapicque(slice_) for slice_ in series]).detach()
    assert theirs.any()
    assert differing(float_spikes(traced, series)["1"], theirs) <= theirs.sum() * 0.01


def test_a_neuron_with_a_forward_of_its_own_is_refused() -> None:
    class Halved(snn.Leaky):  # type: ignore[misc]
        def forward(self, input_: Any, mem: Any = None) -> Any:
            return super().forward(input_ / 2, mem)

    with pytest.raises(BadNetworkError, match="Halved changes the forward pass of Leaky"):
        trace(nn.Sequential(nn.Linear(6, 6), Halved(0.9, init_hidden=True)), (6,), steps=4)


def test_a_reset_that_the_state_dict_contradicts_is_refused() -> None:
    neuron = snn.Leaky(0.9, init_hidden=True, reset_delay=False)
    neuron.load_state_dict(
        snn.Leaky(0.9, init_hidden=True, reset_mechanism="zero", reset_delay=False).state_dict()
    )
    with pytest.raises(BadNetworkError, match="build it with reset_mechanism='zero'"):
        trace(nn.Sequential(nn.Linear(6, 6), neuron), (6,), steps=4)


class Membranes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 6), snn.Leaky(0.8)
        self.fc2, self.lif2 = nn.Linear(6, 6), snn.Leaky(0.8)

    def forward(self, x: Any) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for slice_ in x:
            _, mem1 = self.lif1(self.fc1(slice_), mem1)
            spk, mem2 = self.lif2(self.fc2(mem1), mem2)
        return spk


def test_membranes_that_go_on_are_refused() -> None:
    with pytest.raises(BadNetworkError, match="send spikes only: pass the spikes on") as caught:
        trace(Membranes(), (6,), steps=4)
    assert "self.fc2(mem1)" in str(caught.value)


class Leaking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 6), snn.Leaky(0.8)

    def forward(self, x: Any) -> Any:
        mem = self.lif.init_leaky()
        for slice_ in x:
            spk, mem = self.lif(self.fc(slice_), mem)
            mem = 0.5 * mem
        return spk


def test_states_that_the_module_changes_are_refused() -> None:
    with pytest.raises(BadNetworkError, match="hand states on unchanged") as caught:
        trace(Leaking(), (6,), steps=4)
    assert "0.5 * mem" in str(caught.value)


class Forgetful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 6), snn.Leaky(0.8)

    def forward(self, x: Any) -> Any:
        return self.lif(self.fc(x), self.lif.reset_mem())[0]


def test_states_that_start_anew_are_refused() -> None:
    with pytest.raises(BadNetworkError, match="start anew in every call"):
        trace(Forgetful(), (6,), steps=4)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.a = nn.Linear(6, 3), snn.Leaky(0.8, init_hidden=True, threshold=0.2)
        self.fc2, self.b = nn.Linear(6, 4), snn.Leaky(0.8, init_hidden=True, threshold=0.2)

    def forward(self, x: Any) -> Any:
        return {"left": self.a(self.fc1(x)), "right": self.b(self.fc2(x))}


def test_two_answers_need_a_choice() -> None:
    with pytest.raises(BadNetworkError, match="choose with --readout"):
        trace(TwoHeads(), (6,), steps=4)
    assert trace(TwoHeads(), (6,), steps=4, readout="b").network.output.population == "b"
    with pytest.raises(BadNetworkError, match="no layer 'c'"):
        trace(TwoHeads(), (6,), steps=4, readout="c")


def test_wrong_shapes_and_no_steps_are_one_line() -> None:
    module = nn.Sequential(nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True))
    with pytest.raises(BadNetworkError, match="--time-steps"):
        trace(module, (6,), steps=None)
    with pytest.raises(BadNetworkError, match="check --input-shape"):
        trace(module, (5,), steps=4)
    with pytest.raises(BadNetworkError, match="no spiking neuron"):
        trace(nn.Linear(6, 6), (6,), steps=4)


def test_a_step_that_differs_is_refused() -> None:
    class Warming(Refused):
        count = 0

        def forward(self, x: Any) -> Any:
            self.count += 1
            return self.lif2(self.lif1(self.fc1(x)) * (1.0 if self.count > 4 else 0.5))

    with pytest.raises(BadNetworkError, match="a chip does the same in every step"):
        trace(Warming(None), (6,), steps=4)


def test_the_comparison_finds_a_forward_that_depends_on_something_else() -> None:
    """The check at export is no formality: a weight changed after the run is found."""
    traced = trace_module(
        nn.Sequential(nn.Linear(6, 6), snn.Leaky(0.8, init_hidden=True, threshold=0.2)),
        name="net",
        input_shape=(6,),
        time_steps=6,
    )
    (link,) = traced.network.connections
    link.weights[0, 0] += 0.5
    with pytest.raises(BadNetworkError, match="differ from the module's own run"):
        compare_with_recording(traced)

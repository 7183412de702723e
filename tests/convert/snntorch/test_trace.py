"""Any snntorch module in: neurons, resets and styles of writing one, against snntorch itself."""

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

from mtspark.core.errors import BadNetworkError
from mtspark.core.float_network.network import FloatReset, OutputKind
from mtspark.core.float_network.simulator import run_float
from tests.support.snntorch_modules import BATCH, differing, drive, float_spikes, positive, trace


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


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
    assert traced.network.population("lif1").membrane_keep.shape == (4, 5, 3)
    series = drive((2, 6, 5))
    for part in (neuron,):
        part.reset_mem()
    theirs = torch.stack([module(slice_) for slice_ in series]).detach()
    assert differing(float_spikes(traced, series)["lif1"], theirs) == 0


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


# The module itself is not touched


def test_the_module_is_left_as_it_was() -> None:
    module = Explicit()
    before = copy.deepcopy(module.state_dict())
    trace(module, (6,), steps=4)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert "forward" not in vars(module.lif1)
    assert not module.lif1._forward_pre_hooks
